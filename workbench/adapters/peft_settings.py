"""`adapter_config.json`: every key is understood, known to be harmless, or refused by name."""

from __future__ import annotations

import json
import math
import re
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.adapters.base import ADAPTERS, adapter_type
from workbench.adapters.peft_names import targeted
from workbench.adapters.peft_patterns import problem_of
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

MOST = 1 << 20
"""The highest rank that is believed."""
DAMAGED = "The file is damaged; copy it again."


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
        raise ModelError(
            f"{path.parent} is an adapter of type {reprlib.repr(data.get('peft_type'))}.", hint="Only LoRA adapters can be loaded."
        )
    _refuse_unsupported(path, data)
    try:
        settings = Settings(
            path=path,
            method=_method(path, data),
            r=_whole(data.get("r", 8), "r"),
            alpha=_number(data.get("lora_alpha", 8), "lora_alpha"),
            dropout=_number(data.get("lora_dropout", 0.0), "lora_dropout"),
            rank_pattern={k: _whole(v, f"rank_pattern of {k}") for k, v in (data.get("rank_pattern") or {}).items()},
            alpha_pattern={k: _number(v, f"alpha_pattern of {k}") for k, v in (data.get("alpha_pattern") or {}).items()},
            target_modules=_names(data.get("target_modules"), "target_modules"),
            exclude_modules=_names(data.get("exclude_modules"), "exclude_modules"),
            layers=_layers(data.get("layers_to_transform")),
            layers_pattern=_listed(_names(data.get("layers_pattern"), "layers_pattern")),
        )
    except (TypeError, ValueError, AttributeError, OverflowError) as error:
        raise FileError(f"{path} holds a value of the wrong type ({error}).", hint=DAMAGED) from error
    _check_bounds(settings)
    _check_patterns(settings)
    return settings


def _number(value: Any, key: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{key} = {reprlib.repr(value)} is no number")
    return float(value)


def _whole(value: Any, key: str) -> int:
    if not _number(value, key).is_integer():
        raise TypeError(f"{key} = {value!r} is no whole number")
    return int(value)


def _names(value: Any, key: str) -> Sequence[str] | str | None:
    if value is None or isinstance(value, str) or (isinstance(value, list) and all(isinstance(v, str) for v in value)):
        return value
    raise TypeError(f"{key} = {reprlib.repr(value)} is neither a text nor a list of texts")


def _listed(value: Sequence[str] | str | None) -> Sequence[str]:
    return ([value] if value else []) if isinstance(value, str) else list(value or [])


def _layers(value: Any) -> frozenset[int] | None:
    if value is None or value == []:
        return None
    return frozenset(_whole(v, "layers_to_transform") for v in (value if isinstance(value, list) else [value]))


def _check_bounds(settings: Settings) -> None:
    """Numbers that would divide by zero, allocate without end or make every answer NaN."""
    for key, r in [("r", settings.r), *settings.rank_pattern.items()]:
        if not 1 <= r <= MOST:
            raise FileError(f"{settings.path} gives {key} the rank {r}; it must be between 1 and {MOST}.", hint=DAMAGED)
    for key, alpha in [("lora_alpha", settings.alpha), *settings.alpha_pattern.items()]:
        if not math.isfinite(alpha):
            raise FileError(f"{settings.path} gives {key} the alpha {alpha}; it must be finite.", hint=DAMAGED)
    if not 0 <= settings.dropout < 1:
        raise FileError(f"{settings.path} has lora_dropout = {settings.dropout}; it must be at least 0 and below 1.", hint=DAMAGED)


def _check_patterns(settings: Settings) -> None:
    """Every text that is used as a regular expression, in the form in which it is used."""
    whole = [t for t in (settings.target_modules, settings.exclude_modules) if isinstance(t, str)]
    found = {t: t for t in whole}
    found |= {f"({k})": k for k in (*settings.rank_pattern, *settings.alpha_pattern)}
    found |= {f"(?:{p})": p for p in settings.layers_pattern}
    for used, written in found.items():
        problem = problem_of(written) or problem_of(f".{used}")
        if problem is not None:
            raise ModelError(
                f"The pattern {reprlib.repr(written)} in {settings.path} {problem}.",
                hint="Write the layers' names into adapter_config.json instead, as PEFT does when it saves an adapter.",
            )


def _json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileError(f"{path} does not exist.", hint="Choose a folder that PEFT or this program has written.") from None
    except (OSError, ValueError) as error:
        raise FileError(f"{path} cannot be read: {error}.", hint=DAMAGED) from error
    except RecursionError:
        raise FileError(f"{path} cannot be read: it is nested too deeply.", hint=DAMAGED) from None
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
            f"{path.parent} uses {key} = {reprlib.repr(value)}, which is not supported.",
            hint="Merge it with PEFT and load the merged model.",
        )
    start = data.get("init_lora_weights", True)
    if start not in PLAIN_STARTS:
        raise ModelError(
            f"{path.parent} was started with init_lora_weights = {reprlib.repr(start)}, which changes the base weights too.",
            hint="Save it with PEFT's path_initial_model_for_weight_conversion, which makes a plain LoRA of it.",
        )
