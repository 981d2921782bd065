"""Float32 matrix products by oneDNN, on CPUs whose AVX-512 units torch's usual library leaves idle.

torch multiplies float32 matrices with MKL, which runs its AVX-512 code on Intel's processors only. On an AMD EPYC with
AVX-512 oneDNN, which torch brings along, takes 0.4 of the time at the same precision (README, *Log*).
"""

from __future__ import annotations

import platform
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

FEWEST_ROWS = 16
"""Fewer rows gain nothing."""

Kernel = Callable[[Tensor, Tensor, Tensor | None], Tensor]


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x [..., K] times weight [N, K] transposed, plus bias [N] -> [..., N], by the faster kernel; no gradients. Both matrices
    may be transposed views."""
    kernel = _kernel() if suits(x, weight) else None
    return F.linear(x, weight, bias) if kernel is None else kernel(x, weight, bias)


def fast_linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """`F.linear` with gradients, its three products by the faster kernel."""
    out: Tensor = _Linear.apply(x, weight, bias)  # type: ignore[no-untyped-call]
    return out


def suits(x: Tensor, weight: Tensor) -> bool:
    """Whether oneDNN is the better one here: float32 on such a CPU, outside autocast, and rows enough."""
    return (
        x.numel() >= FEWEST_ROWS * x.shape[-1]
        and x.dtype == weight.dtype == torch.float32
        and x.device.type == "cpu"
        and _kernel() is not None
        and not torch.is_autocast_enabled("cpu")
    )


@cache
def _kernel() -> Kernel | None:
    """oneDNN's linear, proven on a small product; None where it is not the faster one or this torch has none.

    Decided by the processor's maker, not by timing: a run that is resumed must multiply as it did before.
    """
    if not (torch.backends.mkldnn.is_available() and torch.backends.cpu.get_cpu_capability() == "AVX512" and _made_by_amd()):  # type: ignore[no-untyped-call]
        return None
    call: Any = getattr(torch.ops.mkldnn, "_linear_pointwise", None)
    if call is None:
        return None

    def kernel(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        out: Tensor = call(x, weight, bias, "none", [], "")
        return out

    x, weight, bias = torch.arange(12.0).view(3, 4), torch.arange(20.0).view(4, 5).t(), torch.arange(5.0)
    try:
        same = torch.equal(kernel(x, weight, bias), F.linear(x, weight, bias))
    except (RuntimeError, TypeError):  # a torch whose private call takes other arguments
        return None
    return kernel if same else None


def _made_by_amd() -> bool:
    try:
        return "AuthenticAMD" in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")[:4000]
    except OSError:  # not Linux
        return "AuthenticAMD" in platform.processor()


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return product(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        wants_x, wants_weight, wants_bias = ctx.needs_input_grad
        flat = gradient.reshape(-1, gradient.shape[-1])
        toward = product(flat, weight.t()).view_as(x) if wants_x else None
        turned = product(flat.t(), x.reshape(-1, x.shape[-1]).t()) if wants_weight else None
        return toward, turned, flat.sum(0) if wants_bias else None
