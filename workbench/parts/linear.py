"""The linear layer of the engine: `nn.Linear` whose weight lies in memory as (in, out)."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy, deepcopy
from typing import Any

import torch
from torch import Tensor, nn


def input_major(out_features: int, in_features: int, device: torch.device | str | None, dtype: torch.dtype | None) -> Tensor:
    """An uninitialised (out, in) tensor stored (in, out).

    One token times such a matrix streams it in the order the CPU's GEMV likes: all matrices of a 135M model take 22 ms
    instead of 33 ms at two threads (README, *Log*); products with many rows cost the same either way.
    """
    return torch.empty(in_features, out_features, device=device, dtype=dtype).t()


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
        nn.Module.__init__(self)  # not nn.Linear's, which would allocate (out, in) and draw random values
        self.in_features = in_features
        self.out_features = out_features
        self.weight = nn.Parameter(input_major(out_features, in_features, device, dtype))
        self.register_parameter("bias", nn.Parameter(torch.empty(out_features, device=device, dtype=dtype)) if bias else None)


class Joint:
    """Linears that read the same input and lie side by side in memory, so that one product can serve all of them.

    Each keeps its own name, parameter and gradient; the joint product is only taken where no gradient is needed and while
    nothing has replaced one of them (an adapter, a quantized layer) or moved its weight. A token's three or two products
    become one, which counts when thousands of small calls make up a token (README, *Log*).
    """

    def __init__(self, *linears: Linear) -> None:
        self.linears = linears
        self.join()

    def join(self) -> None:
        """Lay the weights side by side, keeping their values (again, after they were moved or cast)."""
        weights = [linear.weight for linear in self.linears]
        widths = [w.shape[0] for w in weights]
        joint = input_major(sum(widths), weights[0].shape[1], weights[0].device, weights[0].dtype)
        for linear, part in zip(self.linears, torch.split(joint, widths), strict=True):
            if joint.device.type != "meta":
                part.copy_(linear.weight.detach())
            linear.weight.data = part
        biases = [linear.bias for linear in self.linears]
        self.biased = biases[0] is not None
        self.weight = joint
        self._starts = [part.data_ptr() for part in torch.split(joint, widths)]

    def drop(self) -> None:
        """Give up for good: one of the linears was replaced, and its weight must not be kept in memory from here."""
        self.linears = ()
        self.weight = torch.empty(0)
        self._starts = []

    def __deepcopy__(self, memo: dict[int, Any]) -> Joint:
        twin = copy(self)
        twin.linears = deepcopy(self.linears, memo)
        if twin.linears:
            twin.join()
        return twin

    def __call__(self, x: Tensor, *present: nn.Module) -> Tensor | None:
        """x [..., in] -> all outputs side by side [..., sum of out], or None when each has to be asked by itself.
        `present` are the modules that stand in the linears' places now."""
        if torch.is_grad_enabled() or self.biased or not self.linears or torch.is_autocast_enabled("cpu"):
            return None
        for linear, here, start in zip(self.linears, present, self._starts, strict=True):
            if here is not linear or linear.weight.data_ptr() != start:
                return None
        return nn.functional.linear(x, self.weight)


class Joined(nn.Module):
    """A module with a `joint`, kept joined when its weights are moved or cast."""

    joint: Joint

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Joined:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        here = set(self.modules())
        if self.joint.linears and here.issuperset(self.joint.linears):  # one that was replaced was not moved either
            self.joint.join()
        return self
