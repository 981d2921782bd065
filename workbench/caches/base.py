"""What a KV codec must offer: store new keys and values, attend over all that is stored, and say how big it is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from workbench.core.registry import Registry
from workbench.numerics.attention import Frame, Scoring, attend


@dataclass(frozen=True)
class LayerShape:
    """What the builder tells a codec about the layer it serves. `capacity` is in tokens, `heads` counts K/V heads."""

    layer: int
    n_layers: int
    batch: int
    heads: int
    width: int
    capacity: int
    dtype: torch.dtype
    device: torch.device


class LayerCache(ABC):
    """Keys and values of one layer. Slots are numbered from 0; the owner (`KVCache`) knows how many are in use.

    Keys arrive already rotated by the position encoding. A codec implements `store` and `read` and inherits "decode, then
    attend", or overrides `attend` to work in compressed space.
    """

    def __init__(self, shape: LayerShape) -> None:
        self.shape = shape

    @abstractmethod
    def store(self, k: Tensor, v: Tensor, start: int) -> None:
        """k and v [B, G, T, D] go to slots start … start+T−1."""

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

    def truncate(self, length: int) -> None:  # noqa: B027  (most codecs have nothing to forget)
        """Forget slots from `length` on. Codecs with state beyond their slots override this."""

    def attend(self, q: Tensor, k: Tensor, v: Tensor, scoring: Scoring, frame: Frame) -> Tensor:
        """Store k and v [B, G, T, D] and return attention of q [B, H, T, D] over everything stored, [B, H, T, D]."""
        self.store(k, v, frame.start)
        keys, values = self.read(frame.end)
        return attend(q, keys.to(q.dtype), values.to(q.dtype), scoring, frame)


KV_CODECS: Registry[LayerCache] = Registry("KV codec")
"""Kinds of layer cache; each is built as `make(shape=LayerShape, **options)`."""
