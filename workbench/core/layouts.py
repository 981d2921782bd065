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
COMPANIONS = (OWN_CONFIG, HF_CONFIG, "tokenizer.workbench.json", "hub.json", "vocab.txt", "README.md", "LICENSE", ".gitattributes")
"""What else lies in a checkpoint's folder, besides its safetensors."""
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


def stranger_in(folder: Path) -> str | None:
    """The first name in `folder` that no checkpoint has, so that replacing the folder would lose it; None without one."""
    usual = {*COMPANIONS, *TOKENIZER_FILES, INDEX}
    return next((p.name for p in sorted(folder.iterdir()) if p.name not in usual and (p.is_dir() or p.suffix != ".safetensors")), None)


def layout_of(path: Path) -> str | None:
    """The checkpoint format that a file or folder looks like; None when it looks like none or cannot be looked at."""
    try:
        return next((name for name, looks_like in LAYOUTS.items() if looks_like(path)), None)
    except OSError:
        return None
