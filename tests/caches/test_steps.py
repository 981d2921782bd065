"""The kinds `int4` and `kivi`: their bytes, their errors beside what theory and papers say, attention on codes, every option."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from workbench.caches import KV_CODECS, CacheConfig, CodecShape, LayerShape
from workbench.caches.base import Codec, Role
from workbench.caches.plan import LayerPlan, build_layer
from workbench.core.fields import field_problems
from workbench.numerics.attention import Frame, Scoring, attend

CPU = torch.device("cpu")
INT4: list[dict[str, Any]] = [
    {"rotated": rotated, "group_size": size, "range": span}
    for rotated in (False, True)
    for size in (32, None, 8)
    for span in ("symmetric", "min-max")
]


def made(kind: str, width: int = 64, role: Role = "keys", **options: Any) -> Codec:
    return KV_CODECS.choose(kind, options).make(shape=CodecShape(role, 3, width, 0, 30, torch.float32, CPU))


def some(tokens: int, width: int = 64, seed: int = 0, batch: int = 2) -> Tensor:
    return torch.randn(batch, 3, tokens, width, generator=torch.Generator().manual_seed(seed))


def lost(codec: Codec, x: Tensor) -> float:
    """‖x − x̃‖² / ‖x − its mean over tokens‖²."""
    informative = x - x.mean(2, keepdim=True)
    return float((codec.decode(codec.encode(x)) - x).square().sum() / informative.square().sum())


def nbytes(codec: Codec) -> float:
    return sum(plane.nbytes for plane in codec.planes().values()) / codec.group


@pytest.mark.parametrize("options", INT4, ids=str)
@pytest.mark.parametrize("width", [64, 80, 20])
def test_attention_on_codes_equals_decoding_first(options: dict[str, Any], width: int) -> None:
    codec = made("int4", width, **options)
    planes = codec.encode(some(300, width) + some(1, width, 5))
    assert {name: (p.shape[3:], p.dtype) for name, p in planes.items()} == {n: (p.shape, p.dtype) for n, p in codec.planes().items()}
    decoded = codec.decode(planes)
    q, p = some(4, width, 1), torch.softmax(torch.randn(2, 3, 4, 300), -1)
    torch.testing.assert_close(codec.scores(q, planes), q @ decoded.transpose(-1, -2), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(codec.weighted_sum(p, planes), p @ decoded, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("kind", "options"), [*(("int4", o) for o in INT4), ("kivi", {"bits": 2}), ("kivi", {"bits": 3})], ids=str)
@pytest.mark.parametrize("role", ["keys", "values"])
def test_every_option_gives_the_same_codes_in_pieces(kind: str, options: dict[str, Any], role: Role) -> None:
    codec = made(kind, role=role, **options)
    x = some(96)
    whole = codec.encode(x)
    for size in (codec.group, 3 * codec.group):
        parts = [codec.encode(x[:, :, at : at + size]) for at in range(0, 96, size)]
        for name, plane in whole.items():
            assert torch.equal(torch.cat([part[name] for part in parts], 2), plane)


@pytest.mark.parametrize(
    ("kind", "options", "role", "wanted"),
    [
        ("int4", {}, "keys", 36), ("int4", {"range": "min-max"}, "keys", 40), ("int4", {"group_size": None}, "values", 34),
        ("int4", {"group_size": None, "range": "min-max"}, "keys", 36), ("kivi", {}, "keys", 40), ("kivi", {}, "values", 40),
        ("kivi", {"bits": 2}, "keys", 24), ("kivi", {"bits": 2}, "values", 24),
    ],
)  # fmt: skip
def test_a_vector_of_64_takes(kind: str, options: dict[str, Any], role: Role, wanted: int) -> None:
    assert nbytes(made(kind, role=role, **options)) == wanted


@pytest.mark.parametrize(("width", "count"), [(64, 2), (80, 5), (48, 2), (20, 1), (8, 1), (128, 4)])
def test_groups_divide_the_width(width: int, count: int) -> None:
    """The most values up to 32, in whole eights, so that none is stored for nothing but the padding to a multiple of eight."""
    assert nbytes(made("int4", width)) == -(-width // 8) * 4 + 2 * count


@pytest.mark.parametrize(
    ("kind", "options", "error"),
    [
        ("int4", {}, 7.4e-3), ("int4", {"range": "min-max", "group_size": None}, 8.1e-3), ("int4", {"rotated": True}, 7.4e-3),
        ("kivi", {}, 6.1e-3), ("kivi", {"bits": 2}, 1.5e-1),
    ],
)  # fmt: skip
def test_errors_of_random_vectors_are_those_worked_out_elsewhere(kind: str, options: dict[str, Any], error: float) -> None:
    assert lost(made(kind, **options), some(1024)) == pytest.approx(error, rel=0.06)


def test_keys_by_channel_do_not_mind_what_they_share() -> None:
    """Four channels far from zero, as some families' keys have them: within a vector they cost the others most of their steps."""
    x = some(512)
    x[..., ::16] += 20.0
    assert lost(made("kivi"), x) == pytest.approx(lost(made("kivi"), some(512)), rel=0.05)
    assert lost(made("int4"), x) > 20 * lost(made("kivi"), x)


def test_a_rotation_spreads_large_channels_over_all() -> None:
    x = some(512)
    x[..., ::16] *= 8**0.5
    errors = [lost(made("int4", rotated=rotated, group_size=None), x) for rotated in (False, True)]
    assert errors[1] < 0.6 * errors[0]


def test_options_out_of_bounds_are_refused() -> None:
    for kind, options in (("int4", {"group_size": 4}), ("int4", {"range": "wide"}), ("kivi", {"bits": 1})):
        assert [problem.field for problem in field_problems(KV_CODECS.choose(kind, options).options)] == list(options)


@pytest.mark.parametrize("rotated", [False, True])
def test_one_group_is_attended_to_in_one_call(rotated: bool) -> None:
    choice = KV_CODECS.choose("int4", {"rotated": rotated, "group_size": None})
    shape = LayerShape(0, 1, 2, 3, 64, 400, torch.float32, CPU)
    layer = build_layer(LayerPlan(choice, choice), shape, CacheConfig(codec=choice, value_codec=choice, sinks=2, window=20))
    layer.store(some(350), some(350, seed=1), 0)
    q, k, v = torch.randn(2, 6, 1, 64), some(1, seed=3), some(1, seed=4)
    frame = Frame(torch.full((2, 1), 350), 350)
    keys, values = (torch.cat((old, new), 2) for old, new in zip(layer.read(350), (k, v), strict=True))
    wanted = attend(q, keys, values, Scoring(scale=0.125), frame)
    torch.testing.assert_close(layer.attend(q, k, v, Scoring(scale=0.125), frame), wanted, rtol=1e-4, atol=1e-5)
