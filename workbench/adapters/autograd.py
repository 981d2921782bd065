"""The training form of a linear with one low-rank adapter: fewer passes over memory and fewer saved tensors than autograd's own."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from workbench.numerics.products import product
from workbench.parts.frozen import FrozenLinear


def compute_dtype(x: Tensor) -> torch.dtype:
    """The dtype autocast would multiply x in; x's own outside autocast."""
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype


class LowRankLinear(torch.autograd.Function):
    """y = x Wᵀ + b + s·(x Aᵀ) Bᵀ with W and b frozen; W is a matrix, or a quantized linear. Gradients go to x, A and B only.

    Saved: x itself (shared by all layers that read it) and x Aᵀ [rows, r]; no copy of W, and no output-sized temporary:
    both passes add the low-rank part inside the matrix product. In a narrow dtype A and B stay float32 outside the products.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor | FrozenLinear, bias: Tensor | None, a: Tensor, b: Tensor, scale: float) -> Tensor:
        dtype = compute_dtype(x)
        with torch.autocast(x.device.type, enabled=False):
            rows = x.reshape(-1, x.shape[-1]).to(dtype)
            out = _times(rows, weight, None if bias is None else bias.to(dtype))
            low = rows @ a.to(dtype).t()
            out.addmm_(low, b.to(dtype).t(), alpha=scale)
        ctx.frozen = weight if isinstance(weight, FrozenLinear) else None
        ctx.save_for_backward(x, low, None if isinstance(weight, FrozenLinear) else weight, a, b)
        ctx.scale, ctx.dtype = scale, dtype
        return out.view(*x.shape[:-1], -1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, None, None, Tensor, Tensor, None]:
        x, low, weight, a, b = ctx.saved_tensors
        scale, dtype = ctx.scale, ctx.dtype
        grad_x = None
        with torch.autocast(x.device.type, enabled=False):
            g = gradient.reshape(-1, gradient.shape[-1]).to(dtype)
            rows = x.reshape(-1, x.shape[-1]).to(dtype)
            g_low = (g @ b.to(dtype)).mul_(scale)
            grad_a = (g_low.t() @ rows).to(a.dtype)
            grad_b = (g.t() @ low).to(b.dtype).mul_(scale)
            if ctx.needs_input_grad[0]:
                frozen = ctx.frozen
                if frozen is None:
                    grad_x = product(g, weight.to(dtype).t())
                else:
                    grad_x = frozen.coding.multiply_back(g, frozen.planes, frozen.width)
                grad_x = grad_x.addmm_(g_low, a.to(dtype)).view(x.shape).to(x.dtype)
        return grad_x, None, None, grad_a, grad_b, None


def _times(rows: Tensor, weight: Tensor | FrozenLinear, bias: Tensor | None) -> Tensor:
    if not isinstance(weight, FrozenLinear):
        return product(rows, weight.to(rows.dtype), bias)
    out = weight.product(rows)
    return out if bias is None else out.add_(bias)


def low_rank_linear(x: Tensor, weight: Tensor | FrozenLinear, bias: Tensor | None, a: Tensor, b: Tensor, scale: float) -> Tensor:
    """x [..., in], weight [out, in], a [r, in], b [out, r] -> [..., out]; see `LowRankLinear`."""
    out: Tensor = LowRankLinear.apply(x, weight, bias, a, b, scale)  # type: ignore[no-untyped-call]
    return out
