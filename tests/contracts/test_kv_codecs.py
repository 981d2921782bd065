"""Every registered KV codec keeps the promises of `Codec`, and a layer cache made of it those of `LayerCache`."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from workbench.caches import KV_CODECS, CacheConfig, Codec, CodecShape, KVCache, LayerCache, LayerShape, Plane, cache_nbytes
from workbench.caches.plan import LayerPlan, build_layer
from workbench.core.errors import ConfigError
from workbench.core.fields import describe, from_dict, to_dict
from workbench.model import ModelConfig, Transformer, build_model
from workbench.numerics.attention import Frame, Scoring, attend

LATE = "registered-late"
KINDS = (*KV_CODECS.names(), LATE)
EACH = pytest.mark.parametrize("kind", KINDS)
SETTINGS = pytest.mark.parametrize(("sinks", "window"), [(0, 0), (4, 0), (0, 20), (3, 33)])
LOSSLESS = ("exact", LATE)
SHAPE = LayerShape(0, 1, 2, 2, 64, 320, torch.float32, torch.device("cpu"))


class LateCodec(Codec):
    """Written from the protocol alone: halves, in groups of four tokens; multiplies by decoding."""

    group = 4

    def planes(self) -> dict[str, Plane]:
        return {"halves": Plane((4, self.shape.width), torch.float16)}

    def encode(self, x: Tensor) -> dict[str, Tensor]:
        return {"halves": torch.nan_to_num(x, nan=0.0).clamp(-6e4, 6e4).half().unflatten(2, (-1, 4))}

    def decode(self, planes: Mapping[str, Tensor]) -> Tensor:
        return planes["halves"].flatten(2, 3).float()


@pytest.fixture(scope="module", autouse=True)
def _a_kind_registered_late() -> Iterator[None]:
    KV_CODECS.register(LATE, label="Late", help="Keeps halves in groups of four.", source="this test")(LateCodec)
    yield
    KV_CODECS.unregister(LATE)


@pytest.fixture(scope="module")
def model() -> Transformer:
    """Grouped heads of width 64, as in real models."""
    config = ModelConfig(vocab_size=61, n_layers=2, d_model=32, n_heads=4, n_kv_heads=2, head_dim=64, max_positions=320)
    return build_model(config).requires_grad_(False)


@pytest.fixture
def ids() -> Tensor:
    return torch.randint(61, (2, 150), generator=torch.Generator().manual_seed(1))


def config_of(kind: str, **more: int) -> CacheConfig:
    return CacheConfig(codec=kind, value_codec=kind, **more)  # type: ignore[arg-type]


def codec_of(kind: str, width: int = 64, role: str = "keys") -> Codec:
    return KV_CODECS.choose(kind).make(shape=CodecShape(role, 2, width, 0, 1, torch.float32, torch.device("cpu")))  # type: ignore[arg-type]


def layer_of(kind: str, shape: LayerShape = SHAPE, **more: int) -> LayerCache:
    choice = KV_CODECS.choose(kind)
    return build_layer(LayerPlan(choice, choice), shape, config_of(kind, **more))


def vectors(tokens: int, heads: int = 2, batch: int = 2, width: int = 64, seed: int = 0) -> Tensor:
    return torch.randn(batch, heads, tokens, width, generator=torch.Generator().manual_seed(seed))


def tolerance(kind: str) -> float:
    """Lossless codecs agree with no cache at all; lossy ones with themselves."""
    return 2e-3 if kind in LOSSLESS else 0.5


def in_chunks(model: Transformer, cache: KVCache, ids: Tensor, chunk: int) -> Tensor:
    return torch.cat([model(ids[:, s : s + chunk], cache) for s in range(0, ids.shape[1], chunk)], 1)


def relative(a: Tensor, b: Tensor) -> float:
    return float((a - b).norm() / b.norm())


def held_nbytes(layer: LayerCache) -> int:
    """Bytes of the used parts of the tensors, counted on the tensors themselves."""
    from workbench.caches.coded import CodedLayerCache
    from workbench.caches.exact import ExactLayerCache

    if isinstance(layer, ExactLayerCache):
        raise TypeError("counts only layers that encode")
    assert isinstance(layer, CodedLayerCache)
    exact = layer.count - layer.coded
    per_exact = 2 * layer.shape.batch * layer.shape.heads * layer.shape.width * layer.shape.dtype.itemsize
    used = exact * per_exact
    for codec, codes in zip((layer.keys, layer.values), layer._codes, strict=True):
        used += sum(plane[:, :, : layer.coded // codec.group].nbytes for plane in codes.values())
        used += layer.shape.batch * codec.side_nbytes if layer.coded else 0
    return used


# ---- the codec -----------------------------------------------------------------------------------------------------


@EACH
def test_is_described_and_offered(kind: str) -> None:
    entry = KV_CODECS[kind]
    assert entry.label
    assert entry.source
    assert entry.help.endswith(".")
    assert kind in {o.name for i in describe(CacheConfig) if i.name == "codec" for o in i.pick_options()}
    config = config_of(kind)
    assert config.problems() == []
    assert from_dict(CacheConfig, to_dict(config)) == config


@EACH
@pytest.mark.parametrize("width", [8, 48, 64, 80, 128, 20, 12])
@pytest.mark.parametrize("role", ["keys", "values"])
def test_stores_what_it_declares_for_any_width(kind: str, width: int, role: str) -> None:
    codec = codec_of(kind, width, role)
    x = vectors(128, width=width)
    codec.calibrate(x[:, :, : codec.wants])
    made = codec.encode(x)
    assert set(made) == set(codec.planes())
    for name, plane in codec.planes().items():
        assert tuple(made[name].shape) == (2, 2, 128 // codec.group, *plane.shape)
        assert made[name].dtype == plane.dtype
    assert codec.decode(made).dtype == torch.float32
    assert relative(codec.decode(made), x) < 0.5


@EACH
def test_multiplies_as_it_decodes(kind: str) -> None:
    codec = codec_of(kind)
    x, q, p = vectors(128), vectors(3, seed=1), torch.rand(2, 2, 3, 128)
    codec.calibrate(x[:, :, : codec.wants])
    made = codec.encode(x)
    plain = codec.decode(made)
    torch.testing.assert_close(codec.scores(q, made), q @ plain.transpose(-1, -2), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(codec.weighted_sum(p, made), p @ plain, rtol=1e-4, atol=1e-4)
    apart = {name: torch.stack([plane, plane], 3)[:, :, :, 0] for name, plane in made.items()}  # not contiguous
    torch.testing.assert_close(codec.scores(q, apart), q @ plain.transpose(-1, -2), rtol=1e-4, atol=1e-4)


@EACH
@pytest.mark.parametrize("size", [0.0, 1e-4, 1e4, 1e9])
def test_no_vector_makes_it_fail(kind: str, size: float) -> None:
    """Zero vectors come back as zeros, tiny and huge ones as finite numbers."""
    codec = codec_of(kind)
    x = vectors(128) * size
    codec.calibrate(x[:, :, : codec.wants])
    out = codec.decode(codec.encode(x))
    assert bool(out.isfinite().all())
    if size == 0:
        assert not bool(out.any())
    elif size <= 1e4:
        assert relative(out, x) < 0.5


@EACH
def test_a_vector_that_is_not_a_number_spoils_no_other_group(kind: str) -> None:
    codec = codec_of(kind)
    x = vectors(128)
    codec.calibrate(x[:, :, : codec.wants])
    wanted = codec.decode(codec.encode(x))
    broken = x.clone()
    broken[0, 0, 100] = float("nan")
    broken[1, 1, 101, 3] = float("inf")
    out = codec.decode(codec.encode(broken))
    start = 100 // codec.group * codec.group
    keep = torch.ones(128, dtype=torch.bool)
    keep[start : start + max(codec.group, 2)] = False
    assert torch.equal(out[:, :, keep], wanted[:, :, keep])
    assert kind == "exact" or bool(out.isfinite().all())


# ---- the layer cache -----------------------------------------------------------------------------------------------


@EACH
@SETTINGS
def test_one_by_one_or_at_once_leaves_the_same_bits(kind: str, sinks: int, window: int) -> None:
    k, v = vectors(300), vectors(300, seed=1)
    once, steps, chunks = (layer_of(kind, sinks=sinks, window=window) for _ in range(3))
    once.store(k, v, 0)
    for t in range(300):
        steps.store(k[:, :, t : t + 1], v[:, :, t : t + 1], t)
    for t in range(0, 300, 37):
        chunks.store(k[:, :, t : t + 37], v[:, :, t : t + 37], t)
    for other in (steps, chunks):
        assert other.nbytes(300) == once.nbytes(300)
        for a, b in zip(other.read(300), once.read(300), strict=True):
            assert torch.equal(a, b)
    exact = once.slots(300).exact
    assert bool(exact[:sinks].all())
    assert bool(exact[300 - window :].all())
    assert kind == "exact" or not bool(exact.all()), "nothing was encoded"


@EACH
@SETTINGS
@pytest.mark.parametrize("scoring", [Scoring(scale=0.125), Scoring(scale=0.125, window=70), Scoring(scale=0.125, softcap=3.0)])
def test_its_attention_equals_decode_then_attend(kind: str, sinks: int, window: int, scoring: Scoring) -> None:
    layer = layer_of(kind, sinks=sinks, window=window)
    start = 0
    for seed, tokens in enumerate((90, 1, 60, 1, 1, 100, 1)):
        q, k, v = (vectors(tokens, heads, seed=10 * seed + i) for i, heads in enumerate((4, 2, 2)))
        frame = Frame(torch.arange(start, start + tokens)[None].expand(2, -1), start)
        before = layer.read(start)
        keys, values = (torch.cat((old.float(), new), 2) for old, new in zip(before, (k, v), strict=True))
        wanted = attend(q, keys, values, scoring, frame)
        torch.testing.assert_close(layer.attend(q, k, v, scoring, frame), wanted, rtol=1e-4, atol=1e-5)
        start += tokens


@EACH
@SETTINGS
def test_bytes_are_those_of_the_tensors(kind: str, sinks: int, window: int) -> None:
    layer = layer_of(kind, sinks=sinks, window=window)
    sizes = ModelConfig(vocab_size=61, n_layers=1, d_model=32, n_heads=4, n_kv_heads=2, head_dim=64, max_positions=320)
    for t in range(0, 300, 15):
        layer.store(vectors(15, seed=t), vectors(15, seed=t + 1), t)
        counted = layer.nbytes(t + 15)
        assert counted <= layer.allocated_nbytes
        assert counted == cache_nbytes(config_of(kind, sinks=sinks, window=window), sizes, t + 15, batch=2)
        if kind != "exact":
            assert counted == held_nbytes(layer)
    assert type(counted) is int
    assert layer_of(kind).nbytes(0) == 0


@EACH
@SETTINGS
def test_dropping_leaves_the_rest_as_it_was(kind: str, sinks: int, window: int) -> None:
    layer = layer_of(kind, sinks=sinks, window=window)
    layer.store(vectors(300), vectors(300, seed=1), 0)
    before = [x.clone() for x in layer.read(300)]
    layer.drop(sinks, 64, 300)
    for old, new in zip(before, layer.read(236), strict=True):
        assert torch.equal(torch.cat((old[:, :, :sinks], old[:, :, sinks + 64 :]), 2), new)
    kept = torch.cat((before[0][:, :, :sinks], before[0][:, :, sinks + 64 :]), 2)
    layer.store(vectors(30, seed=5), vectors(30, seed=6), 236)
    encoded = ~layer.slots(236).exact
    assert torch.equal(layer.read(266)[0][:, :, : 236 - window - 80], kept[:, :, : 236 - window - 80])
    assert kind == "exact" or int(encoded.sum()) >= 236 - sinks - window - 64


@EACH
def test_turning_moves_the_first_keys_only(kind: str) -> None:
    layer = layer_of(kind, sinks=4)
    layer.store(vectors(200), vectors(200, seed=1), 0)
    keys, values = (x.clone() for x in layer.read(200))
    layer.turn(4, lambda x: -x)
    turned, kept = layer.read(200)
    assert torch.equal(turned[:, :, :4], -keys[:, :, :4])
    assert torch.equal(turned[:, :, 4:], keys[:, :, 4:])
    assert torch.equal(kept, values)


@EACH
def test_it_keeps_a_copy_not_the_callers_tensor(kind: str) -> None:
    layer = layer_of(kind, replace(SHAPE, capacity=8), window=8)
    k, v = vectors(3), vectors(3, seed=1)
    layer.store(k, v, 0)
    before = [t.clone() for t in layer.read(3)]
    k.zero_()
    v.zero_()
    for kept, was in zip(layer.read(3), before, strict=True):
        assert torch.equal(kept, was)


# ---- in a model ----------------------------------------------------------------------------------------------------


@EACH
@pytest.mark.parametrize("chunk", [1, 3, 7, 64])
def test_stepwise_is_near_one_full_forward(kind: str, model: Transformer, ids: Tensor, chunk: int) -> None:
    out = in_chunks(model, KVCache.for_model(model, kind, batch=2), ids, chunk)
    assert relative(out, model(ids)) < tolerance(kind)


@EACH
def test_truncate_and_go_on_equals_a_fresh_cache(kind: str, model: Transformer, ids: Tensor) -> None:
    """What was forgotten leaves no trace (the window is long enough for nothing before the cut to be encoded by what follows)."""
    cache, fresh = (KVCache.for_model(model, kind, batch=2, window=64) for _ in range(2))
    model(ids[:, :100], cache)
    model(ids.flip(1)[:, :9], cache)
    cache.truncate(100)
    model(ids[:, :100], fresh)
    again, wanted = in_chunks(model, cache, ids[:, 100:], 3), in_chunks(model, fresh, ids[:, 100:], 3)
    torch.testing.assert_close(again, wanted, rtol=1e-4, atol=1e-4)
    assert cache.nbytes == fresh.nbytes


@EACH
def test_a_cut_inside_the_codes_keeps_what_is_before_it(kind: str, model: Transformer, ids: Tensor) -> None:
    cache = KVCache.for_model(model, kind, batch=2)
    model(ids, cache)
    before = [layer.read(101)[0].clone() for layer in cache.layers]
    cache.truncate(101)
    for layer, was in zip(cache.layers, before, strict=True):
        torch.testing.assert_close(layer.read(101)[0].float(), was.float())
    assert bool(in_chunks(model, cache, ids[:, 101:], 7).isfinite().all())


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
def test_copies_go_their_own_way(kind: str, model: Transformer, ids: Tensor) -> None:
    cache = KVCache.for_model(model, kind, batch=2)
    model(ids[:, :120], cache)
    twin = copy.deepcopy(cache)
    model(ids.flip(1)[:, :30], twin)
    other = KVCache.for_model(model, kind, batch=2)
    model(ids[:, :120], other)
    torch.testing.assert_close(model(ids[:, 120:], cache), model(ids[:, 120:], other), rtol=1e-4, atol=1e-4)


@EACH
def test_an_exact_cache_can_be_taken_over(kind: str, model: Transformer, ids: Tensor) -> None:
    """The same codes as if the text had been read into the new cache."""
    exact, direct, taken = KVCache.for_model(model, batch=2), *(KVCache.for_model(model, kind, batch=2) for _ in range(2))
    model(ids, exact)
    model(ids, direct)
    taken.take_over(exact)
    assert (taken.length, taken.nbytes) == (direct.length, direct.nbytes)
    for a, b in zip(taken.layers, direct.layers, strict=True):
        torch.testing.assert_close(a.read(150)[0].float(), b.read(150)[0].float(), rtol=1e-3, atol=1e-3)


@EACH
@pytest.mark.parametrize("start", ["int8", "turboquant"])
def test_another_codecs_cache_can_be_taken_over(kind: str, start: str, model: Transformer, ids: Tensor) -> None:
    """Encoded again from what the other one decodes to, and then it goes on."""
    old, new = KVCache.for_model(model, start, batch=2), KVCache.for_model(model, kind, batch=2, sinks=3, window=20)
    model(ids[:, :120], old)
    new.take_over(old)
    assert new.length == 120
    for source, made in zip(old.layers, new.layers, strict=True):
        stored = layer_of(kind, sinks=3, window=20)
        stored.store(*source.read(120), 0)
        for a, b in zip(made.read(120), stored.read(120), strict=True):
            assert torch.equal(a, b)
    assert relative(in_chunks(model, new, ids[:, 120:], 7), model(ids)[:, 120:]) < tolerance(kind) + 0.1


@EACH
@pytest.mark.parametrize("chunk", [1, 7])
def test_it_serves_sliding_windows(kind: str, ids: Tensor, chunk: int) -> None:
    config = ModelConfig(vocab_size=61, n_layers=2, d_model=32, n_heads=4, n_kv_heads=2, head_dim=64, max_positions=320, sliding_window=40)
    sliding = build_model(config).requires_grad_(False)
    out = in_chunks(sliding, KVCache.for_model(sliding, kind, batch=2), ids, chunk)
    assert relative(out, sliding(ids)) < tolerance(kind)


@EACH
@pytest.mark.parametrize(("width", "heads", "per_head"), [(20, 1, 3), (12, 3, 1), (80, 2, 4), (8, 1, 1)])
def test_odd_widths_and_any_number_of_heads(kind: str, width: int, heads: int, per_head: int) -> None:
    """Attention of one token and of several equals decode-then-attend, and the batch is as each of its rows alone."""
    shape = replace(SHAPE, heads=heads, width=width, batch=3)
    layer, alone = layer_of(kind, shape, sinks=2, window=5), layer_of(kind, replace(shape, batch=1), sinks=2, window=5)
    start = 0
    for seed, tokens in enumerate((90, 1, 40, 1)):
        q, k, v = (vectors(tokens, n, 3, width, 10 * seed + i) for i, n in enumerate((heads * per_head, heads, heads)))
        frame = Frame(torch.arange(start, start + tokens)[None].expand(3, -1), start)
        keys, values = (torch.cat((old.float(), new), 2) for old, new in zip(layer.read(start), (k, v), strict=True))
        wanted = attend(q, keys, values, Scoring(scale=0.2), frame)
        out = layer.attend(q, k, v, Scoring(scale=0.2), frame)
        torch.testing.assert_close(out, wanted, rtol=1e-4, atol=1e-5)
        row = alone.attend(q[1:2], k[1:2], v[1:2], Scoring(scale=0.2), replace(frame, positions=frame.positions[1:2]))
        torch.testing.assert_close(row, out[1:2], rtol=1e-4, atol=1e-5)
        start += tokens
    for a, b in zip(alone.read(start), layer.read(start), strict=True):
        assert torch.equal(a, b[1:2])


@EACH
@pytest.mark.parametrize("bad", ["zeros", "huge", "nan", "infinite"])
def test_no_history_makes_attention_fail(kind: str, bad: str) -> None:
    """Vectors of zeros, huge ones and such as are no numbers: what is encoded counts as finite, and later tokens find answers."""
    k, v = vectors(200), vectors(200, seed=1)
    value = {"zeros": 0.0, "huge": 1e30, "nan": float("nan"), "infinite": float("inf")}[bad]
    k[:, :, 100:103], v[:, :, 100:103, ::2] = value, value
    layer = layer_of(kind)
    layer.store(k, v, 0)
    for keys in layer.read(160):
        assert kind == "exact" or bool(keys.isfinite().all())
    for tokens in (1, 3):
        q, new_k, new_v = (vectors(tokens, heads, seed=20) * 1e-3 for heads in (4, 2, 2))
        out = layer.attend(q, new_k, new_v, Scoring(scale=0.125), Frame(torch.arange(200, 200 + tokens)[None].expand(2, -1), 200))
        assert bool(out.isfinite().all()) or (kind == "exact" and bad in ("nan", "infinite"))
