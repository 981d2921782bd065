"""A text through a compressed cache in one pass, each query reading what decoding token by token would read.

A plain pass over a text never reads the cache's codes, and so always finds nothing lost. Here query i reads token j as it was stored
when only the i tokens before the query were there: decoded if it had been encoded by then, exact if not.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from workbench.caches import CacheConfig, KVCache, SlotMap
from workbench.caches.base import LayerCache
from workbench.caches.coded import CodedLayerCache
from workbench.caches.exact import ExactLayerCache
from workbench.core.errors import ConfigError
from workbench.model import Transformer
from workbench.numerics.attention import Frame, Scoring, attend

ROWS = 256
"""Queries whose scores exist at once: at 2048 tokens and 9 heads 19 MB."""

Pair = tuple[Tensor, Tensor]


def strict_cache(model: Transformer, config: CacheConfig, tokens: int) -> KVCache:
    """A cache for one pass over `tokens` tokens of one text, from the first one on; nothing can be read from it afterwards.

    Raises `ConfigError` for a cache that is off, or too short.
    """
    if not config.use_cache:
        raise ConfigError("A cache that is off has no quality of its own.", hint="Choose a cache to measure.")
    if config.capacity is not None and config.capacity < tokens:
        raise ConfigError(
            f"The cache holds {config.capacity} tokens; {tokens} are to be read.", hint="Measure shorter texts, or a longer cache."
        )
    built = KVCache.from_config(model, config, capacity=tokens)
    layers: list[LayerCache] = [_strict(layer) for layer in built.layers]
    return KVCache(layers, capacity=tokens, batch=1, config=config)


def _strict(layer: LayerCache) -> LayerCache:
    if isinstance(layer, ExactLayerCache):
        return StrictLayer(layer, _as_type(layer.shape.dtype), _everything) if layer.rounds else StrictLayer(layer, None, _nothing)
    assert isinstance(layer, CodedLayerCache)
    return StrictLayer(layer, _as_codes(layer), _by_rule(layer))


class StrictLayer(LayerCache):
    """A layer that reads a whole text at once. `stored` gives keys and values as they are once stored; None: as they came. Of a query
    with i tokens before it, slots a … b−1 are read as stored, (a, b) being `seen(i)`."""

    def __init__(self, layer: LayerCache, stored: Callable[[Tensor, Tensor], Pair] | None, seen: Callable[[int], tuple[int, int]]) -> None:
        super().__init__(layer.shape)
        self._stored, self._seen = stored, seen

    def attend(self, q: Tensor, k: Tensor, v: Tensor, scoring: Scoring, frame: Frame) -> Tensor:
        if frame.start or k.shape[2] != q.shape[2]:
            raise ValueError("a strict layer reads a text in one pass")
        if self._stored is None:
            return attend(q, k, v, scoring, frame)
        tokens = k.shape[2]
        keys, values = self._stored(k, v)
        out = torch.empty_like(q)
        bounds = torch.tensor([self._seen(i) for i in range(tokens)], device=q.device)
        for at in range(0, tokens, ROWS):
            rows = slice(at, min(at + ROWS, tokens))
            out[:, :, rows] = _mixed(q[:, :, rows], (k, v), (keys, values), bounds[rows], scoring, frame, rows)
        return out

    def store(self, k: Tensor, v: Tensor, start: int) -> None:
        raise ValueError("a strict layer keeps nothing")

    def read(self, end: int) -> Pair:
        raise ValueError("a strict layer keeps nothing")

    def nbytes(self, length: int) -> int:
        return 0

    @property
    def allocated_nbytes(self) -> int:
        return 0

    def drop(self, start: int, count: int, length: int) -> None:
        raise ValueError("a strict layer drops nothing")

    def resize(self, capacity: int, length: int) -> None:
        raise ValueError("a strict layer cannot change its length")

    def turn(self, stop: int, rotate: Callable[[Tensor], Tensor]) -> None:
        raise ValueError("a strict layer keeps nothing")

    def slots(self, length: int) -> SlotMap:
        raise ValueError("a strict layer keeps nothing")


def _mixed(q: Tensor, exact: Pair, stored: Pair, bounds: Tensor, scoring: Scoring, frame: Frame, rows: slice) -> Tensor:
    """Queries [B, H, R, D] of positions `rows` over both forms of the keys and values [B, G, T, D]; `bounds` [R, 2]."""
    batch, heads, count, width = q.shape
    groups, stop = exact[0].shape[1], rows.stop  # later keys are hidden from all of these queries
    flat = q.reshape(batch, groups, -1, width).float() * scoring.scale
    slots = torch.arange(stop, device=q.device)
    coded = (slots >= bounds[:, :1]) & (slots < bounds[:, 1:])  # [R, S]
    plain, changed = (
        (flat @ pair[0][:, :, :stop].float().transpose(-1, -2)).view(batch, heads, count, stop) for pair in (exact, stored)
    )
    scores = torch.where(coded, changed, plain)
    if scoring.softcap is not None:
        scores = scoring.softcap * torch.tanh(scores / scoring.softcap)
    if scoring.bias is not None:
        scores = scores + scoring.bias(frame.positions[:, rows], frame.keys()[:, :stop]).float()
    scores = scores.masked_fill(~frame.mask(scoring)[..., rows, :stop], -math.inf)
    p = torch.softmax(scores, -1)
    shares = (p.masked_fill(coded, 0.0), p.masked_fill(~coded, 0.0))
    parts = (
        share.reshape(batch, groups, -1, stop) @ pair[1][:, :, :stop].float() for share, pair in zip(shares, (exact, stored), strict=True)
    )
    return sum(parts, torch.zeros(())).view(q.shape).to(q.dtype)


# ---- what is stored, and when ----------------------------------------------------------------------------------------


def _as_type(dtype: torch.dtype) -> Callable[[Tensor, Tensor], Pair]:
    def stored(k: Tensor, v: Tensor) -> Pair:
        return k.to(dtype), v.to(dtype)

    return stored


def _everything(before: int) -> tuple[int, int]:
    """Even the query's own key is stored before it is read."""
    return 0, before + 1


def _nothing(before: int) -> tuple[int, int]:
    return 0, 0


def _as_codes(layer: CodedLayerCache) -> Callable[[Tensor, Tensor], Pair]:
    """Encoded and decoded again, as far as the rule of the layout ever encodes them."""

    def stored(k: Tensor, v: Tensor) -> Pair:
        first = layer.layout.sinks
        count = layer.layout.coded(k.shape[2])
        found = []
        for codec, x in ((layer.keys, k), (layer.values, v)):
            middle = x[:, :, first : first + count].float()
            if count:
                codec.forget()
                if codec.wants:
                    codec.calibrate(middle[:, :, : codec.wants])
                middle = codec.decode(codec.encode(middle))
            found.append(torch.cat((x[:, :, :first].float(), middle, x[:, :, first + count :].float()), 2))
        return found[0], found[1]

    return stored


def _by_rule(layer: CodedLayerCache) -> Callable[[int], tuple[int, int]]:
    def seen(before: int) -> tuple[int, int]:
        return layer.layout.sinks, layer.layout.sinks + layer.layout.coded(before)

    return seen
