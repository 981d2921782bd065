"""Models on disk: GGUF files, Hugging Face folders, checkpoints of our own.

    loaded = load_checkpoint(path, device="cpu", dtype=torch.float32)      # .model .tokenizer .config .chat_template .source
    report = save_checkpoint(model, tokenizer, chat_template, folder, format="hf")

A format is one file and one import below; a family of files is one file in `families/`.
"""

from workbench.checkpoints import workbench as _workbench  # noqa: F401, I001 - formats are asked in the order they are imported
from workbench.checkpoints import hf as _hf  # noqa: F401
from workbench.checkpoints import gguf as _gguf  # noqa: F401
from workbench.checkpoints.formats import FORMATS, Format, Loaded, Source
from workbench.checkpoints.load import load_checkpoint, load_events
from workbench.checkpoints.save import SaveReport, save_checkpoint, save_events

__all__ = ["FORMATS", "Format", "Loaded", "SaveReport", "Source", "load_checkpoint", "load_events", "save_checkpoint", "save_events"]
