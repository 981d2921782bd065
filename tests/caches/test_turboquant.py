"""The kind `turboquant`: its bytes, its attention on codes, its centring, and what it does in a cache."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from workbench.caches import KV_CODECS, CacheConfig, CodecShape, KVCache
from workbench.caches.base import Codec
from workbench.core.fields import describe, field_problems
from workbench.model import ModelConfig, Transformer, build_model
from workbench.numerics.codebooks import distortion

CPU = torch.device("cpu")
VARIANTS: list[dict[str, Any]] = [
    {}, {"bits": 3}, {"bits": 8, "centred": False}, {"bits": 1, "scale": "plain"}, {"variant": "prod"},
    {"variant": "prod", "bits": 1, "sketch": "orthogonal"}, {"variant": "prod", "bits": 3, "sketch": "orthogonal", "centred": False},
]  # fmt: skip


def made(width: int = 64, heads: int = 3, **options: Any) -> Codec:
    return KV_CODECS.choose("turboquant", options).make(shape=CodecShape("keys", heads, width, 0, 30, torch.float32, CPU))


def some(tokens: int, width: int = 64, seed: int = 0, batch: int = 2) -> Tensor:
    return torch.randn(batch, 3, tokens, width, generator=torch.Generator().manual_seed(seed))


def apart(a: Tensor, b: Tensor) -> float:
    assert a.shape == b.shape
    return float((a - b).norm() / b.norm())


@pytest.mark.parametrize("options", VARIANTS, ids=str)
@pytest.mark.parametrize("width", [64, 20])
def test_attention_on_codes_equals_decoding_first(options: dict[str, Any], width: int) -> None:
    codec = made(width, **options)
    x = some(100, width) + some(1, width, 5)
    codec.calibrate(x[:, :, :64])
    planes = codec.encode(x)
    assert {name: (p.shape[3:], p.dtype) for name, p in planes.items()} == {n: (p.shape, p.dtype) for n, p in codec.planes().items()}
    decoded = codec.decode(planes)
    q, p = some(4, width, 1), torch.softmax(torch.randn(2, 3, 4, 100), -1)
    assert apart(codec.scores(q, planes), q @ decoded.transpose(-1, -2)) < 1e-5
    assert apart(codec.weighted_sum(p, planes), p @ decoded) < 1e-5


@pytest.mark.parametrize("options", VARIANTS, ids=str)
def test_one_by_one_or_at_once(options: dict[str, Any]) -> None:
    codec = made(**options)
    x = some(70)
    codec.calibrate(x[:, :, :64])
    whole = codec.encode(x)
    for size in (1, 16):
        parts = [codec.encode(x[:, :, at : at + size]) for at in range(0, 70, size)]
        assert all(torch.equal(torch.cat([part[name] for part in parts], 2), whole[name]) for name in whole)


@pytest.mark.parametrize("bits", range(1, 9))
def test_a_vector_takes_its_bits_and_a_scale(bits: int) -> None:
    assert sum(p.nbytes for p in made(bits=bits).planes().values()) == 64 * bits // 8 + 2
    assert sum(p.nbytes for p in made(bits=bits, width=20).planes().values()) == 24 * bits // 8 + 2
    sketched = made(bits=bits, variant="prod")
    assert sum(p.nbytes for p in sketched.planes().values()) == 64 * bits // 8 + (4 if bits > 1 else 2)


def test_a_common_part_costs_nothing_once_centred() -> None:
    """Keys with four channels far from zero, as some families have them: without centring the error is 25 times as large."""
    x = some(512, batch=1)
    x[..., ::16] += 20.0
    spread = x - x.mean(2, keepdim=True)
    errors = {}
    for centred in (True, False):
        codec = made(centred=centred)
        codec.calibrate(x[:, :, :64])
        errors[centred] = float((codec.decode(codec.encode(x)) - x).square().sum() / spread.square().sum())
    assert errors[True] == pytest.approx(distortion(4, 64), rel=0.1)
    assert errors[False] > 15 * errors[True]


def test_the_mean_is_per_head_and_sequence_and_forgotten() -> None:
    codec = made()
    x = some(80)
    plain = codec.encode(x)
    codec.calibrate(x[:, :, :64])
    assert not torch.equal(codec.encode(x)["codes"], plain["codes"])
    assert torch.equal(codec.decode(codec.encode(x))[1:], _alone(x[1:]))
    codec.forget()
    assert torch.equal(codec.encode(x)["codes"], plain["codes"])


def _alone(x: Tensor) -> Tensor:
    codec = made()
    codec.calibrate(x[:, :, :64])
    return codec.decode(codec.encode(x))


@pytest.mark.parametrize("variant", ["mse", "prod"])
def test_zeros_and_what_is_no_number(variant: str) -> None:
    codec = made(variant=variant)
    x = some(64)
    x[0, 0, 3, 5], x[0, 0, 4, 5], x[1, 2, 7] = float("nan"), float("inf"), 0.0
    codec.calibrate(x)
    planes = codec.encode(x)
    assert torch.isfinite(codec.decode(planes)).all()
    clean = x.clone()
    clean[0, 0, 3, 5], clean[0, 0, 4, 5] = 0.0, 0.0
    others = codec.encode(clean)
    assert all(torch.equal(planes[name][1], others[name][1]) for name in planes)
    empty = made(variant=variant)
    empty.calibrate(torch.zeros(2, 3, 64, 64))
    assert (empty.decode(empty.encode(torch.zeros(2, 3, 64, 64))) == 0).all()


def test_copies_share_the_rotation_but_not_the_mean() -> None:
    codec = made()
    codec.calibrate(some(64))
    twin = copy.deepcopy(codec)
    assert all(a is b for a, b in zip(codec.constants(), twin.constants(), strict=True))
    twin.forget()
    x = some(5)
    assert not torch.equal(codec.encode(x)["codes"], twin.encode(x)["codes"])


def test_options_are_checked_and_explained() -> None:
    kind = KV_CODECS["turboquant"].options
    assert {i.name for i in describe(kind) if i.advanced} == {"scale", "centred", "variant", "sketch"}
    assert field_problems(kind(bits=9))[0].message == "Bits is 9; the most is 8 bits."
    assert field_problems(kind()) == []


# ---- in a cache ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model() -> Transformer:
    config = ModelConfig(vocab_size=61, n_layers=3, d_model=48, n_heads=6, n_kv_heads=3, head_dim=64, max_positions=2048)
    return build_model(config).requires_grad_(False)


def with_bits(model: Transformer, keys: int, values: int, **more: Any) -> KVCache:
    codec, value_codec = (KV_CODECS.choose("turboquant", {"bits": b}) for b in (keys, values))
    return KVCache.from_config(model, CacheConfig(codec=codec, value_codec=value_codec, **more))


@pytest.mark.parametrize(("bits", "least"), [(4, 3.7), (3, 4.9), (2, 7.0)])
def test_bytes_against_float16_at_2048_tokens(model: Transformer, bits: int, least: float) -> None:
    """Everything included: scales, means, and the rotation, which thirty layers would share and here three do."""
    cache = with_bits(model, bits, bits)
    model(torch.randint(61, (1, 2047)), cache)
    model(torch.randint(61, (1, 1)), cache)
    fixed = sum(t.nbytes for t in {id(t): t for layer in cache.layers for t in layer.constants()}.values())
    assert 16_000 < fixed < 17_000
    per_layer = (cache.nbytes - fixed) / 3
    assert per_layer == 2 * 3 * (2048 * (64 * bits // 8 + 2) + 64 * 2)
    assert 30 * 2 * 3 * 2048 * 64 * 2 / (30 * per_layer + fixed) > least


def test_more_bits_are_closer_to_the_exact_cache(model: Transformer) -> None:
    ids = torch.randint(61, (1, 200), generator=torch.Generator().manual_seed(3))
    wanted = model(ids)[:, -40:]
    found = []
    for bits in (2, 4, 8):
        cache = with_bits(model, bits, bits)
        model(ids[:, :160], cache)
        out = torch.cat([model(ids[:, t : t + 1], cache) for t in range(160, 200)], 1)
        assert int((~cache.layers[0].slots(200).exact).sum()) == 192
        found.append(apart(out, wanted))
    assert found[0] > 2 * found[1] > 8 * found[2]
    assert found[2] < 0.01
