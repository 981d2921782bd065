"""`KVCache`: one layer cache per block, one length for all of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from workbench.caches.base import KV_CODECS, Codec, LayerCache, LayerShape, SlotMap
from workbench.caches.config import STOP, CacheConfig
from workbench.caches.plan import Sizes, build_layer, layer_plans
from workbench.core.errors import ConfigError
from workbench.core.registry import Choice
from workbench.numerics.attention import PADDING, Frame

Turn = Callable[[int, Tensor, int], Tensor]
"""(layer, keys [B, G, T, D], by how many positions) -> the keys as they would be so many positions later."""


class CachedModel(Protocol):
    """What `KVCache.for_model` needs to know of a model."""

    @property
    def config(self) -> Sizes: ...
    @property
    def device(self) -> torch.device: ...
    @property
    def dtype(self) -> torch.dtype: ...


class KVCache:
    """The keys and values of `batch` sequences, up to `capacity` tokens each.

    `length` counts the tokens stored; the model advances it after a forward pass that ended well, so an exception or a
    stop in the middle leaves the cache as it was. Slot s holds the token at position `offset` + s: older tokens that were
    dropped moved the others down. What to do when it is full is not for the cache to say, but `config` names what was asked for.
    """

    def __init__(self, layers: list[LayerCache], *, capacity: int, batch: int, config: CacheConfig | None = None) -> None:
        self.layers = layers
        self.config = config or CacheConfig()
        self.capacity = capacity
        self.batch = batch
        self.length = 0
        self.offset = 0
        self._positions: Tensor | None = None
        self._anchors: _Anchors | None = None

    @classmethod
    def for_model(
        cls,
        model: CachedModel,
        codec: str | Choice[Codec] = "exact",
        capacity: int | None = None,
        batch: int = 1,
        dtype: torch.dtype | None = None,
        *,
        value_codec: str | Choice[Codec] | None = None,
        window: int = 0,
        sinks: int = 0,
        overflow: str = STOP,
        **codec_options: Any,
    ) -> KVCache:
        """An empty cache that fits `model`. `capacity` defaults to the model's context; `dtype`, of what stays exact, to the
        model's. `value_codec` None stores values as keys; `codec_options` are those of the kinds named here; `overflow` is what
        `generate` and `score` do when it is full."""
        keys = _chosen(codec, codec_options if value_codec is None else _known(codec, codec_options))
        values = keys if value_codec is None else _chosen(value_codec, _known(value_codec, codec_options))
        config = CacheConfig(codec=keys, value_codec=values, window=window, sinks=sinks, overflow=overflow)
        return cls.from_config(model, config, capacity=capacity, batch=batch, dtype=dtype)

    @classmethod
    def from_config(
        cls, model: CachedModel, config: CacheConfig, *, capacity: int | None = None, batch: int = 1, dtype: torch.dtype | None = None
    ) -> KVCache:
        """An empty cache as `config` asks. `capacity` None: the config's, or the model's context. Raises `ConfigError`."""
        sizes = model.config
        capacity = capacity if capacity is not None else config.capacity if config.capacity is not None else sizes.max_positions
        if capacity < 1 or batch < 1:
            raise ConfigError(f"A cache of {capacity} tokens for {batch} sequences holds nothing.", hint="Use at least 1 of each.")
        kind = dtype or model.dtype
        shapes = (
            LayerShape(i, sizes.n_layers, batch, sizes.kv_heads, sizes.head_width, capacity, kind, model.device)
            for i in range(sizes.n_layers)
        )
        plans = layer_plans(config, sizes.n_layers)
        layers = [build_layer(plan, shape, config) for plan, shape in zip(plans, shapes, strict=True)]
        return cls(layers, capacity=capacity, batch=batch, config=config)

    @property
    def group(self) -> int:
        """Slots that can only be dropped together."""
        return math.lcm(*(layer.group for layer in self.layers))

    def frame(self, tokens: int, positions: Tensor | None, device: torch.device) -> Frame:
        """The `Frame` of a forward pass over `tokens` new tokens per sequence. `positions` [B, tokens], −1 for padding;
        None continues after the newest token of each sequence. Raises `ConfigError` when they do not fit."""
        start, end = self.length, self.length + tokens
        if end > self.capacity:
            raise ConfigError(
                f"The cache holds {self.capacity} tokens; {end} were asked for.", hint="Use a longer cache or a shorter text."
            )
        if positions is None and self._positions is None:
            first = self.offset
            return Frame(torch.arange(first + start, first + end, device=device)[None].expand(self.batch, -1), start, offset=first)
        stored = self._positions
        if stored is None:
            stored = torch.full((self.batch, self.capacity), PADDING, dtype=torch.int64, device=device)
            stored[:, :start] = torch.arange(self.offset, self.offset + start, device=device)
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
        if self._anchors is not None and length < self._anchors.stop:
            self._anchors = None
        if length == 0:
            self._positions = None  # the next text may do without padding, and then without masks
            self.offset = 0
        if self._positions is not None:
            self._positions[:, length:] = PADDING
        for layer in self.layers:
            layer.truncate(length)

    def drop(self, start: int, count: int, turn: Turn | None = None) -> None:
        """Forget slots start … start+count−1; what follows moves down and keeps its positions. The keys of the `start` slots
        before them are turned `count` positions on, so that positions are without a gap again.

        Only for one text without padding. Raises `ConfigError` for slots that are not there; should anything else fail, the cache
        is empty afterwards.
        """
        if self._positions is not None or not 0 <= start <= start + count <= self.length:
            raise ConfigError(f"Slots {start} to {start + count} of {self.length} cannot be dropped.", hint="Empty the cache instead.")
        anchors = self._anchored(start) if start and turn is not None else None
        try:
            for layer in self.layers:
                layer.drop(start, count, self.length)
            self.length, self.offset = self.length - count, self.offset + count
            if anchors is not None and turn is not None:
                for i, (layer, keys) in enumerate(zip(self.layers, anchors.keys, strict=True)):
                    moved = turn(i, keys, self.offset - anchors.offset)
                    layer.turn(start, lambda _, moved=moved: moved)  # type: ignore[misc]
        except BaseException:
            self.length = 0
            self.truncate(0)
            raise
        self._anchors = anchors

    def _anchored(self, stop: int) -> _Anchors:
        """The first keys as they were before they were turned at all: turning them from there each time adds up no rounding."""
        if self._anchors is None or self._anchors.stop != stop:
            return _Anchors(stop, self.offset, [layer.read(stop)[0].clone() for layer in self.layers])
        return self._anchors

    def resize(self, capacity: int) -> None:
        """Hold up to `capacity` tokens instead; what is stored stays as it lies. Raises `ConfigError` when it does not fit."""
        if capacity < self.length or self._positions is not None:
            raise ConfigError(f"A cache of {capacity} tokens does not hold {self.length}.", hint="Empty it first.")
        for layer in self.layers:
            layer.resize(capacity, self.length)
        self.capacity = capacity

    def slots(self) -> tuple[SlotMap, ...]:
        """Layer by layer, which slots are exact and how far the others are off."""
        return tuple(layer.slots(self.length) for layer in self.layers)

    def take_over(self, other: KVCache) -> None:
        """Store what `other`, of the same model and batch, holds: as it was computed if it is exact, else as it decodes."""
        for _ in self.taking_over(other):
            pass

    def taking_over(self, other: KVCache) -> Iterator[int]:
        """The same layer by layer; yields how many are done. Until the end this cache counts as empty."""
        self.truncate(0)
        if other.length > self.capacity:
            raise ConfigError(f"The cache holds {self.capacity} tokens; {other.length} were to be taken over.", hint="Use a longer cache.")
        for done, (new, old) in enumerate(zip(self.layers, other.layers, strict=True), 1):
            keys, values = old.read(other.length)
            new.store(keys, values, 0)
            yield done
        self.length, self.offset, self._anchors = other.length, other.offset, other._anchors
        if other._positions is not None:
            self._positions = other._positions.new_full((self.batch, self.capacity), PADDING)
            self._positions[:, : self.length] = other._positions[:, : self.length]

    @property
    def exact(self) -> bool:
        """Whether every slot holds what was computed, in the model's precision or better."""
        return all(bool(layer.slots(self.length).exact.all()) for layer in self.layers)

    @property
    def compiles(self) -> bool:
        """Whether the next token waits some seconds for a compiler, which happens once on a machine."""
        return any(layer.compiles for layer in self.layers)

    @property
    def nbytes(self) -> int:
        """Bytes of the stored tokens with all that belongs to them, measured on what each layer holds."""
        return sum(layer.nbytes(self.length) for layer in self.layers) + self._shared_nbytes()

    def _shared_nbytes(self) -> int:
        anchors = 0 if self._anchors is None else sum(keys.nbytes for keys in self._anchors.keys)
        return anchors + sum({t.data_ptr(): t.nbytes for layer in self.layers for t in layer.constants()}.values())

    @property
    def allocated_nbytes(self) -> int:
        """Bytes of every tensor the cache owns, spare room included."""
        return sum(layer.allocated_nbytes for layer in self.layers) + self._shared_nbytes()


@dataclass(frozen=True)
class _Anchors:
    """Keys [B, G, stop, D] of the first `stop` slots, layer by layer, as of when the cache's offset was `offset`."""

    stop: int
    offset: int
    keys: list[Tensor]


def _chosen(codec: str | Choice[Codec], options: dict[str, Any]) -> Choice[Codec]:
    return KV_CODECS.choose(codec, options) if isinstance(codec, str) else replace(codec, options=replace(codec.options, **options))


def _known(codec: str | Choice[Codec], options: dict[str, Any]) -> dict[str, Any]:
    """Those of the options that this kind has."""
    entry = KV_CODECS[codec if isinstance(codec, str) else codec.kind]
    names = {f.name for f in fields(entry.options)}
    return {name: value for name, value in options.items() if name in names}
