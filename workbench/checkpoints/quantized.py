"""Checkpoints of our own whose weights are kept in few bits: what their configuration says about that, and back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch

from workbench.core.errors import ConfigError, ModelError
from workbench.core.fields import require_usable
from workbench.model import Transformer
from workbench.quantization import SCHEMES, QuantizationConfig, Scheme, dequantized, is_quantized
from workbench.quantization.apply import install_empty
from workbench.quantization.base import make_scheme
from workbench.quantization.places import NORM, places

_DAMAGED = "The file is damaged; restore it."
_TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16, "float64": torch.float64}


@dataclass(frozen=True)
class Form:
    """Which modules of a model keep their weights in few bits, and how: name -> error, None where it was not measured. `dtype` is
    that of the weights they stand for."""

    dtype: torch.dtype
    scheme: Scheme | None
    matrices: dict[str, float | None] = field(default_factory=dict)
    norms: dict[str, float | None] = field(default_factory=dict)

    def install(self, model: Transformer) -> None:
        """Give a model in full precision, whose values are undefined, this form. Raises `ModelError` where it has no such module."""
        scheme = self.scheme or make_scheme(SCHEMES.choose("int8"))  # norms alone: they have a code of their own
        install_empty(model, scheme, self.matrices, self.norms)

    def to_json(self) -> dict[str, Any]:
        scheme = None if self.scheme is None else self.scheme.to_json()
        return {"dtype": str(self.dtype).removeprefix("torch."), "scheme": scheme, "matrices": self.matrices, "norms": self.norms}


def form_of(model: Transformer) -> Form | None:
    """How the weights of `model` are kept; None in full precision. Raises `ModelError` for several schemes at once, which no file holds."""
    frozen = [place for place in places(model) if place.frozen]
    if not frozen:
        return None
    schemes = {place.module.coding for place in frozen if place.kind != NORM}
    if len(schemes) > 1:
        raise ModelError("The weights are quantized by several schemes.", hint="Quantize with one, and save again.")
    matrices = {place.name: place.module.error for place in frozen if place.kind != NORM}
    norms = {place.name: place.module.error for place in frozen if place.kind == NORM}
    return Form(model.dtype, next(iter(schemes), None), matrices, norms)


def read_form(data: object, where: str) -> Form:
    """The form that a configuration tells. Raises `ModelError` for anything else."""
    try:
        assert isinstance(data, dict)
        kept = data["scheme"]
        scheme = None if kept is None else _scheme(kept, where)
        return Form(_TYPES[data["dtype"]], scheme, _errors(data["matrices"]), _errors(data["norms"]))
    except (AssertionError, LookupError, TypeError, ValueError) as error:
        raise ModelError(f"{where} does not say rightly how its weights are quantized.", hint=_DAMAGED) from error


def _scheme(data: dict[str, Any], where: str) -> Scheme:
    options = {name: value for name, value in data.items() if name != "kind"}
    try:
        config = QuantizationConfig(scheme=SCHEMES.choose(data["kind"], options))
        require_usable(config)
    except ConfigError as error:
        raise ModelError(f"{where}: its weights are quantized in an unknown way: {error.message}", hint=error.hint) from error
    return make_scheme(config.scheme)


def _errors(data: Any) -> dict[str, float | None]:
    assert isinstance(data, dict)
    return {name: None if error is None else float(error) for name, error in data.items()}


def plane_names(model: Transformer) -> frozenset[str]:
    """The parameters that are codes and scales, whose types mean something."""
    names = {id(p) for place in places(model) if place.frozen for n, p in place.module.named_parameters(recurse=False) if n != "bias"}
    return frozenset(name for name, p in model.named_parameters() if id(p) in names)


def in_full(model: Transformer) -> Transformer:
    """`model`, or where it is quantized one with the numbers that its codes stand for, which takes as much memory as before."""
    return dequantized(model) if is_quantized(model) else model


