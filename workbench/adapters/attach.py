"""Put adapters on a model, take them off, weigh them, merge them; choose per thread which ones act."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from workbench.adapters.base import Adapter, build_adapter
from workbench.adapters.config import LoraConfig
from workbench.adapters.linear import LoraLinear
from workbench.adapters.selection import Selection, selection_of
from workbench.core.errors import ConfigError, ModelError
from workbench.core.fields import require_usable
from workbench.model.surgery import linears, replace, select
from workbench.parts.frozen import FrozenLinear


@dataclass(frozen=True)
class AdapterSpec:
    """What one layer gets: a method with its numbers."""

    method: str
    r: int
    alpha: float
    dropout: float = 0.0


def attach(model: nn.Module, config: LoraConfig, name: str = "default", seed: int = 0, *, strength: float = 1.0) -> tuple[str, ...]:
    """Give every layer that `config` targets a fresh adapter called `name`; returns the layers' names.

    Nothing changes in what the model computes until the adapter is trained. The base is frozen (`requires_grad` off) until
    the last adapter is detached. `strength` is that for threads that have not selected for themselves, as `scale` would set it.
    Raises `ConfigError` for unusable settings, a pattern without a match, or a name in use.
    """
    require_usable(config)
    layers = select(model, config.patterns())
    spec = AdapterSpec(config.method, config.r, config.lora_alpha, config.lora_dropout)
    generator = torch.Generator().manual_seed(seed)

    def fill(layer: str, adapter: Adapter) -> None:
        adapter.reset(config.init, generator, layers[layer].weight)  # type: ignore[arg-type]

    return tuple(attach_specs(model, dict.fromkeys(layers, spec), name, fill, strength=strength))


def attach_specs(
    model: nn.Module, specs: Mapping[str, AdapterSpec], name: str, fill: Callable[[str, Adapter], None], *, strength: float = 1.0
) -> dict[str, Adapter]:
    """As `attach`, with one spec per layer and values that `fill(layer, adapter)` writes: for loaders and rank patterns.

    Other threads may be running the model. All that can fail comes first, and the adapter can be reached only when it is whole;
    it acts from the last line on. What `fill` raises leaves the model as it was.
    """
    if not name or "." in name:
        raise ConfigError(f"An adapter cannot be called {name!r}.", hint="Use a name without dots.")
    selection = selection_of(model)
    with selection.lock:
        if name in selection.attached:
            raise ConfigError(f"The model already has an adapter called {name!r}.", hint="Detach it first, or choose another name.")
        known = linears(model)
        fresh = {layer: _built(known[layer], spec) for layer, spec in specs.items()}
        for layer, adapter in fresh.items():
            fill(layer, adapter)
        if not selection.attached:
            selection.frozen = [p for p in model.parameters() if p.requires_grad]
            for parameter in selection.frozen:
                parameter.requires_grad_(False)
        places = {layer: place for place, layer in enumerate(known)}
        for layer, adapter in fresh.items():
            _install(model, layer, known[layer], name, adapter, selection, places[layer])
        selection.add(name, float(strength))
    return fresh


def _built(host: Any, spec: AdapterSpec) -> Adapter:
    adapter = build_adapter(
        spec.method,
        host.in_features,
        host.out_features,
        r=spec.r,
        alpha=spec.alpha,
        dropout=spec.dropout,
        device=next(host.parameters()).device,
    )
    return adapter.train(host.training)


def _install(model: nn.Module, layer: str, there: nn.Module, name: str, adapter: Adapter, selection: Selection, place: int) -> None:
    """Let `layer` hold the adapter; the dictionary of a layer in use is replaced, since another thread may be reading it."""
    host = there if isinstance(there, LoraLinear) else LoraLinear(there, selection, place)
    host.adapters = nn.ModuleDict({**dict(host.adapters.items()), name: adapter}).train(there.training)
    if host is not there:
        replace(model, layer, host)


def detach(model: nn.Module, name: str) -> None:
    """Take the adapter off (unmerging it first); the last one to go leaves the model as it was before the first came.

    Other threads may be running the model: from the next layer on they go without the adapter.
    """
    selection = selection_of(model)
    with selection.lock:
        hosts = _hosts(model, name)
        if selection.attached[name] is not None:
            unmerge(model, name)
        selection.remove(name)
        for layer, (host, _) in hosts.items():
            left = {n: a for n, a in host.adapters.items() if n != name}
            if left:
                host.adapters = nn.ModuleDict(left).train(host.training)
            else:
                replace(model, layer, host.base)
        if not selection.attached:
            for parameter in selection.frozen:
                parameter.requires_grad_(True)
            selection.frozen = []


def merge(model: nn.Module, name: str = "default") -> None:
    """Add the adapter, at its strength, into the base's weights; it costs nothing at run time then, and cannot be switched off.

    Raises `ConfigError` when it is merged already, `ModelError` when a base weight is not a floating-point matrix.
    """
    selection = selection_of(model)
    with selection.lock:
        hosts, strength = _hosts(model, name), selection.default.get(name, 1.0)
        for layer, (host, _) in hosts.items():
            if isinstance(host.base, FrozenLinear):
                raise ModelError(
                    f"{layer} is quantized and cannot take a merged adapter.", hint="Go back to full precision, merge, and quantize again."
                )
        if selection.attached[name] is not None:
            raise ConfigError(f"Adapter {name!r} is merged already.", hint="Unmerge it first.")
        for host, adapter in hosts.values():
            _add(host.weight, adapter.delta(host.weight), strength)
            adapter.merged = strength
        selection.attached = {**selection.attached, name: strength}


def unmerge(model: nn.Module, name: str = "default") -> None:
    """Take a merged adapter out of the base's weights again; exact up to rounding in the weights' dtype."""
    selection = selection_of(model)
    with selection.lock:
        hosts = _hosts(model, name)
        if selection.attached[name] is None:
            raise ConfigError(f"Adapter {name!r} is not merged.", hint="Merge it first.")
        for host, adapter in hosts.values():
            assert adapter.merged is not None
            _add(host.weight, adapter.delta(host.weight), -adapter.merged)
            adapter.merged = None
        selection.attached = {**selection.attached, name: None}


def bake(model: nn.Module, name: str = "default") -> None:
    """Merge the adapter for good: its layers become plain linears again, with the sum as their weights."""
    selection = selection_of(model)
    with selection.lock:
        merge(model, name)
        selection.attached = {**selection.attached, name: None}  # nothing is left to take out again
        detach(model, name)


@torch.no_grad()
def _add(weight: Tensor, delta: Tensor, factor: float) -> None:
    """weight += factor · delta, rounded once."""
    weight.copy_(torch.add(weight.float(), delta, alpha=factor))


def scale(model: nn.Module, name: str, strength: float) -> None:
    """How strongly the adapter acts in threads that have not selected for themselves: 0 off, 1 as trained."""
    selection = selection_of(model)
    with selection.lock:
        if name not in selection.attached:
            raise _unknown(name, selection)
        if selection.attached[name] is not None:
            raise ConfigError(f"Adapter {name!r} is merged into the weights, so its strength is fixed.", hint="Unmerge it first.")
        selection.default = {**selection.default, name: float(strength)}


def strengths(model: nn.Module) -> dict[str, float]:
    """Name -> strength as `scale` left them, for every attached adapter."""
    return dict(selection_of(model).default)


def selected(model: nn.Module, chosen: Mapping[str, float]) -> AbstractContextManager[None]:
    """Inside the block, the calling thread (only it) runs `model` with exactly these adapters: name -> strength.

    It holds for adapters that come or go meanwhile too: one that is attached inside the block does not act, one that is detached
    acts no more. In a generator, enter and leave it between two yields, or see to it that one thread runs nothing else meanwhile.
    Raises `ConfigError` for a name that is not attached, or while a merged adapter would act unasked.
    """
    return _choosing(model, dict(chosen))


def disabled(model: nn.Module) -> AbstractContextManager[None]:
    """Inside the block, the calling thread (only it) runs the bare base."""
    return _choosing(model, {})


@contextmanager
def _choosing(model: nn.Module, chosen: dict[str, float]) -> Iterator[None]:
    selection = selection_of(model)
    attached = selection.attached  # read once: another thread may replace it
    for name in chosen:
        if name not in attached:
            raise _unknown(name, selection)
    for name, merged in attached.items():
        if merged is not None and chosen.get(name) != merged:
            raise ConfigError(f"Adapter {name!r} is merged into the weights and cannot be switched.", hint="Unmerge it first.")
    with selection.use(chosen):
        yield


def adapter_names(model: nn.Module) -> tuple[str, ...]:
    """The attached adapters, oldest first."""
    return tuple(selection_of(model).attached)


def adapters_of(model: nn.Module, name: str) -> dict[str, Adapter]:
    """Layer name -> its adapter called `name`, in model order. Raises `ConfigError` when no layer has one."""
    return {layer: adapter for layer, (_, adapter) in _hosts(model, name).items()}


def trainable_parameters(model: nn.Module, name: str = "default") -> dict[str, nn.Parameter]:
    """The adapter's parameters by stable names such as `blocks.0.attention.q_proj.A`."""
    found = adapters_of(model, name).items()
    return {f"{layer}.{key}": parameter for layer, adapter in found for key, parameter in adapter.named_parameters()}


def _hosts(model: nn.Module, name: str) -> dict[str, tuple[LoraLinear, Adapter]]:
    """Layer name -> the layer and what it holds under `name`."""
    selection = selection_of(model)
    found = {}
    if name in selection.attached:
        for layer, module in model.named_modules():
            held: Any = module.adapters if isinstance(module, LoraLinear) else {}
            if name in held:
                found[layer] = (module, held[name])
    if not found:
        raise _unknown(name, selection)
    return found


def _unknown(name: str, selection: Selection) -> ConfigError:
    return ConfigError(f"There is no adapter {name!r}.", hint=f"Attached: {', '.join(selection.attached) or 'none'}.")
