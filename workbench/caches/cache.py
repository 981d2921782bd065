"""`KVCache`: one layer cache per block, one length for all of them."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor

from workbench.caches.base import KV_CODECS, LayerCache, LayerShape
from workbench.core.errors import ConfigError
from workbench.numerics.attention import PADDING, Frame


class _Sizes(Protocol):
    @property
    def n_layers(self) -> int: ...
    @property
    def kv_heads(self) -> int: ...
    @property
    def head_width(self) -> int: ...
    @property
    def max_positions(self) -> int: ...


class CachedModel(Protocol):
    """What `KVCache.for_model` needs to know of a model."""

    @property
    def config(self) -> _Sizes: ...
    @property
    def device(self) -> torch.device: ...
    @property
    def dtype(self) -> torch.dtype: ...


class KVCache:
    """The keys and values of `batch` sequences, up to `capacity` tokens each.

    `length` counts the tokens stored; the model advances it after a forward pass that ended well, so an exception or a
    stop in the middle leaves the cache as it was.
    """

    def __init__(self, layers: list[LayerCache], *, capacity: int, batch: int) -> None:
        self.layers = layers
        self.capacity = capacity
        self.batch = batch
        self.length = 0
        self._positions: Tensor | None = None

    @classmethod
    def for_model(
        cls,
        model: CachedModel,
        codec: str = "exact",
        capacity: int | None = None,
        batch: int = 1,
        dtype: torch.dtype | None = None,
        **codec_options: Any,
    ) -> KVCache:
        """An empty cache that fits `model`. `capacity` defaults to the model's context; `dtype` to the model's."""
        sizes = model.config
        capacity = sizes.max_positions if capacity is None else capacity
        if capacity < 1 or batch < 1:
            raise ConfigError(f"A cache of {capacity} tokens for {batch} sequences holds nothing.", hint="Use at least 1 of each.")
        kind = KV_CODECS.choose(codec, codec_options)
        shapes = (
            LayerShape(i, sizes.n_layers, batch, sizes.kv_heads, sizes.head_width, capacity, dtype or model.dtype, model.device)
            for i in range(sizes.n_layers)
        )
        return cls([kind.make(shape=shape) for shape in shapes], capacity=capacity, batch=batch)

    def frame(self, tokens: int, positions: Tensor | None, device: torch.device) -> Frame:
        """The `Frame` of a forward pass over `tokens` new tokens per sequence. `positions` [B, tokens], −1 for padding;
        None continues after the newest token of each sequence. Raises `ConfigError` when they do not fit."""
        start, end = self.length, self.length + tokens
        if end > self.capacity:
            raise ConfigError(
                f"The cache holds {self.capacity} tokens; {end} were asked for.", hint="Use a longer cache or a shorter text."
            )
        if positions is None and self._positions is None:
            return Frame(torch.arange(start, end, device=device)[None].expand(self.batch, -1), start)
        stored = self._positions
        if stored is None:
            stored = torch.full((self.batch, self.capacity), PADDING, dtype=torch.int64, device=device)
            stored[:, :start] = torch.arange(start, device=device)
        if positions is None:
            newest = stored[:, :start].amax(1, keepdim=True) if start else stored.new_full((self.batch, 1), PADDING)
            positions = newest + torch.arange(1, tokens + 1, device=device)
        stored[:, start:end] = positions
        self._positions = stored
        return Frame(positions, start, plain=False, key_positions=stored[:, :end])

    def advance(self, tokens: int) -> None:
        """The model stored `tokens` more tokens in every layer."""
        self.length += tokens

    def truncate(self, length: int) -> None:
        """Keep the first `length` tokens; what follows is forgotten."""
        if not 0 <= length <= self.length:
            raise ConfigError(f"Cannot keep {length} of {self.length} cached tokens.", hint=f"Choose 0 to {self.length}.")
        self.length = length
        if length == 0:
            self._positions = None  # the next text may do without padding, and then without masks
        if self._positions is not None:
            self._positions[:, length:] = PADDING
        for layer in self.layers:
            layer.truncate(length)

    @property
    def nbytes(self) -> int:
        """Bytes of the stored tokens, measured on what each layer holds."""
        return sum(layer.nbytes(self.length) for layer in self.layers)

    @property
    def allocated_nbytes(self) -> int:
        """Bytes of every tensor the cache owns, spare room included."""
        return sum(layer.allocated_nbytes for layer in self.layers)
