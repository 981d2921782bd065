"""Every registered MLP keeps the promises of `MLPS`."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from workbench.model import ModelConfig, Transformer, account
from workbench.parts.linear import Linear
from workbench.parts.mlps import MLPS

KINDS = (*MLPS.names(), "squared-relu")
EACH = pytest.mark.parametrize("kind", KINDS)
Described = Callable[[Any, str], None]
Make = Callable[..., ModelConfig]
Usable = Callable[[ModelConfig], Transformer]


class SquaredReLU(nn.Module):
    """Written from the registry's docstring alone."""

    def __init__(self, width: int, hidden: int, bias: bool, **where: Any) -> None:
        super().__init__()
        self.up_proj = Linear(width, hidden, bias, **where)
        self.down_proj = Linear(hidden, width, bias, **where)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.down_proj(self.up_proj(x).relu().square())
        return out


LATE_KIND = (MLPS, "squared-relu", SquaredReLU, "y = W₂ max(0, W₁x)²")


def make(kind: str, bias: bool = False, **where: Any) -> Any:
    mlp = MLPS.choose(kind).make(width=8, hidden=20, bias=bias, **{"device": "cpu", "dtype": torch.float32, **where})
    if where.get("device") != "meta":
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for parameter in mlp.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return mlp


@EACH
def test_is_described(kind: str, described: Described) -> None:
    described(MLPS, kind)


@EACH
@pytest.mark.parametrize("bias", [False, True])
def test_linears_are_named_as_adapters_and_files_expect(kind: str, bias: bool) -> None:
    mlp = make(kind, bias)
    linears = {n: m for n, m in mlp.named_modules() if isinstance(m, nn.Linear)}
    assert {"up_proj", "down_proj"} <= set(linears) <= {"up_proj", "down_proj", "gate_proj"}
    for name, linear in linears.items():
        assert linear.weight.shape == ((8, 20) if name == "down_proj" else (20, 8))
        assert (linear.bias is not None) == bias
    assert {n.rpartition(".")[0] for n, _ in mlp.named_parameters()} == set(linears), "parameters outside the linears"


@EACH
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("shape", [(2, 3), (1, 1), (4,)])
def test_each_vector_by_itself_with_and_without_gradients(kind: str, bias: bool, shape: tuple[int, ...]) -> None:
    mlp = make(kind, bias)
    x = torch.randn(*shape, 8, generator=torch.Generator().manual_seed(1))
    before = x.clone()
    wanted = mlp(x).detach()
    assert wanted.shape == x.shape
    with torch.no_grad():
        torch.testing.assert_close(mlp(x), wanted, rtol=1e-4, atol=1e-4)
        alone = torch.stack([mlp(row[None, None])[0, 0] for row in x.view(-1, 8)]).view(x.shape)
    torch.testing.assert_close(alone, wanted, rtol=1e-4, atol=1e-4)
    assert torch.equal(x, before)


@EACH
def test_it_is_not_linear_and_gradients_flow(kind: str) -> None:
    mlp, x = make(kind), torch.randn(4, 8, requires_grad=True)
    assert not torch.allclose(mlp(-x), -mlp(x), atol=1e-2)
    mlp(x).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.any() for p in (x, *mlp.parameters()))


@EACH
def test_copies_half_precision_and_the_meta_device(kind: str) -> None:
    mlp, x = make(kind), torch.randn(2, 8)
    with torch.no_grad():
        assert torch.equal(copy.deepcopy(mlp)(x), mlp(x))
        half = mlp.to(torch.bfloat16)(x.bfloat16())
    assert half.dtype == torch.bfloat16
    assert make(kind, device="meta")(torch.empty(2, 8, device="meta")).shape == (2, 8)


@EACH
def test_a_model_is_built_stored_and_counted_with_it(kind: str, small: Make, usable: Usable) -> None:
    model = usable(small(mlp=kind, mlp_bias=True, d_ff=24))
    mlps = [m for n, m in model.named_modules() if isinstance(m, nn.Linear) and ".mlp." in n]
    assert account(model.config).by_part["MLP"] == sum(p.numel() for m in mlps for p in m.parameters())
