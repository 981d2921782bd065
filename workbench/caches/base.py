"""What a layer of the KV cache must offer, and what a codec must offer that turns its vectors into bytes.

Shapes: B batch, T tokens, G key/value heads, R query rows that share a key/value head, D head width.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from workbench.core.registry import Registry
from workbench.numerics.attention import Frame, Scoring, attend
from workbench.numerics.kv_kernels import Packed

Role = Literal["keys", "values"]
Planes = Mapping[str, Tensor]
"""What a codec stores, by name; each [B, G, T / group, …]."""


@dataclass(frozen=True)
class LayerShape:
    """What the builder tells a layer cache about the layer it serves. `capacity` is in tokens, `heads` counts K/V heads."""

    layer: int
    n_layers: int
    batch: int
    heads: int
    width: int
    capacity: int
    dtype: torch.dtype
    device: torch.device


@dataclass(frozen=True)
class SlotMap:
    """What a layer holds, slot by slot: whether it is exact, and how far what is stored is from what came in, as
    ‖x − x̃‖² / ‖x‖² over the heads (nan where nothing was measured, 0 where it is exact). Float32 arrays of one entry per slot."""

    exact: np.ndarray
    key_error: np.ndarray
    value_error: np.ndarray


class LayerCache(ABC):
    """Keys and values of one layer. Slots are numbered from 0; the owner (`KVCache`) knows how many are in use.

    Keys arrive already rotated by the position encoding. A kind implements `store` and `read` and inherits "decode, then
    attend", or overrides `attend` to work in compressed space. Slots are dropped by multiples of `group`.
    """

    group: int = 1

    def __init__(self, shape: LayerShape) -> None:
        self.shape = shape

    @abstractmethod
    def store(self, k: Tensor, v: Tensor, start: int) -> None:
        """k and v [B, G, T, D] go to slots start … start+T−1; whatever was there or behind is forgotten."""

    @abstractmethod
    def read(self, end: int) -> tuple[Tensor, Tensor]:
        """Keys and values of slots 0 … end−1, each [B, G, end, D] (a view where possible)."""

    @abstractmethod
    def nbytes(self, length: int) -> int:
        """Bytes that `length` stored tokens occupy, scales and other side information included."""

    @property
    @abstractmethod
    def allocated_nbytes(self) -> int:
        """Bytes of every tensor held, spare room included."""

    @abstractmethod
    def drop(self, start: int, count: int, length: int) -> None:
        """Forget slots start … start+count−1 of `length`; what follows moves down. See `group`."""

    @abstractmethod
    def resize(self, capacity: int, length: int) -> None:
        """Make room for `capacity` slots instead; the first `length`, which fit, stay as they lie."""

    @abstractmethod
    def turn(self, stop: int, rotate: Callable[[Tensor], Tensor]) -> None:
        """Rotate the keys of slots 0 … stop−1, which must be exact, in place: `rotate` [B, G, T, D] -> the same shape."""

    @abstractmethod
    def slots(self, length: int) -> SlotMap:
        """The state of the first `length` slots."""

    def truncate(self, length: int) -> None:  # noqa: B027  (some have nothing to forget)
        """Forget slots from `length` on. Kinds with state beyond their slots override this."""

    def constants(self) -> tuple[Tensor, ...]:
        """Tensors that several layers share (a rotation, a codebook); the owner counts each once."""
        return ()

    @property
    def compiles(self) -> bool:
        """Whether the next single token waits some seconds for a compiler, which happens once on a machine."""
        return False

    def attend(self, q: Tensor, k: Tensor, v: Tensor, scoring: Scoring, frame: Frame) -> Tensor:
        """Store k and v [B, G, T, D] and return attention of q [B, H, T, D] over everything stored, [B, H, T, D]."""
        self.store(k, v, frame.start)
        keys, values = self.read(frame.end)
        return attend(q, keys.to(q.dtype), values.to(q.dtype), scoring, frame)


# ---- codecs --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class CodecShape:
    """What the builder tells a codec: whose vectors it will see. `heads` counts K/V heads; `dtype` is the model's."""

    role: Role
    heads: int
    width: int
    layer: int
    n_layers: int
    dtype: torch.dtype
    device: torch.device


@dataclass(frozen=True)
class Plane:
    """One tensor that a codec stores: the shape of one entry (per head, and per group of tokens), and its type."""

    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


class Codec(ABC):
    """How vectors of width D become bytes and again numbers. One object serves the keys, or the values, of one layer.

    A vector's bytes depend on that vector alone (with `group` > 1: on its group of consecutive tokens), and on what
    `calibrate` fixed, so that it does not matter whether tokens come one by one or all at once, and nothing is ever
    encoded twice. `scores` and `weighted_sum` are "decode, then multiply" unless a kind works on the codes themselves.

    `wants`: tokens that `calibrate` must see before the first vector can be encoded; 0 for none.
    """

    group: int = 1
    wants: int = 0

    def __init__(self, shape: CodecShape) -> None:
        self.shape = shape

    @abstractmethod
    def planes(self) -> Mapping[str, Plane]:
        """What is stored for each group of tokens, by name. Bytes follow from it; asking allocates nothing."""

    @abstractmethod
    def encode(self, x: Tensor) -> dict[str, Tensor]:
        """x [B, G, T, D], T a multiple of `group` -> one tensor [B, G, T / group, *shape] for each plane."""

    @abstractmethod
    def decode(self, planes: Planes) -> Tensor:
        """The inverse, as good as it goes: [B, G, T, D] in float32."""

    def calibrate(self, x: Tensor) -> None:  # noqa: B027  (most have nothing to fix)
        """See the first tokens x [B, G, `wants`, D] of a text, and fix what later encoding depends on."""

    def forget(self) -> None:  # noqa: B027
        """A new text begins: undo `calibrate`."""

    @property
    def side_nbytes(self) -> int:
        """Bytes per sequence of what `calibrate` fixed."""
        return 0

    def constants(self) -> tuple[Tensor, ...]:
        """Tensors shared by all layers, counted once."""
        return ()

    def scores(self, q: Tensor, planes: Planes) -> Tensor:
        """q [B, G, R, D] float32 times every stored vector -> [B, G, R, T] float32."""
        return q @ self.decode(planes).transpose(-1, -2)

    def weighted_sum(self, p: Tensor, planes: Planes) -> Tensor:
        """Σ p · vector over the stored ones: p [B, G, R, T] float32 -> [B, G, R, D] float32."""
        return p @ self.decode(planes)

    def packed(self, planes: Planes) -> Packed | None:
        """The stored vectors in the form that attention as a whole is computed from; None: there is none, and the two above serve."""
        return None


KV_CODECS: Registry[Codec] = Registry("KV codec")
"""Ways to store keys or values; each is built as `make(shape=CodecShape, **options)`."""
