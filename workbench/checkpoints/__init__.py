"""Models on disk: GGUF files, Hugging Face folders, checkpoints of our own.

    loaded = load_checkpoint(path, device="cpu", dtype=torch.float32)      # .model .tokenizer .config .chat_template .source
    report = save_checkpoint(model, tokenizer, chat_template, folder, format="hf")

A format is one file and one import below; a family of files is one file in `families/`.
"""

from workbench.checkpoints import workbench as _workbench  # noqa: F401, I001 - formats are asked in the order they are imported
from workbench.checkpoints import hf as _hf  # noqa: F401
from workbench.checkpoints import gguf as _gguf  # noqa: F401
from workbench.checkpoints.formats import FORMATS, Format, Header, Loaded, Source
from workbench.checkpoints.load import inspect_checkpoint, load_checkpoint, load_events, read_config
from workbench.checkpoints.save import SaveReport, save_checkpoint, save_events

__all__ = [
    "FORMATS", "Format", "Header", "Loaded", "SaveReport", "Source", "inspect_checkpoint", "load_checkpoint", "load_events", "read_config",
    "save_checkpoint", "save_events",
]  # fmt: skip
