"""Kinds of checkpoints on disk, and which kind a path is."""

from __future__ import annotations

import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from workbench.checkpoints.quantized import Form
from workbench.checkpoints.table import Table
from workbench.checkpoints.tensors import TensorFile
from workbench.core.errors import FileError, ModelError
from workbench.core.layouts import PICKLES
from workbench.core.registry import Registry
from workbench.model import ModelConfig, Transformer
from workbench.tokenizers import Tokenizer


@dataclass(frozen=True)
class Source:
    """Where a model came from. `nbytes` are the weights' bytes in the file or files, `name` is for people."""

    path: Path
    format: str
    family: str
    nbytes: int
    name: str


@dataclass(frozen=True)
class Header:
    """What is known of a checkpoint before its weights are read. `dtype` is that of the weights once decoded."""

    config: ModelConfig
    source: Source
    dtype: torch.dtype
    chat_template: str | None
    notices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Loaded:
    """A model ready to run. `tokenizer` and `chat_template` are None when the checkpoint has none."""

    model: Transformer
    tokenizer: Tokenizer | None
    config: ModelConfig
    chat_template: str | None
    source: Source
    notices: tuple[str, ...] = ()


@dataclass
class Opened:
    """A checkpoint whose headers were read and whose weights were not.

    `fields` are those of `ModelConfig` without `tie_embeddings`; `tied` is what the configuration says about that, None
    when it leaves that to whether there is an output head. `form` says which weights are kept in few bits, None: none.
    """

    source: Source
    file: TensorFile
    table: Table
    fields: Mapping[str, Any]
    tied: bool | None
    prefix: str = ""
    read_tokenizer: Callable[[], Tokenizer | None] = lambda: None
    chat_template: str | None = None
    notices: list[str] = field(default_factory=list)
    form: Form | None = None


PLAIN_TYPES: Mapping[str, torch.dtype] = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}
"""How weights can be stored number by number."""


def type_name(dtype: torch.dtype) -> str:
    """The name of storing numbers as `dtype`."""
    return next((name for name, known in PLAIN_TYPES.items() if known == dtype), str(dtype).removeprefix("torch."))


@dataclass(frozen=True)
class Content:
    """What is saved. `type` is how weights are stored, one of the format's `types`; None keeps the model's own."""

    model: Transformer
    tokenizer: Tokenizer | None = None
    chat_template: str | None = None
    type: str | None = None

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of weights that are stored number by number."""
        return self.model.dtype if self.type is None else PLAIN_TYPES[self.type]


@dataclass(frozen=True)
class Writing:
    """A checkpoint that was decided upon and is not written yet.

    `write(path)` puts it there whole or not at all, yielding the bytes written, step by step; `nbytes` is their sum.
    `rounded(name, rows)` is what rows of parameter `name` read back as. `type` names how most weights are stored.
    """

    family: str
    type: str
    nbytes: int
    write: Callable[[Path], Generator[int, None, None]]
    rounded: Callable[[str, Tensor], Tensor]
    notices: tuple[str, ...] = ()


@contextmanager
def foreign(what: str, path: Path) -> Iterator[None]:
    """Around code that walks through another program's data: a value of an unexpected type or form is a `ModelError`."""
    try:
        yield
    except (ValueError, TypeError, LookupError, AttributeError, OverflowError) as error:
        raise ModelError(
            f"The {what} of {path.name} cannot be understood ({type(error).__name__}: {error}).",
            hint="It is damaged, or of a kind that is not supported; get the model from another source.",
            details=traceback.format_exc(),
        ) from error


class Format(ABC):
    """One kind of checkpoint."""

    can_save = False
    single_file = False
    """A checkpoint is one file, whose name ends in `suffix`, rather than a folder."""
    suffix = ""
    types: tuple[str, ...] = tuple(PLAIN_TYPES)

    @abstractmethod
    def recognises(self, path: Path) -> bool:
        """Whether `path` looks like one: by names and first bytes only. Never raises."""

    @abstractmethod
    def open(self, path: Path) -> Opened:
        """Read the headers. Raises `FileError` or `ModelError` for what cannot be used."""

    def prepare(self, content: Content, family: str | None) -> Writing:
        """Decide how `content` is written; nothing is touched. `family` None: the first that can hold the architecture.
        Raises `ModelError` when none can."""
        raise ModelError(f"Nothing can be saved as {type(self).__name__}.", hint=f"Choose one of: {', '.join(savable())}.")


FORMATS: Registry[Format] = Registry("checkpoint format")
"""Asked in order; the first that recognises a path opens it."""


def savable() -> tuple[str, ...]:
    """Names of the formats that can be written."""
    return tuple(entry.name for entry in FORMATS if entry.make().can_save)


def writer_of(format: str, type: str | None) -> Format:
    """The format, when it can be written with weights stored as `type` (None: as they are). Raises `ModelError` otherwise."""
    entry = FORMATS[format]
    kind = entry.make()
    if not kind.can_save:
        raise ModelError(f"{entry.label} cannot be written.", hint=f"Choose one of: {', '.join(savable())}.")
    if type is not None and type not in kind.types:
        raise ModelError(f"{entry.label} cannot store weights as {type!r}.", hint=f"Choose one of: {', '.join(kind.types)}.")
    return kind


def find_format(path: Path) -> tuple[str, Path]:
    """(name of the format, the path to open with it). Raises `FileError` saying what the path is instead."""
    if not path.exists():
        raise FileError(f"{path} does not exist.", hint="Check the path.")
    candidates = [path]
    if path.is_file() and (path.suffix == ".safetensors" or path.suffix == ".json"):
        candidates.append(path.parent)
    if path.is_dir() and len(ggufs := sorted(path.glob("*.gguf"))) == 1:
        candidates += ggufs
    for candidate in candidates:
        for entry in FORMATS:
            if entry.make().recognises(candidate):
                return entry.name, candidate
    raise _unusable(path)


def _unusable(path: Path) -> FileError:
    known = f"What can be opened: {'; '.join(f'{e.label} ({e.help[:-1]})' for e in FORMATS)}."
    if path.is_file():
        if path.suffix in PICKLES:
            return pickle_error(path, path.name)
        return FileError(f"{path.name} is no model that this program knows.", hint=known)
    names = sorted(p.name for p in path.iterdir())
    if not names:
        return FileError(f"{path} is empty.", hint="Download or copy the model's files into it.")
    if "adapter_config.json" in names:
        return FileError(f"{path.name} holds an adapter, not a model.", hint="Open the model it was made for, then attach the adapter.")
    pickles = [name for name in names if Path(name).suffix in PICKLES]
    if pickles:
        return pickle_error(path, pickles[0])
    several = [name for name in names if name.endswith(".gguf")]
    if several:
        return FileError(f"{path.name} holds {len(several)} GGUF files.", hint=f"Open one of them: {', '.join(several[:5])}.")
    return FileError(f"{path.name} holds no model: no config.json, no GGUF file.", hint=known)


def pickle_error(path: Path, found: str) -> FileError:
    return FileError(
        f"{path.name}: {found} is a Python pickle, which can run any code when it is read, and is not opened.",
        hint="Convert it once where you trust it: AutoModelForCausalLM.from_pretrained(folder).save_pretrained(new_folder), "
        "then open the new folder (model.safetensors).",
    )
