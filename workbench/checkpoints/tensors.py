"""What every container of weights offers: names, shapes, and a few rows at a time."""

from __future__ import annotations

import mmap
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from workbench.core.errors import FileError

Rows = slice | np.ndarray[Any, Any]
"""Which rows of a tensor: a slice, or an array of row numbers."""


@dataclass(frozen=True)
class TensorInfo:
    """`shape` as PyTorch prints it (slowest dimension first); `nbytes` in the file; `dtype` after decoding."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    nbytes: int


class TensorFile(Protocol):
    """Named tensors in a file, or in several."""

    @property
    def infos(self) -> Mapping[str, TensorInfo]: ...

    def rows(self, name: str, rows: Rows, transposed: bool = False) -> Tensor:
        """The chosen rows of tensor `name`, decoded, in memory of their own; of its transpose when `transposed`."""

    def forget(self) -> None:
        """Give back the memory of the pages read so far; they are read again when needed."""

    def close(self) -> None: ...


class MappedFile:
    """A whole file mapped read-only. `forget` drops the pages read so far, so that a load never holds file and weights at once.

    Raises `FileError` when the file cannot be opened or is empty.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with open(path, "rb") as file:
                self.map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except FileNotFoundError:
            raise FileError(f"{path} does not exist.", hint="Check the path.") from None
        except ValueError:
            raise FileError(f"{path} is empty (0 bytes).", hint="Download or copy it again.") from None
        except OSError as error:
            raise FileError(f"{path} cannot be read: {error.strerror}.", hint="Check its permissions.") from error

    def __len__(self) -> int:
        return len(self.map)

    def array(self, dtype: np.dtype[Any], count: int, offset: int) -> np.ndarray[Any, Any]:
        """`count` numbers from byte `offset`, a read-only view of the map."""
        return np.frombuffer(self.map, dtype=dtype, count=count, offset=offset)

    def forget(self) -> None:
        if hasattr(mmap, "MADV_DONTNEED"):  # not on Windows, where mapped pages leave the working set by themselves
            self.map.madvise(mmap.MADV_DONTNEED)

    def close(self) -> None:
        with suppress(BufferError):  # a view is still alive somewhere; the map goes with it
            self.map.close()


def to_tensor(array: np.ndarray[Any, Any], dtype: torch.dtype) -> Tensor:
    """A tensor of `dtype` with memory of its own from raw numbers of the same width."""
    tensor = torch.from_numpy(np.array(array, order="C", copy=True))
    return tensor if tensor.dtype == dtype else tensor.view(dtype)
