"""What a scheme must offer: how a matrix becomes codes and scales, and how it is multiplied with as it lies."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from workbench.core.fields import to_dict
from workbench.core.registry import Choice, Registry
from workbench.numerics.low_bit import dense
from workbench.parts.frozen import Planes


@dataclass(frozen=True)
class Plane:
    """One tensor that a matrix is kept as: its shape, whose first number is that of the matrix' rows, and its type."""

    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


class Scheme(ABC):
    """One way to keep weights [N, K] in few bits. Each row is encoded by itself, so that matrices may be cut and stacked by rows.

    Two schemes of the same kind and options are equal. A kind implements `layout`, `encode`, `decode` and `multiply`.
    """

    kind: str = ""
    options: Mapping[str, Any] = {}

    @abstractmethod
    def layout(self, rows: int, width: int) -> Mapping[str, Plane]:
        """What is kept of a matrix of that size, by name; asking allocates nothing. Bytes follow from it."""

    @abstractmethod
    def encode(self, weight: Tensor) -> dict[str, Tensor]:
        """weight [N, K] float32, finite -> its planes."""

    @abstractmethod
    def decode(self, planes: Planes, width: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """The numbers that the planes stand for, [N, K]."""

    @abstractmethod
    def multiply(self, x: Tensor, planes: Planes) -> Tensor:
        """x [M, K] times the matrix transposed -> [M, N] in x's dtype; no gradients."""

    @abstractmethod
    def steps(self, planes: Planes, width: int) -> Tensor:
        """The distance between neighbouring numbers that can be kept, at each place: broadcasts to [N, K]. A weight is off by half of
        it at most."""

    def multiply_back(self, gradient: Tensor, planes: Planes, width: int) -> Tensor:
        """gradient [M, N] times the matrix -> [M, K] in the gradient's dtype."""
        return dense(gradient, self.decode(planes, width, gradient.dtype).t())

    def nbytes(self, rows: int, width: int) -> int:
        return sum(plane.nbytes for plane in self.layout(rows, width).values())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Scheme) and (self.kind, self.options) == (other.kind, other.options)

    def __hash__(self) -> int:
        return hash((self.kind, tuple(sorted(self.options.items()))))

    def __deepcopy__(self, memo: dict[int, Any]) -> Scheme:
        return self

    def __repr__(self) -> str:
        return ", ".join((self.kind, *(f"{name} {value}" for name, value in self.options.items() if value is not None)))

    def to_json(self) -> dict[str, Any]:
        """Kind and options, as `SCHEMES` takes them back."""
        return {"kind": self.kind, **self.options}


SCHEMES: Registry[Scheme] = Registry("quantization scheme")
"""Ways to keep weights; each is built as `make(**options)`."""


def make_scheme(choice: Choice[Scheme]) -> Scheme:
    """The scheme that was chosen, knowing its own name and options."""
    scheme = choice.make()
    scheme.kind, scheme.options = choice.kind, to_dict(choice.options)
    return scheme
