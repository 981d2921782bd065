"""ALiBi, sinusoidal, learned and no positions against their formulas."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from workbench.parts.positions import POSITIONS
from workbench.parts.positions.alibi import slopes
from workbench.parts.positions.sinusoidal import sinusoids


def make(kind: str, width: int = 16, heads: int = 2, max_positions: int = 32, **options: Any) -> Any:
    return POSITIONS.choose(kind, options).make(
        width=width, head_width=width // heads, heads=heads, max_positions=max_positions, device="cpu", dtype=torch.float32
    )


# ---- ALiBi ---------------------------------------------------------------------------------------------------------


def test_slopes_of_a_power_of_two() -> None:
    assert slopes(8) == [2.0**-h for h in range(1, 9)]
    assert slopes(16)[:2] == pytest.approx([2**-0.5, 0.5])
    assert slopes(1) == [2.0**-8]


def test_slopes_of_twelve_heads() -> None:
    found = slopes(12)
    assert found[:8] == slopes(8)
    assert found[8:] == pytest.approx([0.707107, 0.353553, 0.176777, 0.088388], abs=1e-6)


@pytest.mark.parametrize("heads", [1, 2, 3, 6, 12, 14, 25, 71])
def test_every_head_has_its_own_slope(heads: int) -> None:
    found = slopes(heads)
    assert len(found) == len(set(found)) == heads
    assert all(0 < m < 1 for m in found)


def test_bias_is_the_slope_times_the_distance() -> None:
    bias = make("alibi", heads=4).bias(torch.arange(3, 6)[None], torch.arange(6)[None])
    assert bias.shape == (1, 4, 3, 6)
    for h, m in enumerate(slopes(4)):
        for t, i in enumerate(range(3, 6)):
            assert bias[0, h, t, : i + 1].tolist() == pytest.approx([-m * (i - j) for j in range(i + 1)])


def test_bias_is_equal_on_diagonals_wherever_the_text_starts() -> None:
    alibi = make("alibi", heads=3)
    near, far = (alibi.bias(torch.arange(s, s + 5)[None], torch.arange(s, s + 5)[None]) for s in (0, 100_000))
    assert torch.equal(near, far)
    for offset in range(-4, 5):
        diagonal = near.diagonal(offset, 2, 3)
        assert torch.equal(diagonal, diagonal[..., :1].expand_as(diagonal))


def test_slopes_follow_the_module_but_not_the_file() -> None:
    alibi = make("alibi", heads=4)
    assert alibi.state_dict() == {}
    assert alibi.to("meta").slopes.device.type == "meta"


# ---- sinusoids -----------------------------------------------------------------------------------------------------


def test_known_values() -> None:
    """Facts §2.1."""
    waves = sinusoids(torch.arange(3), 512, 10000.0)
    assert waves[0].tolist() == [0.0, 1.0] * 256
    assert waves[1, :4].tolist() == pytest.approx([0.841471, 0.540302, 0.821856, 0.569695], abs=1e-6)
    assert waves.square().sum(-1).tolist() == pytest.approx([256.0] * 3, rel=1e-5)


def test_products_depend_on_the_distance_only() -> None:
    waves = sinusoids(torch.arange(1000), 64, 10000.0).double()
    for distance in (1, 7, 100):
        products = (waves[:-distance] * waves[distance:]).sum(-1)
        assert float(products.max() - products.min()) < 1e-4


def test_a_shift_is_a_rotation_of_each_pair() -> None:
    waves = sinusoids(torch.tensor([40, 45]), 32, 10000.0).double().view(2, 16, 2)
    angles = 5 * 10000.0 ** (-torch.arange(16, dtype=torch.float64) / 16)
    sin, cos = waves[0, :, 0], waves[0, :, 1]
    wanted = torch.stack((sin * angles.cos() + cos * angles.sin(), cos * angles.cos() - sin * angles.sin()), -1)
    torch.testing.assert_close(waves[1], wanted, rtol=0, atol=1e-6)


def test_far_positions_are_still_exact() -> None:
    waves = sinusoids(torch.tensor([100_003]), 8, 10000.0)[0]
    wanted = [f(100_003 * 10000.0 ** (-2 * i / 8)) for i in range(4) for f in (math.sin, math.cos)]
    assert waves.tolist() == pytest.approx(wanted, abs=1e-6)


def test_an_odd_width_ends_with_a_sine() -> None:
    waves = sinusoids(torch.arange(4), 7, 10000.0)
    assert waves.shape == (4, 7)
    assert waves[:, 6].tolist() == pytest.approx([math.sin(p * 10000.0 ** (-6 / 7)) for p in range(4)], abs=1e-7)


@pytest.mark.parametrize(("scaled", "factor"), [(True, 4.0), (False, 1.0)])
def test_embeddings_are_scaled_by_the_root_of_the_width(scaled: bool, factor: float) -> None:
    x = torch.randn(1, 3, 16)
    at = torch.tensor([[-1, 0, 9]])
    out = make("sinusoidal", scale_embedding=scaled).embed(x, at)
    torch.testing.assert_close(out, factor * x + sinusoids(at.clamp(min=0), 16, 10000.0), rtol=1e-6, atol=1e-6)


# ---- learned and none ----------------------------------------------------------------------------------------------


def test_learned_adds_its_row() -> None:
    learned = make("learned")
    torch.nn.init.normal_(learned.weight)
    x, at = torch.randn(2, 3, 16), torch.tensor([[0, 1, 31], [-1, 0, 7]])
    assert torch.equal(learned.embed(x, at)[0], x[0] + learned.weight[at[0]])
    assert torch.equal(learned.embed(x, at)[1, 1:], x[1, 1:] + learned.weight[at[1, 1:]])
    assert learned.context_bound


def test_only_learned_positions_end() -> None:
    assert [k for k in POSITIONS.names() if make(k).context_bound] == ["learned"]


@pytest.mark.parametrize("kind", ["none", "rope", "alibi"])
def test_relative_kinds_leave_the_embeddings_alone(kind: str) -> None:
    x = torch.randn(1, 3, 16)
    assert make(kind).embed(x, torch.arange(3)[None]) is x


@pytest.mark.parametrize("kind", ["none", "sinusoidal", "learned", "alibi"])
def test_absolute_kinds_leave_queries_and_keys_alone(kind: str) -> None:
    position = make(kind)
    heads: Tensor = torch.randn(1, 2, 3, 8)
    assert position.rotate(heads, position.prepare(torch.arange(3)[None])) is heads
    assert (position.bias is not None) == (kind == "alibi")
