"""From a `CacheConfig` to the layers of a cache, and to what they would take."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import torch

from workbench.caches.base import Codec, CodecShape, LayerCache, LayerShape, Role
from workbench.caches.coded import CodedLayerCache
from workbench.caches.config import CacheConfig
from workbench.caches.exact import ExactCodec, ExactLayerCache
from workbench.caches.layout import Layout
from workbench.caches.overrides import parse_override
from workbench.core.registry import Choice


class Sizes(Protocol):
    """What a cache must know of a model's config."""

    @property
    def n_layers(self) -> int: ...
    @property
    def kv_heads(self) -> int: ...
    @property
    def head_width(self) -> int: ...
    @property
    def max_positions(self) -> int: ...


@dataclass(frozen=True)
class LayerPlan:
    """How one layer stores its keys and values."""

    keys: Choice[Codec]
    values: Choice[Codec]


def layer_plans(config: CacheConfig, n_layers: int) -> tuple[LayerPlan, ...]:
    """The storage of each layer: the edges' instead of the common one, single rules instead of both."""
    edge = config.edge_layers
    plans = [
        LayerPlan(config.edge_codec, config.edge_codec) if i < edge or i >= n_layers - edge else LayerPlan(config.codec, config.value_codec)
        for i in range(n_layers)
    ]
    for rule in map(parse_override, config.layer_overrides):
        for i in rule.layers(n_layers):
            plans[i] = LayerPlan(rule.codec if rule.keys else plans[i].keys, rule.codec if rule.values else plans[i].values)
    return tuple(plans)


def build_layer(plan: LayerPlan, shape: LayerShape, config: CacheConfig) -> LayerCache:
    """The layer cache that `plan` asks for; one that only keeps floating-point numbers of one type needs no codecs."""
    keys, values = _codecs(plan, shape)
    plain = _plain_dtype(keys, values)
    if plain is not None:
        return ExactLayerCache(replace(shape, dtype=plain), rounds=plain.itemsize < shape.dtype.itemsize)
    return CodedLayerCache(shape, keys, values, sinks=config.sinks, window=config.window, track=config.track_error)


def _codecs(plan: LayerPlan, shape: LayerShape) -> tuple[Codec, Codec]:
    def made(role: Role, choice: Choice[Codec]) -> Codec:
        return choice.make(shape=CodecShape(role, shape.heads, shape.width, shape.layer, shape.n_layers, shape.dtype, shape.device))

    return made("keys", plan.keys), made("values", plan.values)


def _plain_dtype(keys: Codec, values: Codec) -> torch.dtype | None:
    """The one floating-point type of keys and values; None when one of them is encoded, or the types differ."""
    both = isinstance(keys, ExactCodec) and isinstance(values, ExactCodec) and keys.dtype == values.dtype
    return keys.dtype if both and isinstance(keys, ExactCodec) else None


def cache_nbytes(config: CacheConfig, sizes: Sizes, tokens: int, *, batch: int = 1, dtype: torch.dtype = torch.float32) -> int:
    """Bytes that `tokens` tokens take in such a cache, constants shared by the layers aside; nothing of it is allocated.
    `dtype`: the model's."""
    known: dict[LayerPlan, int] = {}
    plans = layer_plans(config, sizes.n_layers)
    for i, plan in enumerate(plans):
        if plan not in known:  # layers that store in the same way take the same
            shape = LayerShape(i, sizes.n_layers, batch, sizes.kv_heads, sizes.head_width, tokens, dtype, torch.device("cpu"))
            known[plan] = _layer_nbytes(plan, shape, config)
    return sum(known[plan] for plan in plans)


def _layer_nbytes(plan: LayerPlan, shape: LayerShape, config: CacheConfig) -> int:
    keys, values = _codecs(plan, shape)
    plain = _plain_dtype(keys, values)
    if plain is not None:
        return 2 * shape.batch * shape.heads * shape.width * shape.capacity * plain.itemsize
    layout = Layout.of(
        keys, values, batch=shape.batch, heads=shape.heads, width=shape.width, itemsize=shape.dtype.itemsize,
        sinks=config.sinks, window=config.window, track=config.track_error,
    )  # fmt: skip
    return layout.nbytes(shape.capacity)
