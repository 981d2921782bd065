"""Put adapters on a model, take them off, weigh them, merge them; choose per thread which ones act."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from workbench.adapters.base import Adapter, build_adapter
from workbench.adapters.config import LoraConfig
from workbench.adapters.linear import LoraLinear
from workbench.adapters.selection import Selection
from workbench.core.errors import ConfigError, ModelError
from workbench.core.fields import require_usable
from workbench.model.surgery import linears, replace, select


@dataclass(frozen=True)
class AdapterSpec:
    """What one layer gets: a method with its numbers."""

    method: str
    r: int
    alpha: float
    dropout: float = 0.0


def attach(model: nn.Module, config: LoraConfig, name: str = "default", seed: int = 0) -> tuple[str, ...]:
    """Give every layer that `config` targets a fresh adapter called `name`; returns the layers' names.

    Nothing changes in what the model computes until the adapter is trained. The base is frozen (`requires_grad` off) until
    the last adapter is detached. Raises `ConfigError` for unusable settings, a pattern without a match, or a name in use.
    """
    require_usable(config)
    layers = select(model, config.patterns())
    spec = AdapterSpec(config.method, config.r, config.lora_alpha, config.lora_dropout)
    fresh = attach_specs(model, dict.fromkeys(layers, spec), name)
    generator = torch.Generator().manual_seed(seed)
    for layer, adapter in fresh.items():
        adapter.reset(config.init, generator, model.get_submodule(layer).weight)  # type: ignore[arg-type]
    return tuple(fresh)


def attach_specs(model: nn.Module, specs: Mapping[str, AdapterSpec], name: str) -> dict[str, Adapter]:
    """As `attach`, with one spec per layer and values undefined: for loaders and rank patterns."""
    if not name or "." in name:
        raise ConfigError(f"An adapter cannot be called {name!r}.", hint="Use a name without dots.")
    if name in adapter_names(model):
        raise ConfigError(f"The model already has an adapter called {name!r}.", hint="Detach it first, or choose another name.")
    known, selection = linears(model), _selection(model) or Selection()
    freeze = not adapter_names(model)
    if freeze:
        selection.frozen = [p for p in model.parameters() if p.requires_grad]
        for parameter in selection.frozen:
            parameter.requires_grad_(False)
    fresh: dict[str, Adapter] = {}
    places = {layer: place for place, layer in enumerate(known)}
    for layer, spec in specs.items():
        host = known[layer]
        if not isinstance(host, LoraLinear):
            base, host = host, LoraLinear(host, selection, places[layer])
            host.train(base.training)
            replace(model, layer, host)
        adapter = build_adapter(
            spec.method, host.in_features, host.out_features, r=spec.r, alpha=spec.alpha, dropout=spec.dropout, device=host.weight.device
        )
        host.adapters[name] = fresh[layer] = adapter.train(host.training)
    selection.default[name] = 1.0
    return fresh


def detach(model: nn.Module, name: str) -> None:
    """Take the adapter off (unmerging it first); the last one to go leaves the model as it was before the first came."""
    hosts = _hosts(model, name)
    if any(a.merged is not None for a in adapters_of(model, name).values()):
        unmerge(model, name)
    selection = next(iter(hosts.values())).selection
    selection.default.pop(name, None)
    for layer, host in hosts.items():
        del host.adapters[name]
        if not host.adapters:
            replace(model, layer, host.base)
    if not adapter_names(model):
        for parameter in selection.frozen:
            parameter.requires_grad_(True)
        selection.frozen = []


def merge(model: nn.Module, name: str = "default") -> None:
    """Add the adapter, at its strength, into the base's weights; it costs nothing at run time then, and cannot be switched off.

    Raises `ConfigError` when it is merged already, `ModelError` when a base weight is not a floating-point matrix.
    """
    hosts, strength = _hosts(model, name), strengths(model)[name]
    for layer, host in hosts.items():
        if not host.weight.is_floating_point():
            raise ModelError(f"{layer} is quantized and cannot take a merged adapter.", hint="Load the model unquantized to merge.")
    if any(a.merged is not None for a in adapters_of(model, name).values()):
        raise ConfigError(f"Adapter {name!r} is merged already.", hint="Unmerge it first.")
    for host in hosts.values():
        adapter = _required(host, name)
        _add(host.weight, adapter.delta(host.weight), strength)
        adapter.merged = strength


def unmerge(model: nn.Module, name: str = "default") -> None:
    """Take a merged adapter out of the base's weights again; exact up to rounding in the weights' dtype."""
    for host in _hosts(model, name).values():
        adapter = _required(host, name)
        if adapter.merged is None:
            raise ConfigError(f"Adapter {name!r} is not merged.", hint="Merge it first.")
        _add(host.weight, adapter.delta(host.weight), -adapter.merged)
        adapter.merged = None


def bake(model: nn.Module, name: str = "default") -> None:
    """Merge the adapter for good: its layers become plain linears again, with the sum as their weights."""
    merge(model, name)
    for adapter in adapters_of(model, name).values():
        adapter.merged = None  # nothing is left to take out again
    detach(model, name)


@torch.no_grad()
def _add(weight: Tensor, delta: Tensor, factor: float) -> None:
    """weight += factor · delta, rounded once."""
    weight.copy_(torch.add(weight.float(), delta, alpha=factor))


def scale(model: nn.Module, name: str, strength: float) -> None:
    """How strongly the adapter acts in threads that have not selected for themselves: 0 off, 1 as trained."""
    _hosts(model, name)
    if any(a.merged is not None for a in adapters_of(model, name).values()):
        raise ConfigError(f"Adapter {name!r} is merged into the weights, so its strength is fixed.", hint="Unmerge it first.")
    selection = _selection(model)
    assert selection is not None
    selection.default[name] = float(strength)


def strengths(model: nn.Module) -> dict[str, float]:
    """Name -> strength as `scale` left them, for every attached adapter."""
    selection = _selection(model)
    return {} if selection is None else dict(selection.default)


def selected(model: nn.Module, chosen: Mapping[str, float]) -> AbstractContextManager[None]:
    """Inside the block, the calling thread (only it) runs `model` with exactly these adapters: name -> strength.

    In a generator, enter and leave it between two yields, or see to it that one thread runs nothing else meanwhile.
    Raises `ConfigError` for a name that is not attached, or while a merged adapter would act unasked.
    """
    return _choosing(model, dict(chosen))


def disabled(model: nn.Module) -> AbstractContextManager[None]:
    """Inside the block, the calling thread (only it) runs the bare base."""
    return _choosing(model, {})


@contextmanager
def _choosing(model: nn.Module, chosen: dict[str, float]) -> Iterator[None]:
    names = adapter_names(model)
    for name in chosen:
        if name not in names:
            raise ConfigError(f"There is no adapter {name!r}.", hint=f"Attached: {', '.join(names) or 'none'}.")
    for name in names:
        merged = next(iter(adapters_of(model, name).values())).merged
        if merged is not None and chosen.get(name) != merged:
            raise ConfigError(f"Adapter {name!r} is merged into the weights and cannot be switched.", hint="Unmerge it first.")
    selection = _selection(model)
    if selection is None:
        yield
        return
    with selection.use(chosen):
        yield


def adapter_names(model: nn.Module) -> tuple[str, ...]:
    """The attached adapters, oldest first."""
    selection = _selection(model)
    return () if selection is None else tuple(selection.default)


def adapters_of(model: nn.Module, name: str) -> dict[str, Adapter]:
    """Layer name -> its adapter called `name`, in model order. Raises `ConfigError` when no layer has one."""
    return {layer: _required(host, name) for layer, host in _hosts(model, name).items()}


def trainable_parameters(model: nn.Module, name: str = "default") -> dict[str, nn.Parameter]:
    """The adapter's parameters by stable names such as `blocks.0.attention.q_proj.A`."""
    found = adapters_of(model, name).items()
    return {f"{layer}.{key}": parameter for layer, adapter in found for key, parameter in adapter.named_parameters()}


def _selection(model: nn.Module) -> Selection | None:
    for module in model.modules():
        if isinstance(module, LoraLinear):
            return module.selection
    return None


def _hosts(model: nn.Module, name: str) -> dict[str, LoraLinear]:
    hosts = {n: m for n, m in model.named_modules() if isinstance(m, LoraLinear) and name in m.adapters}
    if not hosts:
        raise ConfigError(f"There is no adapter {name!r}.", hint=f"Attached: {', '.join(adapter_names(model)) or 'none'}.")
    return hosts


def _required(host: LoraLinear, name: str) -> Adapter:
    adapter = host.adapter(name)
    assert adapter is not None
    return adapter
