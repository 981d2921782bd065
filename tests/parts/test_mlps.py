"""MLPs against their formulas."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from workbench.parts.mlps import MLPS


def exact(x: Tensor) -> Tensor:
    return 0.5 * x * (1 + torch.erf(x / math.sqrt(2)))


def tanh(x: Tensor) -> Tensor:
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


PLAIN: dict[str, Callable[[Tensor], Tensor]] = {"gelu": exact, "gelu_tanh": tanh, "relu": lambda x: x.clamp(min=0)}
GATED: dict[str, Callable[[Tensor], Tensor]] = {"swiglu": lambda x: x * torch.sigmoid(x), "geglu": exact, "geglu_tanh": tanh}


def make(kind: str, bias: bool) -> Any:
    mlp = MLPS.choose(kind).make(width=8, hidden=12, bias=bias, device="cpu", dtype=torch.float32)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in mlp.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return mlp


def line(x: Tensor, linear: Any) -> Tensor:
    y = x @ linear.weight.double().T
    return y if linear.bias is None else y + linear.bias.double()


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("shape", [(2, 3), (1, 1)])
@pytest.mark.parametrize("kind", [*PLAIN, *GATED])
def test_equals_the_formula(kind: str, bias: bool, grad: bool, shape: tuple[int, int]) -> None:
    mlp = make(kind, bias)
    x = torch.randn(*shape, 8, generator=torch.Generator().manual_seed(1))
    with torch.set_grad_enabled(grad):
        out = mlp(x)
    y = x.double()
    if kind in PLAIN:
        wanted = line(PLAIN[kind](line(y, mlp.up_proj)), mlp.down_proj)
    else:
        wanted = line(GATED[kind](line(y, mlp.gate_proj)) * line(y, mlp.up_proj), mlp.down_proj)
    torch.testing.assert_close(out.double(), wanted, rtol=1e-4, atol=1e-4)


def test_the_table_above_is_complete() -> None:
    assert set(PLAIN) | set(GATED) == set(MLPS.names())


def test_the_two_gelus_differ_where_the_facts_say() -> None:
    """By 4.7e-4 at most, near |x| = 2.7 (facts §5.1)."""
    x = torch.linspace(-6, 6, 12001, dtype=torch.float64)
    difference = (torch.nn.functional.gelu(x) - torch.nn.functional.gelu(x, approximate="tanh")).abs()
    assert float(difference.max()) == pytest.approx(4.7e-4, abs=1e-5)
    assert abs(float(x[difference.argmax()])) == pytest.approx(2.7, abs=0.05)


@pytest.mark.parametrize("kind", GATED)
def test_gates_open_in_place_without_touching_the_input(kind: str) -> None:
    mlp, x = make(kind, False), torch.randn(1, 4, 8)
    before = x.clone()
    with torch.no_grad():
        first = mlp(x)
        assert torch.equal(mlp(x), first)
    assert torch.equal(x, before)
