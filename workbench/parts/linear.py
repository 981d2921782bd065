"""The linear layer of the engine: `nn.Linear` with a fast way for a single row, and linears that share an input."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy, deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from workbench.numerics.products import fast_linear, product, suits


def one_row(x: Tensor, weight: Tensor) -> Tensor:
    """x with one row [..., 1, in], weight [out, in] contiguous -> [..., 1, out], without gradients, on a CPU.

    A matrix times one vector is bound by memory, and the BLAS that torch ships may read it with a single thread. A batch
    of as many slices of rows as there are threads is read by all of them: 39 GB/s instead of 18 on the machine of the
    README's *Log*.
    """
    rows, width = weight.shape
    slices = torch.get_num_threads()
    even = rows - rows % slices
    vector = x.reshape(1, 1, width).transpose(1, 2)  # these strides, not a plain (1, width, 1), lead to the fast kernel
    out = torch.bmm(weight[:even].view(slices, -1, width), vector.expand(slices, width, 1)).view(even)
    if even != rows:
        out = torch.cat((out, torch.mv(weight[even:], x.reshape(width))))
    return out.view(*x.shape[:-1], rows)


def is_one_row(x: Tensor, weight: Tensor) -> bool:
    """Whether `one_row` serves: one float32 row on a CPU with no gradient wanted, outside autocast, and rows enough to share."""
    return (
        x.numel() == weight.shape[1]
        and x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and weight.shape[0] >= torch.get_num_threads() > 1
        and not torch.is_grad_enabled()
        and not torch.is_autocast_enabled("cpu")
    )


class Linear(nn.Linear):
    """y = x Wᵀ + b. x [..., in] -> [..., out]. Weight [out, in], values undefined until initialised or loaded."""

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        nn.Module.__init__(self)  # not nn.Linear's, which would draw random values
        self.in_features = in_features
        self.out_features = out_features
        self.weight = nn.Parameter(torch.empty(out_features, in_features, device=device, dtype=dtype))
        self.register_parameter("bias", nn.Parameter(torch.empty(out_features, device=device, dtype=dtype)) if bias else None)

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = self.weight, self.bias
        if is_one_row(x, weight):
            out = one_row(x, weight)
            return out if bias is None else out.add_(bias)
        if not suits(x, weight):
            return F.linear(x, weight, bias)
        return fast_linear(x, weight, bias) if torch.is_grad_enabled() else product(x, weight, bias)


class Corrected(nn.Module):
    """Stands where the linear `base` stood and adds something to its output, as an adapter does."""

    base: nn.Module

    def correct(self, x: Tensor, out: Tensor) -> Tensor:
        """x [..., in] and base(x) [..., out] -> the output. Where no gradient is wanted it may write into `out`."""
        raise NotImplementedError


class _JointProduct(torch.autograd.Function):
    """x [..., in] times weights that lie below each other in `joint` [sum of out, in] -> [..., sum of out], one product in
    each direction; the gradient of each weight is its part of one matrix. Takes autocast's dtype as a linear would."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, joint: Tensor, count: int, *parameters: Tensor) -> Tensor:
        kind = x.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype
        rows, matrix = x.to(dtype), joint.to(dtype)
        ctx.save_for_backward(rows, matrix)
        ctx.heights = [p.shape[0] for p in parameters[:count]]
        ctx.dtypes = x.dtype, joint.dtype
        ctx.biased = len(parameters) > count
        with torch.autocast(kind, enabled=False):
            return product(rows, matrix, torch.cat(parameters[count:]).to(dtype) if ctx.biased else None)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        rows, matrix = ctx.saved_tensors
        flat = gradient.reshape(-1, gradient.shape[-1])
        toward = product(flat, matrix.t()).view_as(rows).to(ctx.dtypes[0]) if ctx.needs_input_grad[0] else None
        parts = torch.split(product(flat.t(), rows.reshape(-1, rows.shape[-1]).t()).to(ctx.dtypes[1]), ctx.heights)
        biases = torch.split(flat.sum(0).to(ctx.dtypes[1]), ctx.heights) if ctx.biased else ()
        return toward, None, None, *parts, *biases


class Joint:
    """Linears that read the same input and lie one below the other in memory, so that one product can serve all of them.

    Each keeps its own name, parameter and gradient; the joint product is only taken where no gradient is needed and while
    nothing has replaced one of them (a quantized layer) or moved its weight; what corrects one of them acts on its part.
    A token's three or two products become one, which counts when hundreds of small calls make up a token (README, *Log*).
    """

    def __init__(self, *linears: Any) -> None:
        self.linears = linears
        self.join()

    @staticmethod
    def key(linear: Any) -> Tensor:
        """The tensor whose place in memory tells whether a linear still lies where it was laid."""
        weight: Tensor = linear.weight
        return weight

    def join(self) -> None:
        """Lay the weights below each other, keeping their values (again, after they were moved or cast)."""
        weights = [linear.weight for linear in self.linears]
        heights = [w.shape[0] for w in weights]
        joint = torch.empty(sum(heights), weights[0].shape[1], device=weights[0].device, dtype=weights[0].dtype)
        for linear, part in zip(self.linears, torch.split(joint, heights), strict=True):
            if joint.device.type != "meta":
                part.copy_(linear.weight.detach())
            linear.weight.data = part
        self.biased = self.linears[0].bias is not None
        self.weight = joint
        self._starts = [part.data_ptr() for part in torch.split(joint, heights)]

    def drop(self) -> None:
        """Give up for good: one of the linears was replaced, and its weight must not be kept in memory from here."""
        self.linears = ()
        self.weight = torch.empty(0)
        self._starts = []

    def __deepcopy__(self, memo: dict[int, Any]) -> Joint:
        twin = copy(self)
        twin.linears = deepcopy(self.linears, memo)
        if any(self.key(new) is not self.key(old) for new, old in zip(twin.linears, self.linears, strict=True)):
            twin.join()  # linears that share their weights with the original lie where they lay
        return twin

    def __call__(self, x: Tensor, *present: nn.Module) -> Tensor | None:
        """x [..., in] -> all outputs side by side [..., sum of out], or None when each has to be asked by itself.
        `present` are the modules that stand in the linears' places now."""
        if torch.is_grad_enabled():
            return self._learning(x, present)
        if self.biased or not self.linears:
            return None
        corrected = False
        for linear, here, start in zip(self.linears, present, self._starts, strict=True):
            if self.key(linear).data_ptr() != start:
                return None
            if here is not linear:
                if not isinstance(here, Corrected) or here.base is not linear:
                    return None
                corrected = True
        out = self._product(x)
        return self._corrected(x, out, present) if corrected else out

    def _product(self, x: Tensor) -> Tensor:
        return one_row(x, self.weight) if is_one_row(x, self.weight) else product(x, self.weight)

    def _learning(self, x: Tensor, present: tuple[nn.Module, ...]) -> Tensor | None:
        """The joint product where all of the weights, and nothing else in these linears, are trained; None otherwise."""
        if not self.linears or not torch.amp.is_autocast_available(x.device.type):  # the meta device knows no autocast
            return None
        for linear, here, start in zip(self.linears, present, self._starts, strict=True):
            weight = here.weight if type(here) is Linear else None
            if weight is not linear.weight or weight.data_ptr() != start or not weight.requires_grad:
                return None
        weights = [linear.weight for linear in self.linears]
        biases = [linear.bias for linear in self.linears] if self.biased else []
        out: Tensor = _JointProduct.apply(x, self.weight, len(weights), *weights, *biases)  # type: ignore[no-untyped-call]
        return out

    def _corrected(self, x: Tensor, out: Tensor, present: tuple[nn.Module, ...]) -> Tensor:
        for here, part in zip(present, torch.split(out, [linear.out_features for linear in self.linears], -1), strict=True):
            if isinstance(here, Corrected):
                changed = here.correct(x, part)
                if changed is not part:
                    part.copy_(changed)
        return out


class Joined(nn.Module):
    """A module with a `joint` of the linears named in `joins`, kept joined when its weights are moved or cast."""

    joint: Joint
    joins: tuple[str, ...] = ()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Joined:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        here = set(self.modules())
        if self.joint.linears and here.issuperset(self.joint.linears):  # one that was replaced was not moved either
            self.joint.join()
        return self
