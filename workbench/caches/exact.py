"""Keys and values as they come: a codec that only rounds, and a layer cache that has nothing to decode."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from workbench.caches.base import KV_CODECS, Codec, CodecShape, LayerCache, LayerShape, Plane, Planes, SlotMap
from workbench.core.fields import Option, pick

_TYPES = ("float32", "bfloat16", "float16")


@dataclass(frozen=True)
class ExactOptions:
    dtype: str | None = pick(
        [Option(name, name) for name in _TYPES],
        None,
        label="Type",
        key="cache_dtype",
        none_label="the model's",
        help="Floating-point type that is stored; narrower than the model's, it rounds.",
    )


@KV_CODECS.register(
    "exact",
    label="Exact",
    help="Keeps every vector in floating point, in memory reserved at the start.",
    options=ExactOptions,
    source="arXiv:1911.02150",
    used_by="the default of every inference engine",
)
class ExactCodec(Codec):
    """One plane of D floating-point numbers a vector."""

    def __init__(self, shape: CodecShape, dtype: str | None = None) -> None:
        super().__init__(shape)
        self.dtype: torch.dtype = shape.dtype if dtype is None else getattr(torch, dtype)

    def planes(self) -> Mapping[str, Plane]:
        return {"values": Plane((self.shape.width,), self.dtype)}

    def encode(self, x: Tensor) -> dict[str, Tensor]:
        return {"values": x.clamp(torch.finfo(self.dtype).min, torch.finfo(self.dtype).max).to(self.dtype)}

    def decode(self, planes: Planes) -> Tensor:
        return planes["values"].float()


class ExactLayerCache(LayerCache):
    """Two tensors [B, G, capacity, D] of `shape.dtype`. Unwritten slots are never read, so they are left as they are: on Linux
    their pages take no memory until they are written. `rounds`: that type is narrower than what comes in."""

    def __init__(self, shape: LayerShape, *, rounds: bool = False) -> None:
        super().__init__(shape)
        self.rounds = rounds
        self.keys, self.values = self._empty(), self._empty()

    def _empty(self) -> Tensor:
        s = self.shape
        return torch.empty((s.batch, s.heads, s.capacity, s.width), dtype=s.dtype, device=s.device)

    def store(self, k: Tensor, v: Tensor, start: int) -> None:
        tokens = k.shape[2]
        self.keys.narrow(2, start, tokens).copy_(k)
        self.values.narrow(2, start, tokens).copy_(v)

    def read(self, end: int) -> tuple[Tensor, Tensor]:
        return self.keys.narrow(2, 0, end), self.values.narrow(2, 0, end)

    def nbytes(self, length: int) -> int:
        s = self.shape
        return 2 * s.batch * s.heads * s.width * length * s.dtype.itemsize

    @property
    def allocated_nbytes(self) -> int:
        return self.keys.nbytes + self.values.nbytes

    def drop(self, start: int, count: int, length: int) -> None:
        for held in (self.keys, self.values):
            held[:, :, start : length - count] = held[:, :, start + count : length].clone()

    def resize(self, capacity: int, length: int) -> None:
        self.shape = replace(self.shape, capacity=capacity)
        old = self.read(length)
        self.keys, self.values = self._empty(), self._empty()
        self.store(*old, 0)

    def turn(self, stop: int, rotate: Callable[[Tensor], Tensor]) -> None:
        keys = self.keys[:, :, :stop]
        keys.copy_(rotate(keys))

    def slots(self, length: int) -> SlotMap:
        error = np.full(length, np.nan if self.rounds else 0.0, dtype=np.float32)
        return SlotMap(np.full(length, not self.rounds), error, error)
