"""Keys and values as they come: a codec that only rounds, and a layer cache that has nothing to decode."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from workbench.caches.base import KV_CODECS, Codec, CodecShape, LayerCache, LayerShape, Plane, Planes, SlotMap
from workbench.core.fields import Option, pick
from workbench.numerics.attention import Frame, Scoring
from workbench.numerics.blocked import suits_blocks
from workbench.numerics.online import OnlineAttention

TILE = 1024
"""Tokens that a piece of a prompt looks at together, where it does not look at all of them at once."""

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

    def attend(self, q: Tensor, k: Tensor, v: Tensor, scoring: Scoring, frame: Frame) -> Tensor:
        if not _suits_tiles(q, scoring, frame):
            return super().attend(q, k, v, scoring, frame)
        self.store(k, v, frame.start)
        online = OnlineAttention(q, scoring, frame)
        for at in range(0 if scoring.window is None else max(0, frame.start - scoring.window + 1), frame.end, TILE):
            stop = min(at + TILE, frame.end)
            online.add(self.keys[:, :, at:stop], self.values[:, :, at:stop], at)
        return online.result()

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


def _suits_tiles(q: Tensor, scoring: Scoring, frame: Frame) -> bool:
    """Whether a later piece of a prompt is read tile by tile: where its products are in bfloat16 on a CPU, whose units torch's fused
    kernel with a mask hardly uses. A prompt of 4096 tokens takes 0.73 of the time."""
    plain = frame.plain and frame.start > 0 and scoring.causal and scoring.bias is None and scoring.softcap is None
    return plain and suits_blocks(q) and not q.requires_grad and torch.is_autocast_enabled("cpu")
