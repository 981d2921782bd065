"""Norms against torch and against their formulas in float64."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from workbench.parts.norms import NORMS

C = 24


def make(kind: str, dtype: torch.dtype = torch.float32, **options: Any) -> Any:
    norm = NORMS.choose(kind, options).make(width=C, device="cpu", dtype=dtype)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in norm.parameters():
            parameter.add_(torch.randn(C, generator=generator) * 0.3)
    return norm


def sample(*shape: int, dtype: torch.dtype = torch.float32, scale: float = 1.0) -> Tensor:
    x = torch.randn(*shape, C, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return (x * scale + 0.5 * scale).to(dtype)


def formula(norm: Any, x: Tensor) -> Tensor:
    """float64, from the parameters as they are stored."""
    x, gain = x.double(), norm.weight.double()
    if type(norm).__name__ == "LayerNorm":
        y = (x - x.mean(-1, keepdim=True)) / (x.var(-1, correction=0, keepdim=True) + norm.eps).sqrt() * gain
        return y if norm.bias is None else y + norm.bias.double()
    return x / (x.square().mean(-1, keepdim=True) + norm.eps).sqrt() * (gain + 1 if norm.unit_offset else gain)


CASES = [("layernorm", {}), ("layernorm", {"bias": False}), ("layernorm", {"eps": 0.1}),
         ("rmsnorm", {}), ("rmsnorm", {"unit_offset": True}), ("rmsnorm", {"eps": 0.1})]  # fmt: skip
EACH = pytest.mark.parametrize(("kind", "options"), CASES)


@EACH
@pytest.mark.parametrize("shape", [(2, 5), (1, 1), (1,), (1, 7)])
@pytest.mark.parametrize("grad", [False, True])
def test_equals_the_formula(kind: str, options: dict[str, Any], shape: tuple[int, ...], grad: bool) -> None:
    norm, x = make(kind, **options), sample(*shape)
    with torch.set_grad_enabled(grad):
        out = norm(x)
    assert out.shape == x.shape
    torch.testing.assert_close(out.detach().double(), formula(norm, x), rtol=1e-5, atol=1e-6)


@EACH
@pytest.mark.parametrize("weights", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("inputs", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(2, 5), (1, 1)])
def test_precisions_mix_and_the_output_is_the_inputs(
    kind: str, options: dict[str, Any], weights: torch.dtype, inputs: torch.dtype, shape: tuple[int, ...]
) -> None:
    norm, x = make(kind, weights, **options), sample(*shape, dtype=inputs)
    with torch.no_grad():
        out = norm(x)
    assert out.dtype == inputs
    tolerance = 1e-5 if inputs == torch.float32 else 2**-8  # half a unit in the last place, nothing more: float32 inside
    torch.testing.assert_close(out.double(), formula(norm, x), rtol=tolerance, atol=tolerance)


def test_gains_around_zero_keep_their_digits_in_half_precision() -> None:
    """1 + 0.003 is 1 in bfloat16; the sum is made in float32."""
    norm = NORMS.choose("rmsnorm", unit_offset=True).make(width=C, dtype=torch.bfloat16)
    with torch.no_grad():
        norm.weight.fill_(0.003)
        out = norm(torch.ones(2, C))
    assert float((out - 1.003).abs().max()) < 1e-4


def test_layernorm_is_torchs() -> None:
    norm, theirs, x = make("layernorm"), nn.LayerNorm(C), sample(3, 4)
    theirs.load_state_dict(norm.state_dict())
    assert torch.equal(norm(x), theirs(x))


def test_rmsnorm_is_torchs_with_the_same_epsilon() -> None:
    norm, theirs, x = make("rmsnorm"), nn.RMSNorm(C, eps=1e-5), sample(3, 4)
    theirs.load_state_dict(norm.state_dict())
    torch.testing.assert_close(norm(x), theirs(x))
    small = sample(2, 2, scale=1e-4)  # where torch's own default ε (1.2e-7) would give something else
    assert float((nn.RMSNorm(C)(small) - nn.RMSNorm(C, eps=1e-5)(small)).detach().abs().max()) > 0.3


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e4])
@pytest.mark.parametrize("options", [{}, {"unit_offset": True}, {"eps": 1e-12}])
def test_the_single_row_way_equals_the_general_one(options: dict[str, Any], scale: float) -> None:
    norm, row = make("rmsnorm", **options), sample(1, 1, scale=scale)
    with torch.no_grad():
        alone, among = norm(row), norm(torch.cat((row, row + scale), 1))[:, :1]
    torch.testing.assert_close(alone, among, rtol=2e-6, atol=1e-7)


def test_the_single_row_way_takes_any_layout_and_leaves_its_input() -> None:
    norm = make("rmsnorm")
    row = sample(1, 1).view(1, C, 1).transpose(1, 2)
    wide = torch.stack((row, row), -1)[..., 0]  # every second value in memory
    before = wide.clone()
    with torch.no_grad():
        torch.testing.assert_close(norm(wide).double(), formula(norm, wide), rtol=1e-5, atol=1e-6)
    assert torch.equal(wide, before)


@pytest.mark.parametrize("kind", ["layernorm", "rmsnorm"])
def test_zeros_and_constants_stay_finite(kind: str) -> None:
    norm = make(kind)
    with torch.no_grad():
        for x in (torch.zeros(1, 1, C), torch.zeros(2, 3, C), torch.full((1, 1, C), 7.0)):
            assert norm(x).isfinite().all()


@pytest.mark.parametrize("kind", ["layernorm", "rmsnorm"])
def test_epsilon_must_be_positive(kind: str) -> None:
    from workbench.core.fields import field_problems

    assert [p.field for p in field_problems(NORMS.choose(kind, eps=0.0).options)] == ["eps"]


def test_gradients_pass_the_numerical_check() -> None:
    for kind, options in CASES:
        norm = make(kind, torch.float64, **options)
        x = sample(2, 2, dtype=torch.float64).requires_grad_()
        assert torch.autograd.gradcheck(norm, (x,))
