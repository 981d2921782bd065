"""TurboQuant against its theory: distortion, gain, variance, and what must never happen."""

from __future__ import annotations

import math
from functools import cache
from typing import get_args

import pytest
import torch
from torch import Tensor

from workbench.numerics.codebooks import distortion
from workbench.numerics.packing import pack, unpack
from workbench.numerics.rotation import gaussian, haar
from workbench.numerics.turboquant import (
    LARGEST,
    Rule,
    Sketch,
    decode,
    decode_signs,
    encode,
    encode_by_torch,
    encode_signs,
    rotation,
    sketch,
    sketch_factor,
)

RULES = get_args(Rule)


def unit(count: int, width: int, seed: int = 0) -> Tensor:
    x = torch.randn(count, width, generator=torch.Generator().manual_seed(seed))
    return x / x.norm(dim=-1, keepdim=True)


def again(x: Tensor, bits: int, rule: Rule = "unbiased", pi: Tensor | None = None) -> Tensor:
    pi = rotation(x.shape[-1]) if pi is None else pi
    return decode(*encode(x, bits, rule, pi), bits, pi)


def error(x: Tensor, y: Tensor) -> float:
    return float((x - y).square().sum(-1).mean())


@pytest.mark.parametrize("width", [64, 128])
@pytest.mark.parametrize("bits", range(1, 9))
def test_distortion_is_the_theorys(width: int, bits: int) -> None:
    x = unit(4000, width)
    found = error(x, again(x, bits, "plain"))
    assert found == pytest.approx(distortion(bits, width), rel=0.03)
    assert 4.0**-bits < found < 2.7207 * 4.0**-bits


@cache
def rotations(width: int) -> Tensor:
    """300 of them; drawn together, which takes a tenth of the time."""
    q, r = torch.linalg.qr(torch.randn(300, width, width, generator=torch.Generator().manual_seed(9)))
    return q * r.diagonal(dim1=-2, dim2=-1).sign()[:, None]


@pytest.mark.parametrize("kept", [1, 2, 4, 64], ids=["one-hot", "two", "four", "constant"])
@pytest.mark.parametrize("bits", [2, 3, 4])
def test_no_vector_is_a_bad_one(kept: int, bits: int) -> None:
    """Sparse and constant vectors, for which a Hadamard rotation costs up to 2.6 times the error."""
    x = torch.zeros(1, 64)
    x[0, :: 64 // kept] = kept**-0.5
    found = [error(x, again(x, bits, "plain", pi)) for pi in rotations(64)]
    assert sum(found) / len(found) == pytest.approx(distortion(bits, 64), rel=0.08)


@pytest.mark.parametrize("bits", range(1, 9))
def test_the_scale_rules_do_what_they_say(bits: int) -> None:
    x = unit(2000, 64, 1)
    gain = {rule: (x * again(x, bits, rule)).sum(-1) for rule in RULES}
    assert float(gain["plain"].mean()) == pytest.approx(1 - distortion(bits, 64), abs=0.01)
    assert (gain["unbiased"] - 1).abs().max() < 2e-3
    assert (again(x, bits, "matched").norm(dim=-1) - 1).abs().max() < 2e-3


def test_length_and_sign_carry_over() -> None:
    x = unit(50, 64, 2)
    for factor in (0.01, 3.0, 1000.0):
        torch.testing.assert_close(again(factor * x, 4), factor * again(x, 4), rtol=1e-3, atol=1e-3 * factor)
    assert torch.equal(again(-x, 4), -again(x, 4))
    assert torch.equal(encode(3 * x, 4)[0], encode(x, 4)[0])


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("bits", [1, 4, 8])
def test_a_zero_vector_stays_exactly_zero(rule: Rule, bits: int) -> None:
    x = torch.cat((torch.zeros(1, 64), unit(1, 64)))
    y = again(x, bits, rule)
    assert (y[0] == 0).all()
    assert y[1].norm() > 0.5


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("norm", [1e-4, 1.0, 1e4, 1e30])
@pytest.mark.parametrize("rule", RULES)
def test_any_length_stays_finite(dtype: torch.dtype, norm: float, rule: Rule) -> None:
    x = (unit(20, 64).double() * norm).clamp(-torch.finfo(dtype).max, torch.finfo(dtype).max).to(dtype)
    y = again(x, 4, rule)
    assert torch.isfinite(y).all()
    cosine = torch.cosine_similarity(x.double(), y.double(), -1)
    assert cosine.min() > 0.97
    if norm < 1e5:
        assert error(x.double() / norm, y.double() / norm) < 0.03


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_spoils_no_other_vector(bad: float) -> None:
    x = unit(5, 64)
    spoilt = x.clone()
    spoilt[2, 7] = bad
    codes, scale = encode(spoilt, 4)
    y, clean = decode(codes, scale, 4, rotation(64)), again(x, 4)
    others = [0, 1, 3, 4]
    assert torch.equal(y[others], clean[others])
    assert torch.isfinite(y).all()
    assert scale.max() <= LARGEST


@pytest.mark.parametrize("width", [1, 20, 24, 33, 80])
def test_odd_widths(width: int) -> None:
    x = torch.randn(500, width, generator=torch.Generator().manual_seed(4))
    codes, scale = encode(x, 4)
    assert codes.shape == (500, -(-width // 8) * 4)
    assert (x - decode(codes, scale, 4, rotation(width))).square().sum() / x.square().sum() < 0.0106


@pytest.mark.parametrize("bits", [1, 4, 7, 8])
def test_codes_do_not_depend_on_how_many_come_at_once(bits: int) -> None:
    x = torch.randn(2, 3, 67, 64, generator=torch.Generator().manual_seed(8))
    codes, scale = encode(x, bits)
    for size in (1, 5, 16):
        parts = [encode(x[:, :, at : at + size], bits) for at in range(0, 67, size)]
        assert torch.equal(torch.cat([c for c, _ in parts], 2), codes)
        assert torch.equal(torch.cat([s for _, s in parts], 2), scale)
    assert torch.equal(encode(x[1:, 1:2], bits)[0], codes[1:, 1:2])


# ---- one bit of each coordinate for a sketch of what is left ------------------------------------------------------------


def inner_products(kind: Sketch, bits: int, draws: int = 60, pairs: int = 400, width: int = 64) -> Tensor:
    """⟨y, x̃⟩ of pairs of orthogonal unit vectors, for fresh rotations and sketches: [draws, pairs]."""
    x, y = unit(pairs, width, 11), unit(pairs, width, 12)
    y = y - (x * y).sum(-1, keepdim=True) * x
    y = y / y.norm(dim=-1, keepdim=True)
    found = []
    for draw in range(draws):
        pi = haar(width, 1000 + draw)
        s = (haar if kind == "orthogonal" else gaussian)(width, 5000 + draw)
        near = again(x, bits - 1, "plain", pi) if bits > 1 else torch.zeros_like(x)
        near = near + decode_signs(*encode_signs(x - near, s, kind), s)
        found.append((near * y).sum(-1))
    return torch.stack(found)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_a_gaussian_sketch_is_unbiased_and_as_noisy_as_the_theory_says(bits: int) -> None:
    found = inner_products("gaussian", bits)
    assert abs(float(found.mean())) < 4 * float(found.std()) / found.numel() ** 0.5
    left = distortion(bits - 1, 64) if bits > 1 else 1.0
    assert 64 * float(found.square().mean()) == pytest.approx(math.pi / 2 * left, rel=0.05)


def test_an_orthogonal_sketch_is_unbiased_and_less_noisy() -> None:
    found = inner_products("orthogonal", 4)
    assert abs(float(found.mean())) < 4 * float(found.std()) / found.numel() ** 0.5
    assert 64 * float(found.square().mean()) == pytest.approx(0.0184, rel=0.07)


@pytest.mark.parametrize("kind", get_args(Sketch))
def test_aligned_vectors_keep_their_length_on_average(kind: Sketch) -> None:
    """The scale that belongs to the other kind of sketch would miss this by a factor of 1.25."""
    x = unit(400, 64, 13)
    gains = []
    for draw in range(20):
        s = (haar if kind == "orthogonal" else gaussian)(64, 700 + draw)
        gains.append((decode_signs(*encode_signs(x, s, kind), s) * x).sum(-1))
    gain = torch.stack(gains)
    assert float(gain.mean()) == pytest.approx(1.0, abs=4 * float(gain.std()) / (gain.numel() / 64) ** 0.5)


def test_the_sketch_costs_more_than_it_gives() -> None:
    """Four bits: the sketch's noise is several times that of four plain bits. What the paper promises is only the lack of bias."""
    x, y = unit(2000, 64, 11), unit(2000, 64, 14)
    plain = (y * (again(x, 4) - x)).sum(-1).square().mean()
    assert inner_products("gaussian", 4, draws=20).square().mean() > 4 * plain


def test_sketch_and_rotation_are_independent() -> None:
    assert float((sketch(64, "orthogonal") - haar(64)).abs().max()) > 0.1
    overlap = (sketch(64, "gaussian") / 8 * rotation(64)).sum()
    assert abs(float(overlap)) < 4
    assert sketch_factor(64, "orthogonal") == pytest.approx(0.156054, abs=1e-6)
    assert sketch_factor(128, "orthogonal") == pytest.approx(0.110562, abs=1e-6)
    assert sketch_factor(64, "gaussian") == pytest.approx(math.sqrt(math.pi / 2) / 64)


def test_signs_take_one_bit() -> None:
    s = sketch(64, "orthogonal")
    x = unit(3, 64)
    signs, scale = encode_signs(x, s, "orthogonal")
    assert signs.shape == (3, 8)
    assert scale.shape == (3,)
    assert torch.equal(pack(unpack(signs, 1, 64), 1), signs)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize("width", [64, 20])
def test_compiled_or_not_the_bytes_are_the_same(bits: int, rule: Rule, width: int) -> None:
    x = torch.randn(700, width, generator=torch.Generator().manual_seed(bits)) * torch.logspace(-6, 6, 700)[:, None]
    x[3], x[4, 1], x[5, 2], x[6, 3] = 0.0, float("nan"), float("inf"), -float("inf")
    found, wanted = encode(x, bits, rule), encode_by_torch(x, bits, rule, rotation(width))
    assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))
    grid = encode(x.view(7, 100, width).transpose(0, 1), bits, rule)
    assert all(torch.equal(a.transpose(0, 1).flatten(0, 1), b) for a, b in zip(grid, wanted, strict=True))
