"""Models on disk: GGUF files, Hugging Face folders, checkpoints of our own."""

from workbench.checkpoints.formats import FORMATS, Loaded, Source
from workbench.checkpoints.load import load_checkpoint, load_events
from workbench.checkpoints import gguf as _gguf  # noqa: F401, I001
from workbench.checkpoints import hf as _hf  # noqa: F401

__all__ = ["FORMATS", "Loaded", "Source", "load_checkpoint", "load_events"]
