"""How the kinds of checkpoints lie on disk: the one list that the formats, the library and the hub tell them apart by.

No torch, so a folder can be named before the engine is loaded. `workbench.checkpoints` reads the files; here only names and
first bytes are looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

GGUF_MAGIC = b"GGUF"
OWN_CONFIG, HF_CONFIG = "workbench.json", "config.json"
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt",
    "tokenizer.model", "chat_template.jinja", "generation_config.json",
)  # fmt: skip
"""What a Hugging Face folder's tokenizer, chat template and end of text are read from."""
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
"""Python pickles run code when they are read; files with these endings are never opened."""


def _own(path: Path) -> bool:
    return (path / OWN_CONFIG).is_file()


def _hugging_face(path: Path) -> bool:
    return (path / HF_CONFIG).is_file()


def _gguf(path: Path) -> bool:
    if not path.is_file():
        return False
    if path.suffix.lower() == ".gguf":
        return True
    with open(path, "rb") as file:
        return file.read(len(GGUF_MAGIC)) == GGUF_MAGIC


LAYOUTS: Mapping[str, Callable[[Path], bool]] = {"workbench": _own, "hf": _hugging_face, "gguf": _gguf}
"""Name of the checkpoint format -> whether a path looks like one; asked in this order."""


def layout_of(path: Path) -> str | None:
    """The checkpoint format that a file or folder looks like; None when it looks like none or cannot be looked at."""
    try:
        return next((name for name, looks_like in LAYOUTS.items() if looks_like(path)), None)
    except OSError:
        return None
