"""The lean training forms against what autograd makes of the formula."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from workbench.numerics.lean import gated, lean_rms_norm


def kept_bytes(call: object, *inputs: Tensor) -> int:
    """Bytes that autograd keeps beside the inputs."""
    own = {t.untyped_storage().data_ptr() for t in inputs}
    kept: dict[int, int] = {}

    def pack(t: Tensor) -> Tensor:
        if t.untyped_storage().data_ptr() not in own:
            kept[t.data_ptr()] = t.nbytes
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        call(*inputs)  # type: ignore[operator]
    return sum(kept.values())


@pytest.mark.parametrize(("dtype", "limit"), [(torch.float32, 1e-5), (torch.bfloat16, 1e-2)])
@pytest.mark.parametrize("trained", [False, True], ids=["frozen", "trained"])
def test_norm_equals_the_formula(dtype: torch.dtype, limit: float, trained: bool) -> None:
    draw = torch.Generator().manual_seed(0)
    x, gain = torch.randn(3, 5, 16, generator=draw).to(dtype), (1 + torch.randn(16, generator=draw)).to(dtype)
    gradient = torch.randn(3, 5, 16, generator=draw).to(dtype)
    mine, wide = x.clone().requires_grad_(), x.double().requires_grad_()
    own, exact = gain.clone().requires_grad_(trained), gain.double().requires_grad_()
    out = lean_rms_norm(mine, own, 1e-5)
    out.backward(gradient)
    wanted = wide / (wide.square().mean(-1, keepdim=True) + 1e-5).sqrt() * exact
    wanted.backward(gradient.double())
    assert out.dtype == dtype
    pairs = [(out, wanted), (mine.grad, wide.grad), *([(own.grad, exact.grad)] if trained else [])]
    for a, b in pairs:
        assert a is not None
        assert b is not None
        assert float(((a - b).norm() / b.norm()).detach()) < limit
    assert kept_bytes(lambda t, g: lean_rms_norm(t, g, 1e-5), mine, gain) == 15 * 4, "one number a row"


@pytest.mark.parametrize("activation", [F.silu, F.gelu, partial(F.gelu, approximate="tanh"), F.relu])
def test_gate_equals_autograd_and_keeps_its_inputs_only(activation: object) -> None:
    draw = torch.Generator().manual_seed(1)
    gate, up, gradient = (torch.randn(4, 6, generator=draw) for _ in range(3))
    results = []
    for form in (gated, lambda act, g, u: act(g) * u):
        g, u = gate.clone().requires_grad_(), up.clone().requires_grad_()
        out = form(activation, g, u)  # type: ignore[operator]
        out.backward(gradient)
        results.append((out.detach(), g.grad, u.grad))
    for mine, wanted in zip(*results, strict=True):
        assert torch.equal(mine, wanted)
    assert kept_bytes(lambda g, u: gated(activation, g, u), gate.requires_grad_(), up.requires_grad_()) == 0  # type: ignore[arg-type]
    with torch.no_grad():
        assert torch.equal(gated(activation, gate, up), results[1][0])  # type: ignore[arg-type]
