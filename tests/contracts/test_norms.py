"""Every registered norm keeps the promises of `NORMS`."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from workbench.model import ModelConfig, Transformer
from workbench.parts.norms import NORMS

KINDS = (*NORMS.names(), "largest-entry")
EACH = pytest.mark.parametrize("kind", KINDS)
C = 16
Described = Callable[[Any, str], None]
Make = Callable[..., ModelConfig]
Usable = Callable[[ModelConfig], Transformer]


class MaxNorm(nn.Module):
    """Written from the registry's docstring alone."""

    def __init__(self, width: int, device: Any = None, dtype: torch.dtype | None = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width, device=device, dtype=dtype))

    def forward(self, x: Tensor) -> Tensor:
        scaled = x.float() / (x.float().abs().amax(-1, keepdim=True) + 1e-5)
        return (scaled * self.weight.float()).to(x.dtype)


LATE_KIND = (NORMS, "largest-entry", MaxNorm, "y = x / max|x|")


def make(kind: str, dtype: torch.dtype = torch.float32, device: str = "cpu") -> Any:
    return NORMS.choose(kind).make(width=C, device=device, dtype=dtype)


def sample(*shape: int) -> Tensor:
    return torch.randn(*shape, C, generator=torch.Generator().manual_seed(0))


@EACH
def test_is_described(kind: str, described: Described) -> None:
    described(NORMS, kind)


@EACH
@pytest.mark.parametrize("shape", [(2, 3), (1, 1), (1,), (2, 3, 4)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_shape_and_dtype_are_the_inputs(kind: str, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    for weights in (torch.float32, torch.bfloat16):
        with torch.no_grad():
            out = make(kind, weights)(sample(*shape).to(dtype))
        assert (out.shape, out.dtype) == ((*shape, C), dtype)
        assert out.isfinite().all()


@EACH
@pytest.mark.parametrize("grad", [False, True])
def test_each_vector_by_itself(kind: str, grad: bool) -> None:
    """No statistics over the batch: a row alone gives what it gives among others, on the fast path too."""
    norm, x = make(kind), sample(2, 5)
    with torch.set_grad_enabled(grad):
        together = norm(x)
        for b in range(2):
            for t in range(5):
                torch.testing.assert_close(norm(x[b : b + 1, t : t + 1]), together[b : b + 1, t : t + 1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "none"])
def test_the_size_of_the_input_hardly_matters(kind: str) -> None:
    norm, x = make(kind), sample(3)
    torch.testing.assert_close(norm(100 * x), norm(x), rtol=1e-3, atol=1e-3)


@EACH
def test_statistics_are_computed_in_float32(kind: str) -> None:
    """A bfloat16 input whose squares do not fit bfloat16 sums comes out as exactly as bfloat16 can hold."""
    x = (sample(4) + 3).bfloat16()
    exact = make(kind)(x.float())
    torch.testing.assert_close(make(kind, torch.bfloat16)(x).float(), exact, rtol=2**-7, atol=2**-8)


@EACH
def test_parameters_are_a_gain_and_perhaps_a_bias(kind: str) -> None:
    norm = make(kind)
    named = dict(norm.named_parameters())
    assert set(named) <= {"weight", "bias"}
    assert all(p.shape == (C,) for p in named.values())
    assert not list(norm.named_buffers())


@EACH
def test_the_input_is_left_alone_and_gradients_flow(kind: str) -> None:
    norm, x = make(kind), sample(2, 3).requires_grad_()
    before = x.detach().clone()
    norm(x).square().sum().backward()
    with torch.no_grad():
        norm(x[:1, :1])
    assert torch.equal(x.detach(), before)
    assert all(p.grad is not None and p.grad.isfinite().all() for p in (x, *norm.parameters()))


@EACH
def test_moves_copies_and_the_meta_device(kind: str) -> None:
    norm, x = make(kind), sample(2)
    assert torch.equal(copy.deepcopy(norm)(x), norm(x))
    assert make(kind, device="meta")(torch.empty(2, C, device="meta")).shape == (2, C)
    assert all(p.dtype == torch.bfloat16 for p in norm.to(torch.bfloat16).parameters())


@EACH
def test_a_model_is_built_stored_and_counted_with_it(kind: str, small: Make, usable: Usable) -> None:
    plain = small(norm=kind)
    normed = replace(plain, qk_norm="head")
    usable(plain if normed.problems() else normed)
