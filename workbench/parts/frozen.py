"""Linears and embeddings whose weights are kept in few bits: they compute and pass gradients on, and are not trained."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from workbench.parts.linear import Corrected, Joined, Joint, Linear

Planes = Mapping[str, Tensor]
"""What a matrix is kept as, by name; the first dimension of each runs over the matrix' rows."""


class Coding(Protocol):
    """How a matrix [N, K] is kept in few bits and multiplied with. Equal codings keep matrices in the same way."""

    def decode(self, planes: Planes, width: int, dtype: torch.dtype) -> Tensor:
        """The numbers that the planes stand for, [N, K]; K is `width`."""

    def multiply(self, x: Tensor, planes: Planes) -> Tensor:
        """x [M, K] times the matrix transposed -> [M, N] in x's dtype; no gradients, autocast has been seen to."""

    def multiply_back(self, gradient: Tensor, planes: Planes, width: int) -> Tensor:
        """gradient [M, N] times the matrix -> [M, K]."""


class Frozen(nn.Module):
    """A matrix of `shape` [rows, width] kept as planes. `dtype` is that of the weight it stands for, `error` its distance from
    it, ‖W − W̃‖ / ‖W‖ (None where it was not measured)."""

    def __init__(self, coding: Coding, planes: Planes, width: int, dtype: torch.dtype, error: float | None = None) -> None:
        super().__init__()
        self.coding = coding
        self.width = width
        self.dtype = dtype
        self.error = error
        self.names = tuple(planes)
        for name, plane in planes.items():
            self.register_parameter(name, plane if isinstance(plane, nn.Parameter) else nn.Parameter(plane, requires_grad=False))

    @property
    def planes(self) -> Planes:
        held: Any = self._parameters
        return {name: held[name] for name in self.names}

    @property
    def shape(self) -> tuple[int, int]:
        held: Any = self._parameters
        return held[self.names[0]].shape[0], self.width

    @property
    def device(self) -> torch.device:
        held: Any = self._parameters
        found: torch.device = held[self.names[0]].device
        return found

    @property
    def weight(self) -> Tensor:
        """The matrix it computes with, made anew each time."""
        return self.coding.decode(self.planes, self.width, self.dtype)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Frozen:
        """Moving to a device moves the planes; casting changes `dtype` and leaves them, whose types mean something."""
        probe = fn(torch.empty(0, dtype=self.dtype, device=self.device))
        super()._apply(lambda t: t.to(probe.device), recurse)  # type: ignore[no-untyped-call]
        self.dtype = probe.dtype
        return self

    def extra_repr(self) -> str:
        return f"{self.width} -> {self.shape[0]}, {self.coding}"


class FrozenLinear(Frozen):
    """y = x W̃ᵀ + b. x [..., in] -> [..., out], in x's dtype or autocast's."""

    def __init__(
        self, coding: Coding, planes: Planes, width: int, bias: nn.Parameter | None, dtype: torch.dtype, error: float | None = None
    ) -> None:
        super().__init__(coding, planes, width, dtype, error)
        self.register_parameter("bias", bias)

    @property
    def in_features(self) -> int:
        return self.width

    @property
    def out_features(self) -> int:
        return self.shape[0]

    def forward(self, x: Tensor) -> Tensor:
        if torch.is_grad_enabled() and x.requires_grad:
            out: Tensor = _Product.apply(x, self)  # type: ignore[no-untyped-call]
        else:
            out = self.product(x)
        bias: Any = self._parameters["bias"]
        return out if bias is None else out + bias.to(out.dtype)

    def product(self, x: Tensor) -> Tensor:
        """x [..., in] times W̃ transposed, without the bias and without gradients."""
        return product(x, self.coding, self.planes)


def product(x: Tensor, coding: Coding, planes: Planes) -> Tensor:
    """x [..., K] times the matrix transposed -> [..., N] in autocast's dtype where it is on, x's otherwise; no gradients."""
    kind = x.device.type
    rows = x.detach().reshape(-1, x.shape[-1])
    if torch.is_autocast_enabled(kind):
        with torch.autocast(kind, enabled=False):
            return coding.multiply(rows.to(torch.get_autocast_dtype(kind)), planes).view(*x.shape[:-1], -1)
    return coding.multiply(rows, planes).view(*x.shape[:-1], -1)


class _Product(torch.autograd.Function):
    """The gradient with respect to x is that of the weights the planes stand for, whatever was rounded on the way."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: FrozenLinear) -> Tensor:
        ctx.layer, ctx.dtype = layer, x.dtype
        return layer.product(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        flat = gradient.reshape(-1, gradient.shape[-1])
        back = ctx.layer.coding.multiply_back(flat, ctx.layer.planes, ctx.layer.width)
        return back.view(*gradient.shape[:-1], -1).to(ctx.dtype), None


class FrozenTable(Frozen):
    """A table of vectors: ids [...] -> [..., width]. With tied embeddings its planes are the output matrix' own."""

    def forward(self, ids: Tensor) -> Tensor:
        found = {name: plane[ids.reshape(-1)] for name, plane in self.planes.items()}
        return self.coding.decode(found, self.width, self.dtype).view(*ids.shape, self.width)


class FrozenJoint(Joint):
    """`Joint` for frozen linears of one coding: their planes lie below each other."""

    @staticmethod
    def key(linear: Any) -> Tensor:
        plane: Tensor = linear._parameters[linear.names[0]]
        return plane

    def join(self) -> None:
        heights = [linear.out_features for linear in self.linears]
        first: FrozenLinear = self.linears[0]
        self.coding = first.coding
        self.planes = {name: torch.cat([linear.planes[name].detach() for linear in self.linears]) for name in first.names}
        for name, whole in self.planes.items():
            for linear, part in zip(self.linears, torch.split(whole, heights), strict=True):
                linear._parameters[name].data = part
        self.biased = first.bias is not None
        self._starts = [self.key(linear).data_ptr() for linear in self.linears]

    def drop(self) -> None:
        self.linears, self._starts, self.planes = (), [], {}

    def _learning(self, x: Tensor, present: tuple[nn.Module, ...]) -> Tensor | None:
        return None

    def _product(self, x: Tensor) -> Tensor:
        return product(x, self.coding, self.planes)


def rejoin(modules: Iterable[nn.Module]) -> None:
    """Where linears that share an input are all of one kind now, let one product serve them again."""
    for module in modules:
        if not isinstance(module, Joined) or not module.joins:
            continue
        standing: list[Any] = [getattr(module, name) for name in module.joins]
        bare: list[Any] = [here.base if isinstance(here, Corrected) else here for here in standing]
        if tuple(bare) == tuple(module.joint.linears):
            continue
        if all(type(linear) is Linear for linear in bare):
            module.joint = Joint(*bare)
        elif all(isinstance(linear, FrozenLinear) and linear.coding == bare[0].coding for linear in bare):
            module.joint = FrozenJoint(*bare)
