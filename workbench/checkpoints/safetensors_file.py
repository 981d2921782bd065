"""The safetensors container: a JSON header, then raw numbers. One file, or shards listed by an index.

Read here rather than by the `safetensors` package so that a load never holds the file's pages and the weights at once, and
so that each way a file can be broken has its own sentence. Format: github.com/huggingface/safetensors, README, *Format*.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from workbench.checkpoints.tensors import MappedFile, Rows, TensorInfo, to_tensor
from workbench.core.errors import FileError, ModelError

_DOWNLOAD = "Download or copy the file again."
_HEADER_LIMIT = 100_000_000  # the format's own bound
_TYPES: dict[str, tuple[str, torch.dtype]] = {
    "F64": ("<i8", torch.float64),
    "F32": ("<i4", torch.float32),
    "F16": ("<i2", torch.float16),
    "BF16": ("<i2", torch.bfloat16),
    "I64": ("<i8", torch.int64),
    "I32": ("<i4", torch.int32),
    "I16": ("<i2", torch.int16),
    "I8": ("|i1", torch.int8),
    "U8": ("|u1", torch.uint8),
    "BOOL": ("|u1", torch.bool),
    "F8_E4M3": ("|u1", torch.float8_e4m3fn),
    "F8_E5M2": ("|u1", torch.float8_e5m2),
}
_NAMES = {dtype: name for name, (_, dtype) in _TYPES.items()}


class SafetensorsFile:
    """Named tensors of one `.safetensors` file. Raises `FileError` when header and data do not agree."""

    def __init__(self, path: Path) -> None:
        self.file = MappedFile(path)
        self.infos: dict[str, TensorInfo] = {}
        self._offsets: dict[str, int] = {}
        self._forms: dict[str, str] = {}
        try:
            self._read_header()
        except BaseException:
            self.file.close()
            raise

    def _damaged(self, what: str) -> FileError:
        return FileError(f"{self.file.path.name} is damaged: {what}.", hint=_DOWNLOAD)

    def _read_header(self) -> None:
        size = len(self.file)
        if size < 8:
            raise self._damaged(f"it has {size} bytes, a header alone takes more")
        length = struct.unpack_from("<Q", self.file.map)[0]
        if length > min(size - 8, _HEADER_LIMIT):
            raise FileError(
                f"{self.file.path.name} is truncated or no safetensors file: its header would take {length} bytes, the file has {size}.",
                hint=_DOWNLOAD,
            )
        try:
            header = json.loads(self.file.map[8 : 8 + length])
        except (ValueError, RecursionError) as error:  # broken UTF-8 or JSON, numbers or nesting beyond Python's limits
            raise self._damaged(f"its header is not JSON ({error})") from None
        if not isinstance(header, dict):
            raise self._damaged("its header is not a table of tensors")
        metadata = header.pop("__metadata__", None)
        self.metadata: dict[str, str] = metadata if isinstance(metadata, dict) else {}
        for name, entry in header.items():
            self._read_entry(name, entry, 8 + length)

    def _read_entry(self, name: str, entry: Any, data: int) -> None:
        try:
            kind, shape = entry["dtype"], tuple(entry["shape"])
            begin, end = entry["data_offsets"]
        except (KeyError, TypeError, ValueError):
            raise self._damaged(f"the entry of {name} is not complete") from None
        if not isinstance(kind, str) or kind not in _TYPES:
            raise FileError(
                f"{self.file.path.name}: {name} is stored as {kind}, which is not known.", hint=f"Known types: {', '.join(_TYPES)}."
            )
        if not all(isinstance(n, int) and n >= 0 for n in (*shape, begin, end)):
            raise self._damaged(f"shape or place of {name} is not made of whole numbers")
        form, dtype = _TYPES[kind]
        nbytes = prod(shape) * dtype.itemsize
        if end - begin != nbytes:
            raise self._damaged(f"{name} with shape {list(shape)} takes {nbytes} bytes, its header says {end - begin}")
        if data + end > len(self.file):
            raise FileError(
                f"{self.file.path.name} is truncated: {name} ends at byte {data + end}, the file has {len(self.file)}.", hint=_DOWNLOAD
            )
        self.infos[name] = TensorInfo(shape, dtype, nbytes)
        self._offsets[name] = data + begin
        self._forms[name] = form

    def rows(self, name: str, rows: Rows, transposed: bool = False) -> Tensor:
        info = self.infos[name]
        array = self.file.array(np.dtype(self._forms[name]), prod(info.shape), self._offsets[name]).reshape(info.shape)
        return to_tensor((array.T if transposed else array)[rows], info.dtype)

    def forget(self) -> None:
        self.file.forget()

    def close(self) -> None:
        self.file.close()


class Shards:
    """Several safetensors files as one. `index` maps each tensor to its file, as `model.safetensors.index.json` does.

    Raises `FileError` naming a shard that is missing, or a tensor that is not where the index says.
    """

    def __init__(self, folder: Path, index: Mapping[str, str]) -> None:
        self._files: dict[str, SafetensorsFile] = {}
        self._home: dict[str, SafetensorsFile] = {}
        names = sorted(set(index.values()))
        missing = [name for name in names if Path(name).name != name or not (folder / name).is_file()]
        if missing:
            raise FileError(
                f"{folder.name} is not complete: the shard {missing[0]} is missing ({len(missing)} of {len(names)} are).",
                hint="Download the missing files into the folder.",
                details="\n".join(missing),
            )
        try:
            for name in names:
                self._files[name] = SafetensorsFile(folder / name)
            for tensor, name in index.items():
                if tensor not in self._files[name].infos:
                    raise FileError(f"{folder.name}: {tensor} is not in {name}, where the index has it.", hint=_DOWNLOAD)
                self._home[tensor] = self._files[name]
        except BaseException:
            self.close()
            raise
        self.infos = {tensor: home.infos[tensor] for tensor, home in self._home.items()}

    def rows(self, name: str, rows: Rows, transposed: bool = False) -> Tensor:
        return self._home[name].rows(name, rows, transposed)

    def forget(self) -> None:
        for file in self._files.values():
            file.forget()

    def close(self) -> None:
        for file in self._files.values():
            file.close()


@dataclass(frozen=True)
class Outgoing:
    """A tensor to be written: its name, its shape and dtype, and how to get it when its turn comes."""

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    make: Callable[[], Tensor]

    @property
    def nbytes(self) -> int:
        return prod(self.shape) * self.dtype.itemsize


def stored_as(tensor: Outgoing, dtype: torch.dtype) -> Outgoing:
    """`tensor`, rounded to `dtype` when its turn comes (see `rounded`)."""
    if tensor.dtype == dtype:
        return tensor
    return Outgoing(tensor.name, tensor.shape, dtype, lambda: rounded(tensor.make().detach(), dtype, tensor.name))


def rounded(values: Tensor, dtype: torch.dtype, name: str) -> Tensor:
    """`values` as `dtype`. Raises `ModelError` when one is too large for it."""
    found = values.to(dtype)
    if dtype == torch.float16 and not bool(torch.isfinite(found).all()) and bool(torch.isfinite(values).all()):
        raise ModelError(
            f"{name} holds {values.abs().max().item():g}, more than float16 can express ({torch.finfo(dtype).max:g}).",
            hint="Store the weights as bf16 or f32.",
        )
    return found


def write_safetensors(path: Path, tensors: Sequence[Outgoing]) -> Iterator[int]:
    """Write one file, tensor by tensor, yielding each one's bytes. No second copy of the model is made."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    at = 0
    for tensor in tensors:
        header[tensor.name] = {"dtype": _NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [at, at + tensor.nbytes]}
        at += tensor.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the data starts at a multiple of 8
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for tensor in tensors:
            made = tensor.make().detach().to("cpu").contiguous()
            file.write(made.reshape(-1).view(torch.uint8).numpy().data)
            yield tensor.nbytes
        file.flush()
        os.fsync(file.fileno())
