"""Adapters in PEFT's folder format, both ways: `adapter_config.json` and `adapter_model.safetensors` (PEFT 0.21).

Stricter than PEFT on purpose: a tensor that is missing, left over or of the wrong shape, and a setting that is not
understood, is an error that names it, never a silent half-loaded adapter.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from workbench.adapters.attach import AdapterSpec, adapters_of, attach_specs
from workbench.adapters.base import ADAPTERS, Adapter, adapter_type
from workbench.adapters.config import LoraConfig
from workbench.adapters.fused import Pair, cut, join
from workbench.adapters.peft_names import Layout, Naming, by_pattern, naming_of, recognise, shortest
from workbench.adapters.peft_settings import Settings, read_settings
from workbench.core.errors import FileError, ModelError
from workbench.core.store import atomic_folder
from workbench.model.surgery import linears

CONFIG, WEIGHTS, README = "adapter_config.json", "adapter_model.safetensors", "README.md"
PREFIX = "base_model.model."
FORMAT_VERSION = "0.21.2"
"""The PEFT release whose format this is; written as `peft_version`."""
SHOWN = 8


def load_adapter(
    model: nn.Module, folder: Path | str, name: str = "default", family: str | None = None, *, strength: float = 1.0
) -> LoraConfig:
    """Attach the adapter in `folder` to `model` as `name`; returns its settings (rank and α are those of most layers).

    It acts at `strength` in threads that have not selected for themselves, and the model is untouched when anything is wrong.
    `family` says whose module paths the keys use; None recognises it by the keys. Raises `FileError` when the folder is no
    adapter or damaged, `ModelError` when it does not fit the model or needs something that is not supported.
    """
    folder = Path(folder)
    settings = read_settings(folder / CONFIG)
    by_module = _by_module(_tensors(folder), folder)
    naming = recognise(model, list(by_module)) if family is None else naming_of(family)
    if naming is None:
        raise ModelError(f"{folder} fits no layer of this model.", hint="It was made for another model.", details="\n".join(by_module))
    layout = naming.layout(model)
    expected = settings.targets(layout)
    _same_modules(folder, set(by_module), set(by_module) & layout.keys() if expected is None else expected)
    pairs: dict[str, Pair] = {}
    for module, tensors in by_module.items():
        pairs.update(_pairs(model, folder, module, layout[module], tensors, settings, naming))
    specs = {layer: _spec(settings, pair) for layer, pair in pairs.items()}
    common = _spec(settings, Pair(torch.empty(settings.r, 0), torch.empty(0, settings.r), settings.scaling(settings.r, settings.alpha)))
    config = LoraConfig(
        method=settings.method, r=common.r, lora_alpha=common.alpha, lora_dropout=settings.dropout,
        target_modules=tuple(shortest(list(specs), list(linears(model)))),
    )  # fmt: skip
    attach_specs(model, specs, name, lambda layer, adapter: _fill(adapter, pairs[layer]), strength=strength)
    return config


def save_adapter(model: nn.Module, name: str, folder: Path | str, family: str = "workbench", *, base_model: str | None = None) -> Path:
    """Write the adapter `name` to `folder`, whole or not at all; an adapter that lies there is replaced. Returns the folder.

    `family` ("gpt2", "llama", … or "workbench" for our own names) decides the module paths. Raises `ModelError` when the family
    has no place for an adapted layer, `FileError` when the folder holds other things or cannot be written.
    """
    folder, naming = Path(folder), naming_of(family)
    adapters = adapters_of(model, name)
    method = next(iter(adapters.values())).kind
    layout = naming.layout(model)
    pairs = _joined(model, adapters, layout, naming)
    _only_an_adapter(folder)
    with atomic_folder(folder) as temporary:
        data = _settings(pairs, layout, method, next(iter(adapters.values())).dropout, naming, base_model)
        _write(temporary / CONFIG, (json.dumps(data, indent=2) + "\n").encode())
        _write(temporary / README, _readme(data).encode())
        tensors = {}
        for module, pair in pairs.items():
            tensors[f"{PREFIX}{module}.lora_A.weight"] = pair.a.contiguous().cpu()
            tensors[f"{PREFIX}{module}.lora_B.weight"] = pair.b.contiguous().cpu()
        _write(temporary / WEIGHTS, save(tensors, metadata={"format": "pt"}))
    return folder


# ---- reading -----------------------------------------------------------------------------------------------------


def _tensors(folder: Path) -> dict[str, Tensor]:
    path = folder / WEIGHTS
    if not path.exists() and (folder / "adapter_model.bin").exists():
        raise FileError(
            f"{folder} holds its weights as a pickle, which can run code when it is opened.",
            hint="Save the adapter again with PEFT's safe_serialization=True.",
        )
    try:
        return load_file(path)
    except FileNotFoundError:
        raise FileError(f"{path} does not exist.", hint="Choose a folder that PEFT or this program has written.") from None
    except (SafetensorError, OSError, ValueError) as error:
        raise FileError(f"{path} cannot be read: {error}.", hint="The file is damaged or incomplete; copy it again.") from error


def _by_module(tensors: Mapping[str, Tensor], folder: Path) -> dict[str, dict[str, Tensor]]:
    """Module path -> the pair's tensors under `lora_A.weight` and `lora_B.weight`."""
    found: dict[str, dict[str, Tensor]] = {}
    strange = []
    for key, tensor in tensors.items():
        module, _, suffix = key.removeprefix(PREFIX).partition(".lora_")
        if not key.startswith(PREFIX) or suffix not in ("A.weight", "B.weight"):
            strange.append(key)
            continue
        found.setdefault(module, {})[f"lora_{suffix}"] = tensor
    if strange:
        raise ModelError(
            f"{folder} holds {len(strange)} tensors that are not understood: {_some(strange)}.",
            hint="Only the A and B matrices of linear layers are supported.",
            details="\n".join(strange),
        )
    if not found:
        raise ModelError(f"{folder} holds no adapter weights.", hint="Choose another folder.")
    halves = [m for m, pair in found.items() if len(pair) < 2]
    if halves:
        raise ModelError(f"{folder} lacks one of the two matrices of {_some(halves)}.", hint="The file is incomplete; copy it again.")
    return found


def _same_modules(folder: Path, present: set[str], expected: set[str]) -> None:
    missing, unexpected = sorted(expected - present), sorted(present - expected)
    if missing or unexpected:
        parts = [f"{len(x)} {word} ({_some(x)})" for x, word in ((missing, "missing"), (unexpected, "unexpected")) if x]
        raise ModelError(
            f"The weights in {folder} do not match its target_modules on this model: {', '.join(parts)}.",
            hint="The adapter was made for another model, or its files do not belong together.",
            details="\n".join([f"missing: {m}" for m in missing] + [f"unexpected: {m}" for m in unexpected]),
        )


def _pairs(
    model: nn.Module, folder: Path, module: str, parts: Sequence[str], tensors: Mapping[str, Tensor], settings: Settings, naming: Naming
) -> dict[str, Pair]:
    a, b = (tensors[f"lora_{x}.weight"].float() for x in "AB")
    hosts: list[Any] = [model.get_submodule(part) for part in parts]
    sizes = [host.out_features for host in hosts]
    r = int(by_pattern(module, settings.rank_pattern, settings.r))
    wanted = ((r, hosts[0].in_features), (sum(sizes), r))
    if (tuple(a.shape), tuple(b.shape)) != wanted:
        raise ModelError(
            f"{module} in {folder} has A {list(a.shape)} and B {list(b.shape)}; this model and rank {r} need {list(wanted[0])} and "
            f"{list(wanted[1])}.",
            hint="The adapter was made for another model, or its two files do not belong together.",
        )
    if not (bool(a.isfinite().all()) and bool(b.isfinite().all())):
        raise ModelError(
            f"{module} in {folder} holds values that are not finite.", hint="The run that made it had diverged; use an earlier save."
        )
    rows = naming.rows(model, parts)
    pair = Pair(a, b if rows is None else b[rows], settings.scaling(r, by_pattern(module, settings.alpha_pattern, settings.alpha)))
    if len(parts) == 1:
        return {parts[0]: pair}
    return {part: p for part, p in zip(parts, cut(pair, sizes), strict=True) if p is not None}


def _spec(settings: Settings, pair: Pair) -> AdapterSpec:
    return AdapterSpec(settings.method, pair.r, alpha_for(settings.method, pair.scaling, pair.r), settings.dropout)


def _fill(adapter: Adapter, pair: Pair) -> None:
    with torch.no_grad():
        for key, tensor in adapter.peft_tensors().items():
            tensor.copy_(pair.a if key == "lora_A.weight" else pair.b)


def alpha_for(method: str, scaling: float, r: int) -> float:
    """The α that gives `scaling` at rank r; every scale rule is proportional to α. Snapped to the 12th digit."""
    alpha = scaling / adapter_type(method).scale_rule(1.0, r)
    return float(f"{alpha:.12g}")


# ---- writing -----------------------------------------------------------------------------------------------------


def _joined(model: nn.Module, adapters: Mapping[str, Adapter], layout: Layout, naming: Naming) -> dict[str, Pair]:
    homeless = sorted(set(adapters) - {part for parts in layout.values() for part in parts})
    if homeless:
        raise ModelError(
            f"Adapters of the family {naming.families[0]} have no place for {_some(homeless)}.",
            hint='Save with family="workbench" instead.',
        )
    pairs: dict[str, Pair] = {}
    for module, parts in layout.items():
        present = [_pair(adapters[part]) if part in adapters else None for part in parts]
        if any(present):
            sizes = [int(model.get_submodule(part).out_features) for part in parts]  # type: ignore[arg-type]
            pairs[module] = _placed(join(present, sizes), naming.rows(model, parts))
    return pairs


def _placed(pair: Pair, rows: Tensor | None) -> Pair:
    """With the rows of B where the fused matrix has them."""
    if rows is None:
        return pair
    b = torch.empty_like(pair.b)
    b[rows] = pair.b
    return Pair(pair.a, b, pair.scaling)


def _pair(adapter: Adapter) -> Pair:
    tensors = {key: t.detach().float().cpu() for key, t in adapter.peft_tensors().items()}
    return Pair(tensors["lora_A.weight"], tensors["lora_B.weight"], adapter.scaling)


def _settings(
    pairs: Mapping[str, Pair], layout: Layout, method: str, dropout: float, naming: Naming, base_model: str | None
) -> dict[str, Any]:
    """The content of adapter_config.json: the commonest rank and α, the others by pattern."""
    numbers = {module: (pair.r, alpha_for(method, pair.scaling, pair.r)) for module, pair in pairs.items()}
    found = list(numbers.values())
    r, alpha = max(dict.fromkeys(found), key=found.count)
    ranks, alphas = _pattern(numbers, 0, r), _pattern(numbers, 1, alpha)
    return {
        "alpha_pattern": alphas,
        "auto_mapping": None,
        "base_model_name_or_path": base_model,
        "bias": "none",
        "exclude_modules": None,
        "fan_in_fan_out": naming.fan_in_fan_out,
        "inference_mode": True,
        "init_lora_weights": True,
        "layers_pattern": None,
        "layers_to_transform": None,
        "lora_alpha": _whole(alpha),
        "lora_dropout": dropout,
        "modules_to_save": None,
        "peft_type": "LORA",
        "peft_version": FORMAT_VERSION,
        "r": r,
        "rank_pattern": ranks,
        "revision": None,
        "target_modules": shortest(list(pairs), list(layout)),
        "task_type": "CAUSAL_LM",
        **dict(adapter_type(method).peft_flags),
    }


def _pattern(numbers: Mapping[str, tuple[int, float]], which: int, common: float) -> dict[str, float]:
    """Suffix or path -> value, for the modules whose value is not the common one."""
    result: dict[str, float] = {}
    for value in dict.fromkeys(n[which] for n in numbers.values()):
        if value != common:
            names = [m for m, n in numbers.items() if n[which] == value]
            result.update({key: _whole(value) for key in shortest(names, list(numbers))})
    return result


def _whole(value: float) -> float:
    return int(value) if float(value).is_integer() else value


def _only_an_adapter(folder: Path) -> None:
    if folder.exists() and (not folder.is_dir() or {p.name for p in folder.iterdir()} - {CONFIG, WEIGHTS, README}):
        raise FileError(f"{folder} holds other things than an adapter and is left as it is.", hint="Choose a new or an empty folder.")


def _readme(data: Mapping[str, Any]) -> str:
    kind = next(e.label for e in ADAPTERS if dict(adapter_type(e.name).peft_flags).items() <= data.items())
    base = data["base_model_name_or_path"] or "the model it was trained on"
    scale_text = f"r = {data['r']}, α = {data['lora_alpha']}"
    return f"# {kind} adapter\n\nFor {base}; {scale_text}. Written by LLM Workbench in the folder format of PEFT {FORMAT_VERSION}.\n"


def _write(path: Path, content: bytes) -> None:
    with open(path, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:SHOWN])
    return shown if len(names) <= SHOWN else f"{shown} and {len(names) - SHOWN} more"
