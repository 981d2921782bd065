"""A linear layer that carries named adapters."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from workbench.adapters.base import Adapter
from workbench.adapters.dropout import mixed
from workbench.adapters.selection import Selection
from workbench.parts.linear import Corrected


class LoraLinear(Corrected):
    """Stands where `base` stood: base(x) plus the corrections that are active in the calling thread.

    With none active it is the base and nothing else. To a state dict it *is* the base: adapters have files of their own,
    so a model with adapters attached saves and loads the same keys as one without. `place` numbers it within its model.
    """

    def __init__(self, base: nn.Module, selection: Selection, place: int) -> None:
        super().__init__()
        self.base = base
        self.adapters = nn.ModuleDict()
        self.selection = selection
        self.place = place

    def forward(self, x: Tensor) -> Tensor:
        """x [..., in] -> [..., out]."""
        base: Any = self._modules["base"]
        mine = self._active()
        if len(mine) == 1 and torch.is_grad_enabled():
            fused: Tensor | None = mine[0][0].fused(x, base, mine[0][1])
            if fused is not None:
                return fused
        out: Tensor = base(x)
        for adapter, strength in mine:
            out = adapter(x, out, strength, self._noise())
        return out

    def correct(self, x: Tensor, out: Tensor) -> Tensor:
        for adapter, strength in self._active():
            out = adapter(x, out, strength, self._noise())
        return out

    def _active(self) -> list[tuple[Adapter, float]]:
        """The adapters that act in the calling thread, with their strengths."""
        active = self.selection.active()
        if not active:
            return []
        # A plain dictionary: looking modules up as attributes is slow enough to show in decoding.
        held: Any = self._modules["adapters"]
        return [(held[n], s) for n, s in active.items() if s != 0 and n in held and held[n].merged is None]

    def _noise(self) -> int | None:
        noise = self.selection.noise
        return None if noise is None else mixed(noise, self.place)

    def adapter(self, name: str) -> Adapter | None:
        """The adapter of that name, if this layer has it."""
        held: Any = self.adapters  # read once: another thread may replace it
        return held[name] if name in held else None  # noqa: SIM401 (older torch has no get)

    # What code that knows linears asks of one.

    @property
    def weight(self) -> Tensor:
        """The base's weight [out, in]."""
        found: Tensor = self.base.weight  # type: ignore[assignment]
        return found

    @property
    def bias(self) -> Tensor | None:
        """The base's bias [out], if it has one."""
        found: Tensor | None = self.base.bias  # type: ignore[assignment]
        return found

    @property
    def in_features(self) -> int:
        return int(self.base.in_features)  # type: ignore[arg-type]

    @property
    def out_features(self) -> int:
        return int(self.base.out_features)  # type: ignore[arg-type]

    def extra_repr(self) -> str:
        return f"{self.in_features} -> {self.out_features}, adapters: {', '.join(self.adapters) or 'none'}"

    # State dicts: the base's keys, without a trace of the wrapping.

    def state_dict(self, *args: Any, destination: Any = None, prefix: str = "", keep_vars: bool = False) -> Any:
        return self.base.state_dict(*args, destination=destination, prefix=prefix, keep_vars=keep_vars)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        for key in [k for k in state_dict if k.startswith(prefix)]:
            state_dict[f"{prefix}base.{key[len(prefix) :]}"] = state_dict.pop(key)
