"""Training forms of two small steps whose intermediates, kept by autograd, would outweigh the matrices' own inputs.

Both keep their inputs only and compute the rest again in the backward pass, which costs no measurable time: the steps are
bound by memory, and reading less makes up for computing more.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

Activation = Callable[[Tensor], Tensor]


class _RmsNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, gain: Tensor, eps: float) -> Tensor:
        wide = x.float()
        rate = torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps)
        ctx.save_for_backward(x, rate, gain)
        return (wide * rate).mul_(gain.float()).to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, rate, gain = ctx.saved_tensors
        wants_x, wants_gain = ctx.needs_input_grad[:2]
        turned = x.float() * rate
        wide = gradient.float()
        gained = (wide * turned).flatten(0, -2).sum(0).to(gain.dtype) if wants_gain else None
        if not wants_x:
            return None, gained, None
        toward = wide * gain.float()
        along = (toward * turned).mean(-1, keepdim=True)
        return toward.sub_(turned.mul_(along)).mul_(rate).to(x.dtype), gained, None


def lean_rms_norm(x: Tensor, gain: Tensor, eps: float) -> Tensor:
    """x [..., C] / rms(x) · gain [C], float32 inside, x's dtype outside (arXiv:1910.07467)."""
    out: Tensor = _RmsNorm.apply(x, gain, eps)  # type: ignore[no-untyped-call]
    return out


class _Gated(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, activation: Activation, gate: Tensor, up: Tensor) -> Tensor:
        ctx.save_for_backward(gate, up)
        ctx.activation = activation
        return activation(gate).mul_(up)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor, Tensor]:
        gate, up = ctx.saved_tensors
        with torch.enable_grad():
            gate = gate.detach().requires_grad_()
            active = ctx.activation(gate)
        (grad_gate,) = torch.autograd.grad(active, gate, gradient * up)
        return None, grad_gate, active.detach().mul_(gradient)


def gated(activation: Activation, gate: Tensor, up: Tensor) -> Tensor:
    """act(gate) ⊙ up, elementwise; `activation` returns a fresh tensor (arXiv:2002.05202)."""
    if not torch.is_grad_enabled():
        return activation(gate).mul_(up)
    out: Tensor = _Gated.apply(activation, gate, up)  # type: ignore[no-untyped-call]
    return out
