"""The model as a run sees it: frozen weights in the run's precision, trained parameters shared with everybody else.

The loaded model is also the one a person chats with, so a run leaves it alone: no flag, no dtype and no module of it changes.
It trains on a twin, a copy of the module structure whose frozen weights are narrowed copies (or, in the model's own dtype, the
very same tensors) and whose trained parameters *are* the original's.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from workbench.adapters import adapters_of, selected, trainable_parameters
from workbench.adapters.linear import LoraLinear
from workbench.adapters.selection import Selection
from workbench.core.errors import ConfigError
from workbench.data import Batch
from workbench.devices import cpu_has_fast_bfloat16
from workbench.model import Transformer
from workbench.parts.frozen import Frozen
from workbench.parts.linear import Joint
from workbench.quantization.norms import FrozenNorm
from workbench.training.objectives import Task


@dataclass
class Bench:
    """What one run works on.

    `parameters`: stable name -> trained parameter. `autocast`: the dtype to multiply in where the weights themselves are
    trained; None when the twin is in the right one already. `extra_bytes`: memory the narrowed copies take.
    """

    model: Transformer
    parameters: dict[str, nn.Parameter]
    dtype: torch.dtype
    autocast: torch.dtype | None
    extra_bytes: int
    selection: Selection | None
    about: str
    """What is trained, in words: a resumed run must train the same."""

    def hidden(self, batch: Batch | Task, recompute: bool = False) -> Tensor:
        """What the head reads, [B, T, C]. Padding stands on the right, where causal attention never looks, so that only
        packed documents, and padding before a bidirectional model, need a mask."""
        device = self.model.device
        ids = batch.ids.to(device)
        if batch.segments is not None:
            return self.model.hidden(ids, positions=batch.positions.to(device), segments=batch.segments.to(device), recompute=recompute)
        if not self.model.config.causal and bool((batch.positions < 0).any()):
            return self.model.hidden(ids, positions=batch.positions.to(device), recompute=recompute)
        return self.model.hidden(ids, recompute=recompute)


def training_dtype(name: str, model: Transformer) -> torch.dtype:
    """The precision of a run: "auto" is bfloat16 where it is fast, else the model's own (float32 for a float16 model)."""
    if name != "auto":
        return {"float32": torch.float32, "bfloat16": torch.bfloat16}[name]
    kind = model.device.type
    fast = cpu_has_fast_bfloat16() if kind == "cpu" else kind == "cuda" and torch.cuda.is_bf16_supported()
    if fast:
        return torch.bfloat16
    return torch.float32 if model.dtype == torch.float16 else model.dtype


def bench_for(model: Transformer, adapter: str | None, dtype: torch.dtype) -> Bench:
    """A bench that trains the adapter of that name, or every parameter of the model when None.

    Raises `ConfigError` when there is no such adapter, it is merged, or all parameters are to be trained in a narrow dtype.
    """
    if adapter is None:
        return _bench_for_all(model, dtype)
    parameters = trainable_parameters(model, adapter)
    adapters = adapters_of(model, adapter)
    if any(a.merged is not None for a in adapters.values()):
        raise ConfigError(f"Adapter {adapter!r} is merged into the weights and cannot be trained.", hint="Unmerge it first.")
    twin, extra = _twin(model, dtype, shared={id(p) for p in parameters.values()})
    selection = next(m.selection for m in twin.modules() if isinstance(m, LoraLinear))
    selection.default = {adapter: 1.0}
    kinds = sorted({f"{a.kind} r={a.r} alpha={a.alpha:g} dropout={a.dropout:g}" for a in adapters.values()})
    return Bench(twin, parameters, dtype, None, extra, selection, f"{', '.join(kinds)} on {len(adapters)} layers")


def _bench_for_all(model: Transformer, dtype: torch.dtype) -> Bench:
    if model.dtype != torch.float32:
        precision = str(model.dtype).removeprefix("torch.")
        raise ConfigError(f"Weights in {precision} are too coarse to be trained.", hint="Load the model in float32.")
    with selected(model, {}):  # says so when an adapter is merged
        pass
    names = {id(p): n for n, p in model.named_parameters() if ".adapters." not in n}
    twin, _ = _twin(model, torch.float32, shared=set(names))
    parameters = {names[id(p)]: p for p in twin.parameters() if id(p) in names}
    selections = [m.selection for m in twin.modules() if isinstance(m, LoraLinear)]
    for selection in selections[:1]:
        selection.default = {}
    return Bench(twin, parameters, dtype, dtype if dtype != torch.float32 else None, 0, None, "all weights")


def _twin(model: Transformer, dtype: torch.dtype, shared: set[int]) -> tuple[Transformer, int]:
    """A structural copy and the bytes its narrowed weights take. Tensors are decided here; all else is copied by `deepcopy`."""
    memo: dict[int, Any] = {id(model.config): model.config}
    extra = 0
    for module in model.modules():
        for joint in (v for v in vars(module).values() if isinstance(v, Joint)):
            memo[id(joint)] = joint  # its shortcut finds by itself that the twin's weights lie elsewhere
        for parameter in module.parameters(recurse=False):
            if id(parameter) in memo:
                continue
            if id(parameter) in shared:
                memo[id(parameter)] = parameter
                continue
            plain = parameter.is_floating_point() and not isinstance(module, (Frozen, FrozenNorm))  # what codes are scaled by stays
            narrow = parameter.detach().to(dtype) if plain else parameter.detach()
            extra += 0 if narrow.data_ptr() == parameter.data_ptr() else narrow.nbytes
            memo[id(parameter)] = nn.Parameter(narrow, requires_grad=False)
        for buffer in module.buffers(recurse=False):
            memo[id(buffer)] = buffer
    twin: Transformer = copy.deepcopy(model, memo)
    for module in twin.modules():
        if isinstance(module, (Frozen, FrozenNorm)):
            module.dtype = dtype
    return twin, extra
