"""`adapter_config.json`: every key is understood, known to be harmless, or refused by name."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.adapters.base import ADAPTERS, adapter_type
from workbench.adapters.peft_names import targeted
from workbench.core.errors import FileError, ModelError

READ = {
    "alpha_pattern", "exclude_modules", "layers_pattern", "layers_to_transform", "lora_alpha", "lora_dropout", "peft_type", "r",
    "rank_pattern", "target_modules", "use_dora", "use_rslora", "init_lora_weights",
}  # fmt: skip
WITHOUT_EFFECT = {
    "auto_mapping", "base_model_name_or_path", "ensure_weight_tying", "eva_config", "fan_in_fan_out", "inference_mode", "megatron_core",
    "peft_version", "qalora_group_size", "revision", "runtime_config", "task_type",
}  # fmt: skip
"""Keys that say nothing about what the trained adapter computes."""
PLAIN_STARTS = (True, False, None, "gaussian", "orthogonal", "eva")
"""Starting values that leave the base weights as they were; the others are only right beside a changed base."""


@dataclass(frozen=True)
class Settings:
    """What of the file matters for computing."""

    path: Path
    method: str
    r: int
    alpha: float
    dropout: float
    rank_pattern: Mapping[str, float]
    alpha_pattern: Mapping[str, float]
    target_modules: Sequence[str] | str | None
    exclude_modules: Sequence[str] | str | None
    layers: frozenset[int] | None
    layers_pattern: Sequence[str]

    def scaling(self, r: int, alpha: float) -> float:
        return adapter_type(self.method).scale_rule(alpha, r)

    def targets(self, modules: Mapping[str, Any]) -> set[str] | None:
        """Those of `modules` that the file's rules choose; None when it names no targets."""
        rules = self.target_modules
        if rules is None:
            return None
        return {m for m in modules if targeted(m, rules) and not self._left_out(m, in_list=not isinstance(rules, str))}

    def _left_out(self, module: str, in_list: bool) -> bool:
        if self.exclude_modules and targeted(module, self.exclude_modules):
            return True
        if self.layers is None or not in_list:
            return False
        places = [rf"(?:^|.*?\.){p}\.(\d+)\." for p in self.layers_pattern] or [r".*?\.[^.]*\.(\d+)\."]
        found = next((m for m in (re.match(p, module) for p in places) if m), None)
        return found is None or int(found[1]) not in self.layers


def read_settings(path: Path) -> Settings:
    """Raises `FileError` when the file is missing or no adapter's, `ModelError` for a setting that is not supported."""
    data = _json(path)
    if data.get("peft_type") != "LORA":
        raise ModelError(f"{path.parent} is an adapter of type {data.get('peft_type')!r}.", hint="Only LoRA adapters can be loaded.")
    _refuse_unsupported(path, data)
    layers = data.get("layers_to_transform")
    patterns = data.get("layers_pattern") or []
    try:
        return Settings(
            path=path,
            method=_method(path, data),
            r=int(data.get("r", 8)),
            alpha=float(data.get("lora_alpha", 8)),
            dropout=float(data.get("lora_dropout", 0.0)),
            rank_pattern={k: int(v) for k, v in (data.get("rank_pattern") or {}).items()},
            alpha_pattern={k: float(v) for k, v in (data.get("alpha_pattern") or {}).items()},
            target_modules=data.get("target_modules"),
            exclude_modules=data.get("exclude_modules"),
            layers=None if layers in (None, []) else frozenset([layers] if isinstance(layers, int) else layers),
            layers_pattern=[patterns] if isinstance(patterns, str) else list(patterns),
        )
    except (TypeError, ValueError, AttributeError) as error:
        raise FileError(f"{path} holds a value of the wrong type ({error}).", hint="The file is damaged; copy it again.") from error


def _json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileError(f"{path} does not exist.", hint="Choose a folder that PEFT or this program has written.") from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise FileError(f"{path} cannot be read: {error}.", hint="The file is damaged; copy it again.") from error
    if not isinstance(data, dict):
        raise FileError(f"{path} is not an adapter's settings.", hint="Choose another folder.")
    return data


def _method(path: Path, data: Mapping[str, Any]) -> str:
    for entry in ADAPTERS:
        if all(bool(data.get(flag, False)) == value for flag, value in adapter_type(entry.name).peft_flags.items()):
            return entry.name
    on = [flag for flag in ("use_dora", "use_rslora") if data.get(flag)]
    raise ModelError(
        f"{path.parent} uses {' with '.join(on)}, which is not supported.", hint="Merge it with PEFT and load the merged model."
    )


def _refuse_unsupported(path: Path, data: Mapping[str, Any]) -> None:
    """Any other key may only hold a value that switches it off."""
    for key, value in data.items():
        if key in READ or key in WITHOUT_EFFECT or not value or (key == "bias" and value == "none"):
            continue
        raise ModelError(
            f"{path.parent} uses {key} = {value!r}, which is not supported.", hint="Merge it with PEFT and load the merged model."
        )
    start = data.get("init_lora_weights", True)
    if start not in PLAIN_STARTS:
        raise ModelError(
            f"{path.parent} was started with init_lora_weights = {start!r}, which changes the base weights too.",
            hint="Save it with PEFT's path_initial_model_for_weight_conversion, which makes a plain LoRA of it.",
        )
