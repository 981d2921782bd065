"""Quantize a model in place, module by module; undo it as far as that goes; share weights between two model objects."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from workbench.adapters.selection import selection_of
from workbench.core.errors import ConfigError, ModelError
from workbench.core.fields import require_usable
from workbench.model import Transformer
from workbench.model.surgery import matches, replace
from workbench.parts.frozen import FrozenLinear, FrozenTable, rejoin
from workbench.parts.linear import Corrected, Linear
from workbench.quantization.base import SCHEMES, Scheme, make_scheme
from workbench.quantization.config import SKIPPED, QuantizationConfig
from workbench.quantization.norms import FrozenNorm, frozen_norm, norm_codes, thawed_norm
from workbench.quantization.places import EMBEDDING, HEAD, NORM, Place, places
from workbench.quantization.plan import decision

_NUMBERS = 1 << 22
"""Weights encoded at once."""


def quantize(
    model: Transformer,
    scheme: str = "int8",
    skip: Sequence[str] = SKIPPED,
    *,
    modules: Sequence[str] = ("*",),
    **options: Any,
) -> Transformer:
    """Keep the chosen weights of `model` in few bits, in place; returns it. See `quantize_steps`."""
    config = QuantizationConfig(scheme=SCHEMES.choose(scheme, options), modules=tuple(modules), skip=tuple(skip))
    for _ in quantize_steps(model, config):
        pass
    return model


def quantize_steps(model: Transformer, config: QuantizationConfig) -> Iterator[int]:
    """Replace every module that `config` chooses by one that keeps its weights in few bits, yielding the bytes of full-precision weights
    that were encoded, step by step. Adapters stay attached and act on the quantized layers.

    Everything that can be wrong is looked for first. Raises `ConfigError` for unusable settings or when nothing is chosen, `ModelError`
    for weights that are quantized already, merged with an adapter, or not finite.
    """
    require_usable(config)
    scheme, chosen = make_scheme(config.scheme), _chosen(model, config)
    _require_plain(model, chosen)
    with torch.inference_mode(False), torch.no_grad():
        for place in chosen:
            _install(model, place, _frozen(place, scheme))
            yield place.plain_nbytes
        rejoin(model.modules())
        _forget_trained(model)


def _chosen(model: Transformer, config: QuantizationConfig) -> list[Place]:
    everything = places(model)
    for pattern in config.modules:
        if not any(matches(place.name, pattern) for place in everything):
            raise ConfigError(f"No module matches {pattern!r}.", hint="The plan lists the modules' names.")
    found = [place for place in everything if decision(place, config)[0]]
    if not found:
        raise ConfigError("Nothing is left to quantize: every module that was named is skipped too.", hint="Skip less, or name more.")
    return found


def _require_plain(model: Transformer, chosen: Sequence[Place]) -> None:
    if is_quantized(model):
        raise ModelError(
            "The model is quantized already, and rounding twice would lose more than either alone.", hint="Start from its full precision."
        )
    for name, merged in selection_of(model).attached.items():
        if merged is not None:
            raise ModelError(f"Adapter {name!r} is merged into the weights.", hint="Unmerge it, quantize, and attach it again.")
    for place in chosen:
        weight = place.module.weight
        if not bool(torch.isfinite(weight.detach().sum(dtype=torch.float32))) and not bool(torch.isfinite(weight).all()):
            kind = "NaN" if bool(weight.isnan().any()) else "an infinity"
            raise ModelError(f"{place.name} holds {kind}, for which no scheme has a code.", hint="Skip it, or get the model again.")


def is_quantized(model: Transformer) -> bool:
    """Whether any weight is kept in few bits."""
    return any(place.frozen for place in places(model))


def _frozen(place: Place, scheme: Scheme) -> nn.Module:
    weight, dtype = place.module.weight.detach(), place.module.weight.dtype
    if place.kind == NORM:
        codes, scale = norm_codes(weight)
        return frozen_norm(place.module, codes, scale, dtype, _distance(weight, (codes * scale).to(dtype)))
    planes = {
        name: torch.empty(plane.shape, dtype=plane.dtype, device=weight.device)
        for name, plane in scheme.layout(weight.shape[0], weight.shape[1]).items()
    }
    step, lost, whole = max(1, _NUMBERS // weight.shape[1]), 0.0, 0.0
    for start in range(0, len(weight), step):
        part = weight[start : start + step].float()
        encoded = scheme.encode(part)
        for name, plane in planes.items():
            plane[start : start + step] = encoded[name]
        lost += float((scheme.decode(encoded, weight.shape[1]) - part).square_().sum())
        whole += float(part.square().sum())
    error = math.sqrt(lost / whole) if whole else 0.0
    if place.kind == EMBEDDING:
        return FrozenTable(scheme, planes, weight.shape[1], dtype, error)
    return FrozenLinear(scheme, planes, weight.shape[1], place.module.bias, dtype, error)


def _distance(weight: Tensor, other: Tensor) -> float:
    size = float(weight.float().norm())
    return float((weight.float() - other.float()).norm()) / size if size else 0.0


def _install(model: Transformer, place: Place, new: nn.Module) -> None:
    """Put it where the module was, inside an adapter's wrapping too; a tied embedding shares the head's planes."""
    there = model.get_submodule(place.name)
    if isinstance(there, Corrected):
        new.train(there.training)
        there.base = new
        parent = model.get_submodule(place.name.rpartition(".")[0])
        joint = getattr(parent, "joint", None)
        if joint is not None and place.module in joint.linears:
            joint.drop()
    else:
        replace(model, place.name, new)
    if place.name == HEAD and model.config.tie_embeddings:
        replace(model, EMBEDDING, _table_of(new, model) if isinstance(new, FrozenLinear) else _plain_table(new))


def _table_of(head: FrozenLinear, model: Transformer) -> FrozenTable:
    return FrozenTable(head.coding, head.planes, head.width, head.dtype, head.error)


def _plain_table(head: nn.Module) -> nn.Embedding:
    weight: Any = head.weight
    shared = weight if isinstance(weight, nn.Parameter) else nn.Parameter(weight)
    table: Any = nn.Embedding(shared.shape[0], shared.shape[1], _weight=shared, _freeze=False)
    table.weight = shared
    found: nn.Embedding = table
    return found


def _forget_trained(model: Transformer) -> None:
    """An attached adapter remembers which parameters were trainable before it came; those that are gone must not be kept alive."""
    selection = selection_of(model)
    left = {id(parameter) for parameter in model.parameters()}
    selection.frozen = [parameter for parameter in selection.frozen if id(parameter) in left]


# ---- other forms ---------------------------------------------------------------------------------------------------


def twin(model: Transformer) -> Transformer:
    """A second model object that shares every parameter, adapters included: other modules, so that one may be quantized without
    touching the other."""
    return copy.deepcopy(model, {id(parameter): parameter for parameter in model.parameters()})


def dequantized(model: Transformer) -> Transformer:
    """A model in full precision that computes with the numbers the codes stand for; shares what is not quantized."""
    plain = twin(model)
    with torch.inference_mode(False), torch.no_grad():
        for place in places(plain):
            if not place.frozen:
                continue
            if isinstance(place.module, FrozenNorm):
                _install(plain, place, thawed_norm(place.module, place.module.weight))
            elif isinstance(place.module, FrozenLinear):
                _install(plain, place, _plain_linear(place.module))
            else:
                _install(plain, place, _plain_table(place.module))
        rejoin(plain.modules())
    return plain


def _plain_linear(frozen: FrozenLinear) -> Linear:
    linear = Linear(frozen.in_features, frozen.out_features, bias=False, device="meta")
    linear.weight = nn.Parameter(frozen.weight)
    linear.register_parameter("bias", frozen._parameters["bias"])
    return linear


def install_empty(model: Transformer, scheme: Scheme, errors: Mapping[str, float | None], norms: Mapping[str, float | None]) -> None:
    """Give the named modules of a model whose values are undefined the form of quantized ones, for loaders. Raises `ModelError` for a
    name that it does not have."""
    known = {place.name: place for place in places(model)}
    for name, error in {**errors, **norms}.items():
        place = known.get(name)
        if place is None or place.fixed or place.frozen or (place.kind == NORM) != (name in norms):
            raise ModelError(f"The file says that {name} is quantized, which this architecture cannot be.", hint="The file is damaged.")
        _install(model, place, _empty(place, scheme, error))
    rejoin(model.modules())


def _empty(place: Place, scheme: Scheme, error: float | None) -> nn.Module:
    weight = place.module.weight
    if place.kind == NORM:
        codes = torch.empty(place.shape, dtype=torch.int8, device=weight.device)
        return frozen_norm(place.module, codes, torch.empty(1, device=weight.device), weight.dtype, error)
    planes = {
        name: torch.empty(plane.shape, dtype=plane.dtype, device=weight.device)
        for name, plane in scheme.layout(place.shape[0], place.shape[1]).items()
    }
    if place.kind == EMBEDDING:
        return FrozenTable(scheme, planes, place.shape[1], weight.dtype, error)
    return FrozenLinear(scheme, planes, place.shape[1], place.module.bias, weight.dtype, error)
