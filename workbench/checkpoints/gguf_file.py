"""The GGUF container: metadata and quantized tensors in one file (ggml docs/gguf.md, versions 2 and 3).

Read here rather than by the `gguf` package's reader because a file is not to be trusted: every count is held against the
bytes that are left before anything is allocated, and a vocabulary of 49 000 strings takes 0.1 s instead of 1.7 s. Decoding
of the quantized blocks is the package's.
"""

from __future__ import annotations

import struct
from math import gcd, prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize
from torch import Tensor

from workbench.checkpoints.tensors import MappedFile, Rows, TensorInfo
from workbench.core.errors import FileError, ModelError
from workbench.core.layouts import GGUF_MAGIC as MAGIC

VERSIONS = (2, 3)
_DOWNLOAD = "Download or copy the file again."
_SCALARS = {0: "<u1", 1: "<i1", 2: "<u2", 3: "<i2", 4: "<u4", 5: "<i4", 6: "<f4", 7: "?", 10: "<u8", 11: "<i8", 12: "<f8"}
_STRING, _ARRAY = 8, 9
_PLAIN = {
    GGMLQuantizationType.F32: ("<f4", torch.float32),
    GGMLQuantizationType.F16: ("<f2", torch.float16),
    GGMLQuantizationType.BF16: ("<i2", torch.bfloat16),
    GGMLQuantizationType.F64: ("<f8", torch.float64),
}


class _Cursor:
    """Reads little-endian values one after the other and never past the end."""

    def __init__(self, file: MappedFile) -> None:
        self.file = file
        self.at = 0

    def need(self, nbytes: int, what: str) -> int:
        """The offset of the next `nbytes` bytes, which are then behind the cursor."""
        start = self.at
        if nbytes > len(self.file) - start:
            raise FileError(
                f"{self.file.path.name} is truncated: {what} at byte {start} takes {nbytes} bytes, the file has {len(self.file)}.",
                hint=_DOWNLOAD,
            )
        self.at += nbytes
        return start

    def number(self, form: str, what: str) -> Any:
        return struct.unpack_from(form, self.file.map, self.need(struct.calcsize(form), what))[0]

    def text(self, what: str) -> str:
        length = self.number("<Q", what)
        start = self.need(length, what)
        try:
            return self.file.map[start : start + length].decode("utf-8")
        except UnicodeDecodeError:
            raise FileError(f"{self.file.path.name} is damaged: {what} at byte {start} is not UTF-8 text.", hint=_DOWNLOAD) from None

    def count(self, what: str, least: int) -> int:
        """A count of things that take at least `least` bytes each; more than the file can hold is refused."""
        number: int = self.number("<Q", what)
        room = len(self.file) - self.at
        if number * least > room:
            raise FileError(f"{self.file.path.name} is damaged: it claims {number} {what}, but only {room} bytes follow.", hint=_DOWNLOAD)
        return number

    def value(self, kind: int, key: str) -> Any:
        if kind == _STRING:
            return self.text(f"the value of {key}")
        if kind == _ARRAY:
            return self.array(key)
        if kind not in _SCALARS:
            raise FileError(f"{self.file.path.name} is damaged: {key} has the unknown type {kind}.", hint=_DOWNLOAD)
        dtype = np.dtype(_SCALARS[kind])
        return self.file.array(dtype, 1, self.need(dtype.itemsize, f"the value of {key}"))[0].item()

    def array(self, key: str) -> list[Any]:
        kind = self.number("<I", f"the array {key}")
        if kind == _STRING:
            return [self.text(f"an item of {key}") for _ in range(self.count(f"items of {key}", 8))]
        if kind not in _SCALARS:
            raise FileError(f"{self.file.path.name} is damaged: {key} is an array of the unknown type {kind}.", hint=_DOWNLOAD)
        dtype = np.dtype(_SCALARS[kind])
        length = self.count(f"items of {key}", dtype.itemsize)
        items: list[Any] = self.file.array(dtype, length, self.need(length * dtype.itemsize, key)).tolist()
        return items


class GGUFFile:
    """Metadata and tensors of one GGUF file; tensors are decoded row by row.

    `metadata` maps keys to Python values. Raises `FileError` for anything but a whole, sane file.
    """

    def __init__(self, path: Path) -> None:
        self.file = MappedFile(path)
        try:
            self._read()
        except BaseException:
            self.file.close()
            raise

    def _read(self) -> None:
        cursor = _Cursor(self.file)
        name = self.file.path.name
        magic = self.file.map[:4]
        if magic != MAGIC:
            raise FileError(f"{name} is not a GGUF file: it begins with {magic!r} instead of {MAGIC!r}.", hint="Choose another file.")
        cursor.need(4, "the magic")
        version = cursor.number("<I", "the version")
        if version not in VERSIONS:
            big = " (a big-endian file)" if version & 0xFFFF == 0 else ""
            raise FileError(
                f"{name} has GGUF version {version}{big}; versions {VERSIONS[0]} and {VERSIONS[-1]} can be read.",
                hint="Get a current, little-endian conversion of the model.",
            )
        self.version: int = version
        n_tensors = cursor.count("tensors", 24)
        n_keys = cursor.count("metadata entries", 12)
        self.metadata: dict[str, Any] = {}
        for _ in range(n_keys):
            key = cursor.text("a metadata key")
            if key in self.metadata:
                raise FileError(f"{name} is damaged: the key {key} appears twice.", hint=_DOWNLOAD)
            self.metadata[key] = cursor.value(cursor.number("<I", f"the type of {key}"), key)
        self._read_tensors(cursor, n_tensors)

    def _read_tensors(self, cursor: _Cursor, n_tensors: int) -> None:
        name = self.file.path.name
        stored: dict[str, tuple[tuple[int, ...], GGMLQuantizationType, int, int]] = {}
        for _ in range(n_tensors):
            key = cursor.text("a tensor's name")
            n_dims = cursor.number("<I", f"the dimensions of {key}")
            if not 0 < n_dims <= 4 or key in stored:
                problem = "appears twice" if key in stored else f"has {n_dims} dimensions (1 to 4 are possible)"
                raise FileError(f"{name} is damaged: the tensor {key} {problem}.", hint=_DOWNLOAD)
            shape = tuple(cursor.number("<Q", f"the shape of {key}") for _ in range(n_dims))[::-1]
            kind = cursor.number("<I", f"the type of {key}")
            offset = cursor.number("<Q", f"the place of {key}")
            stored[key] = (shape, *self._storage(key, shape, kind), offset)
        alignment = self.metadata.get("general.alignment", 32)
        if not isinstance(alignment, int) or alignment < 1 or alignment & (alignment - 1):
            raise FileError(f"{name} is damaged: its alignment is {alignment!r}, not a power of two.", hint=_DOWNLOAD)
        start = -(-cursor.at // alignment) * alignment
        self.infos: dict[str, TensorInfo] = {}
        self._stored: dict[str, tuple[GGMLQuantizationType, int]] = {}
        for key, (shape, quantization, nbytes, offset) in stored.items():
            if start + offset + nbytes > len(self.file):
                raise FileError(
                    f"{name} is truncated: the tensor {key} ends at byte {start + offset + nbytes}, the file has {len(self.file)}.",
                    hint=_DOWNLOAD,
                )
            dtype = _PLAIN[quantization][1] if quantization in _PLAIN else torch.float32
            self.infos[key] = TensorInfo(shape, dtype, nbytes)
            self._stored[key] = (quantization, start + offset)

    def _storage(self, key: str, shape: tuple[int, ...], kind: int) -> tuple[GGMLQuantizationType, int]:
        """(type, bytes in the file) of a tensor whose header says `shape` and type number `kind`."""
        try:
            quantization = GGMLQuantizationType(kind)
            block, nbytes = GGML_QUANT_SIZES[quantization]
        except (ValueError, KeyError):
            raise ModelError(
                f"{self.file.path.name}: the tensor {key} has the storage type {kind}, which is not known.",
                hint="Update the program, or get the model in another quantization such as Q8_0 or F16.",
            ) from None
        if shape[-1] % block:
            raise FileError(
                f"{self.file.path.name} is damaged: {key} has rows of {shape[-1]} values, no multiple of {quantization.name}'s {block}.",
                hint=_DOWNLOAD,
            )
        return quantization, prod(shape) // block * nbytes

    @property
    def quantizations(self) -> dict[str, str]:
        """The storage type of each tensor, by its ggml name (Q4_1, F32 …)."""
        return {key: quantization.name for key, (quantization, _) in self._stored.items()}

    def rows(self, name: str, rows: Rows, transposed: bool = False) -> Tensor:
        """See `TensorFile`. Whole rows are picked before they are decoded, so a permutation costs no extra decoding."""
        if transposed:
            return self._decode(name, slice(None)).t().contiguous()[rows]
        return self._decode(name, rows)

    def _decode(self, name: str, rows: Rows) -> Tensor:
        quantization, offset = self._stored[name]
        shape = self.infos[name].shape
        if quantization in _PLAIN:
            form, dtype = _PLAIN[quantization]
            plain = self.file.array(np.dtype(form), prod(shape), offset).reshape(shape)[rows]
            return torch.from_numpy(np.array(plain, order="C", copy=True)).view(dtype)
        block, nbytes = GGML_QUANT_SIZES[quantization]
        raw = self.file.array(np.dtype("u1"), prod(shape) // block * nbytes, offset)
        picked = raw.reshape(shape[0], -1)[rows] if len(shape) > 1 else raw.reshape(1, -1)
        # The decoder works through 16 rows at a time whatever their width; wide rows keep it out of the interpreter.
        blocks = picked.size // nbytes
        wide = np.ascontiguousarray(picked).reshape(-1, gcd(blocks, 64) * nbytes)
        try:
            values = torch.from_numpy(np.ascontiguousarray(dequantize(wide, quantization)))
        except NotImplementedError:
            raise ModelError(
                f"{self.file.path.name}: the tensor {name} is stored as {quantization.name}, which cannot be decoded.",
                hint="Get the model in another quantization such as Q8_0, Q4_K_M or F16.",
            ) from None
        if len(shape) == 1:
            return values.reshape(shape)[rows]
        return values.reshape(picked.shape[0], *shape[1:])

    def forget(self) -> None:
        self.file.forget()

    def close(self) -> None:
        self.file.close()
