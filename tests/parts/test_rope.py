"""RoPE against a float64 oracle: scores depend on distance, pairings are permutations of each other."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from workbench.parts.positions import POSITIONS, Position

D = 16
STYLES = pytest.mark.parametrize("style", ["half", "interleaved"])


def rope(width: int = D, dtype: torch.dtype = torch.float32, **options: Any) -> Position:
    return POSITIONS.choose("rope", options).make(width=32, head_width=width, heads=2, max_positions=64, device="cpu", dtype=dtype)


def turned(position: Position, x: Tensor, at: Tensor) -> Tensor:
    return position.rotate(x, position.prepare(at))


def oracle(x: Tensor, at: Tensor, style: str, base: float, rotary: int) -> Tensor:
    """Pair by pair in float64, as complex numbers."""
    x, out = x.double(), x.double().clone()
    for i in range(rotary // 2):
        first, second = (i, i + rotary // 2) if style == "half" else (2 * i, 2 * i + 1)
        angle = at.double()[:, None, :] * base ** (-2 * i / rotary)
        pair = torch.complex(x[..., first], x[..., second]) * torch.polar(torch.ones_like(angle), angle)
        out[..., first], out[..., second] = pair.real, pair.imag
    return out


def random(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


@STYLES
@pytest.mark.parametrize(
    ("options", "rotary"), [({}, 16), ({"base": 1e5}, 16), ({"rotary_fraction": 0.25}, 4), ({"rotary_fraction": 0.4}, 6)]
)
def test_equals_the_complex_oracle(style: str, options: dict[str, float], rotary: int) -> None:
    at = torch.tensor([[0, 1, 2, 17, 63], [5, 4, 3, 2, 1]])
    x = random(2, 3, 5, D)
    wanted = oracle(x, at, style, options.get("base", 1e4), rotary)
    torch.testing.assert_close(turned(rope(dtype=torch.float64, style=style, **options), x, at), wanted, rtol=0, atol=1e-12)
    single = turned(rope(style=style, **options), x.float(), at)
    torch.testing.assert_close(single.double(), wanted, rtol=0, atol=2e-5)


def test_rotary_width_of_known_models() -> None:
    """Pythia turns a quarter of 64, Phi-2 0.4 of 80 (facts: 32); widths are even."""
    for width, fraction, rotary in ((64, 0.25, 16), (80, 0.4, 32), (64, 1.0, 64), (10, 0.5, 4), (16, 0.01, 2)):
        prepared = rope(width, rotary_fraction=fraction).prepare(torch.zeros(1, 1, dtype=torch.int64))
        assert prepared.cos.shape[-1] == rotary


@STYLES
def test_scores_do_not_change_when_both_positions_shift(style: str) -> None:
    q, k = random(1, 2, 1, 64, seed=1), random(1, 2, 1, 64, seed=2)
    exact, single = rope(64, torch.float64, style=style), rope(64, style=style)

    def score(position: Position, m: int, n: int, dtype: torch.dtype) -> Tensor:
        a, b = (turned(position, t.to(dtype), torch.tensor([[p]])) for t, p in ((q, m), (k, n)))
        return (a * b).sum(-1).double()

    wanted = score(exact, 7, 3, torch.float64)
    for offset in (1, 1000, 32_000, 100_000):
        torch.testing.assert_close(score(exact, 7 + offset, 3 + offset, torch.float64), wanted, rtol=0, atol=1e-9)
        # float32 angles as transformers computes them: some 1e-3 at 100,000 (facts §2.3), never more
        tolerance = 1e-4 + 1e-7 * offset
        torch.testing.assert_close(score(single, 7 + offset, 3 + offset, torch.float32), wanted, rtol=0, atol=tolerance)


@STYLES
def test_scores_do_change_with_the_distance(style: str) -> None:
    q = random(1, 1, 1, 64)
    position = rope(64, torch.float64, style=style)
    scores = [float((turned(position, q, torch.tensor([[p]])) * q).sum()) for p in (0, 1, 5, 50)]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] - scores[-1] > 1


@STYLES
def test_position_zero_is_the_identity_and_lengths_are_kept(style: str) -> None:
    x = random(1, 2, 4, D, dtype=torch.float32)
    position = rope(style=style)
    assert torch.equal(turned(position, x, torch.zeros(1, 4, dtype=torch.int64)), x)
    far = turned(position, x, torch.tensor([[3, 99, 5000, 100_000]]))
    torch.testing.assert_close(far.norm(dim=-1), x.norm(dim=-1), rtol=1e-5, atol=1e-5)
    assert not torch.allclose(far, x, atol=0.1)


def test_half_and_interleaved_agree_under_the_permutation() -> None:
    order = torch.cat((torch.arange(0, D, 2), torch.arange(1, D, 2)))  # [0, 2, 4, …, 1, 3, 5, …]
    q, k, at = random(1, 2, 5, D, seed=1), random(1, 2, 5, D, seed=2), torch.arange(5)[None]
    half, neighbours = rope(dtype=torch.float64, style="half"), rope(dtype=torch.float64, style="interleaved")
    torch.testing.assert_close(turned(half, q[..., order], at), turned(neighbours, q, at)[..., order], rtol=0, atol=1e-13)
    scores = turned(neighbours, q, at) @ turned(neighbours, k, at).mT
    torch.testing.assert_close(turned(half, q[..., order], at) @ turned(half, k[..., order], at).mT, scores, rtol=0, atol=1e-12)
    assert not torch.allclose(turned(half, q, at), turned(neighbours, q, at), atol=0.1), "wrong pairing must be a real difference"


@STYLES
def test_what_does_not_rotate_passes_unchanged(style: str) -> None:
    x = random(1, 2, 4, D, dtype=torch.float32)
    out = turned(rope(style=style, rotary_fraction=0.5), x, torch.arange(4)[None])
    assert torch.equal(out[..., 8:], x[..., 8:])
    assert not torch.equal(out[..., :8], x[..., :8])


def test_angles_are_exact_enough_in_half_precision_models() -> None:
    """bfloat16 positions are garbage by 1000; the angles here are float32 whatever the model is."""
    x = random(1, 1, 1, 64, dtype=torch.bfloat16)
    at = torch.tensor([[4099]])
    out = turned(rope(64, torch.bfloat16), x, at)
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out.double(), oracle(x, at, "half", 1e4, 64), rtol=0.01, atol=0.01)


def test_padding_does_not_matter_and_does_not_fail() -> None:
    x = random(1, 1, 3, D, dtype=torch.float32)
    out = turned(rope(), x, torch.tensor([[-1, -1, 0]]))
    assert out.isfinite().all()
    assert torch.equal(out[:, :, 2], x[:, :, 2])


def test_known_angle() -> None:
    out = turned(rope(2, torch.float64), torch.tensor([[[[1.0, 0.0]]]], dtype=torch.float64), torch.tensor([[2]]))
    assert out.flatten().tolist() == pytest.approx([math.cos(2), math.sin(2)])
