"""Every registered KV codec keeps the promises of `LayerCache`."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from workbench.caches import KV_CODECS, CacheConfig, KVCache, LayerCache
from workbench.caches.base import LayerShape
from workbench.caches.exact import ExactLayerCache
from workbench.core.errors import ConfigError
from workbench.core.fields import describe, from_dict, to_dict
from workbench.model import ModelConfig, Transformer, build_model
from workbench.numerics.attention import Frame, Scoring, attend

LATE = "kept-in-a-list"
KINDS = (*KV_CODECS.names(), LATE)
EACH = pytest.mark.parametrize("kind", KINDS)


class ListLayerCache(LayerCache):
    """Written from the protocol alone: grows token by token and inherits "decode, then attend"."""

    def __init__(self, shape: LayerShape) -> None:
        super().__init__(shape)
        self.slots: list[tuple[Tensor, Tensor]] = []

    def store(self, k: Tensor, v: Tensor, start: int) -> None:
        self.slots[start:] = [(k[:, :, t].clone(), v[:, :, t].clone()) for t in range(k.shape[2])]

    def read(self, end: int) -> tuple[Tensor, Tensor]:
        return torch.stack([k for k, _ in self.slots[:end]], 2), torch.stack([v for _, v in self.slots[:end]], 2)

    def nbytes(self, length: int) -> int:
        return sum(k.nbytes + v.nbytes for k, v in self.slots[:length])

    @property
    def allocated_nbytes(self) -> int:
        return self.nbytes(len(self.slots))


@pytest.fixture(scope="module", autouse=True)
def _a_kind_registered_late() -> Iterator[None]:
    KV_CODECS.register(LATE, label="List", help="Keeps every token in a list.", source="this test")(ListLayerCache)
    yield
    KV_CODECS.unregister(LATE)


@pytest.fixture(scope="module")
def model() -> Transformer:
    """Heads of width 64 as in real models: what a codec may ask of the width is met."""
    config = ModelConfig(vocab_size=61, n_layers=2, d_model=32, n_heads=4, n_kv_heads=2, head_dim=64, max_positions=64)
    return build_model(config).requires_grad_(False)


@pytest.fixture
def ids() -> Tensor:
    return torch.randint(61, (2, 17), generator=torch.Generator().manual_seed(1))


def tolerance(kind: str) -> float:
    """Lossless codecs agree with no cache at all; lossy ones with themselves."""
    lossless = kind == LATE or issubclass(KV_CODECS[kind].make, ExactLayerCache)  # type: ignore[arg-type]
    return 1e-4 if lossless else 0.3


def in_chunks(model: Transformer, cache: KVCache, ids: Tensor, chunk: int) -> Tensor:
    return torch.cat([model(ids[:, s : s + chunk], cache) for s in range(0, ids.shape[1], chunk)], 1)


def relative(a: Tensor, b: Tensor) -> float:
    return float((a - b).norm() / b.norm())


@EACH
def test_is_described_and_offered(kind: str) -> None:
    entry = KV_CODECS[kind]
    assert entry.label
    assert entry.source
    assert entry.help.endswith(".")
    assert kind in {o.name for i in describe(CacheConfig) if i.name == "codec" for o in i.pick_options()}
    config = CacheConfig(codec=kind)  # type: ignore[arg-type]
    assert config.problems() == []
    assert from_dict(CacheConfig, to_dict(config)) == config


@EACH
@pytest.mark.parametrize("chunk", [1, 3, 7])
def test_stepwise_equals_one_full_forward(kind: str, model: Transformer, ids: Tensor, chunk: int) -> None:
    out = in_chunks(model, KVCache.for_model(model, kind, batch=2), ids, chunk)
    assert relative(out, model(ids)) < tolerance(kind)


@EACH
def test_truncate_and_go_on_equals_a_fresh_cache(kind: str, model: Transformer, ids: Tensor) -> None:
    """The same chunks after a truncation as without one: what was forgotten leaves no trace."""
    cache, fresh = (KVCache.for_model(model, kind, batch=2) for _ in range(2))
    model(ids[:, :5], cache)
    model(ids.flip(1)[:, :9], cache)
    cache.truncate(5)
    model(ids[:, :5], fresh)
    again, wanted = in_chunks(model, cache, ids[:, 5:], 3), in_chunks(model, fresh, ids[:, 5:], 3)
    torch.testing.assert_close(again, wanted, rtol=1e-4, atol=1e-4)
    assert cache.nbytes == fresh.nbytes


@EACH
def test_an_emptied_cache_is_a_fresh_one(kind: str, model: Transformer, ids: Tensor) -> None:
    cache = KVCache.for_model(model, kind, batch=2)
    model(ids.flip(1), cache)
    cache.truncate(0)
    assert cache.nbytes == 0
    fresh = KVCache.for_model(model, kind, batch=2)
    torch.testing.assert_close(in_chunks(model, cache, ids, 7), in_chunks(model, fresh, ids, 7), rtol=1e-4, atol=1e-4)


@EACH
def test_a_full_cache_has_a_sentence(kind: str, model: Transformer, ids: Tensor) -> None:
    cache = KVCache.for_model(model, kind, capacity=6, batch=2)
    model(ids[:, :6], cache)
    with pytest.raises(ConfigError, match="The cache holds 6 tokens; 7 were asked for"):
        model(ids[:, 6:7], cache)


@EACH
def test_bytes_grow_with_the_text_and_fit_what_is_allocated(kind: str, model: Transformer, ids: Tensor) -> None:
    cache = KVCache.for_model(model, kind, capacity=17, batch=2)
    seen = [cache.nbytes]
    for t in range(17):
        model(ids[:, t : t + 1], cache)
        seen.append(cache.nbytes)
        assert 0 < cache.nbytes <= cache.allocated_nbytes
    assert seen[0] == 0
    assert seen == sorted(seen)
    assert type(cache.nbytes) is int


@EACH
def test_left_padded_rows_equal_each_row_alone(kind: str, model: Transformer, ids: Tensor) -> None:
    positions = torch.tensor([list(range(8)), [-1] * 5 + [0, 1, 2]])
    rows = torch.where(positions < 0, 0, ids[:, :8])
    cache = KVCache.for_model(model, kind, batch=2)
    batched = torch.cat([model(rows, cache, positions=positions), model(ids[:, 8:9], cache)], 1)
    for row, skip in ((0, 0), (1, 5)):
        alone = KVCache.for_model(model, kind)
        own = ids[row : row + 1, skip:9]
        wanted = torch.cat([model(own[:, :-1], alone), model(own[:, -1:], alone)], 1)
        assert relative(batched[row : row + 1, skip:], wanted) < tolerance(kind)


@EACH
def test_its_attention_equals_decode_then_attend(kind: str) -> None:
    """A codec that attends in compressed space agrees with its own decoded keys and values."""
    shape = LayerShape(0, 1, 2, 2, 64, 24, torch.float32, torch.device("cpu"))
    layer, twin = (KV_CODECS.choose(kind).make(shape=shape) for _ in range(2))
    generator = torch.Generator().manual_seed(0)
    start = 0
    for tokens in (5, 1, 7, 1):
        q, k, v = (torch.randn(2, heads, tokens, 64, generator=generator) for heads in (4, 2, 2))
        frame = Frame(torch.arange(start, start + tokens)[None].expand(2, -1), start)
        for scoring in (Scoring(scale=0.125), Scoring(scale=0.125, window=4)):
            out = layer.attend(q, k, v, scoring, frame)
            twin.store(k, v, start)
            keys, values = twin.read(frame.end)
            assert keys.shape == values.shape == (2, 2, frame.end, 64)
            torch.testing.assert_close(out, attend(q, keys.to(q.dtype), values.to(q.dtype), scoring, frame), rtol=1e-3, atol=1e-3)
            assert out.shape == q.shape
        start += tokens


@EACH
def test_it_keeps_a_copy_not_the_callers_tensor(kind: str, model: Transformer) -> None:
    shape = LayerShape(0, 1, 1, 2, 64, 8, torch.float32, torch.device("cpu"))
    layer = KV_CODECS.choose(kind).make(shape=shape)
    k, v = torch.randn(1, 2, 3, 64), torch.randn(1, 2, 3, 64)
    layer.store(k, v, 0)
    before = [t.clone() for t in layer.read(3)]
    k.zero_()
    v.zero_()
    for kept, was in zip(layer.read(3), before, strict=True):
        assert torch.equal(kept, was)


@EACH
def test_copies_go_their_own_way(kind: str, model: Transformer, ids: Tensor) -> None:
    cache = KVCache.for_model(model, kind, batch=2)
    model(ids[:, :5], cache)
    twin = copy.deepcopy(cache)
    model(ids.flip(1)[:, :4], twin)
    other: Any = KVCache.for_model(model, kind, batch=2)
    model(ids[:, :5], other)
    torch.testing.assert_close(model(ids[:, 5:9], cache), model(ids[:, 5:9], other), rtol=1e-4, atol=1e-4)
