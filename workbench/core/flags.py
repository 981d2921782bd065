"""Command-line flags generated from config fields: `lora_alpha` becomes `--lora-alpha`."""

from __future__ import annotations

import argparse
from typing import Any, TypeVar

from workbench.core.fields import FieldInfo, describe, parse

C = TypeVar("C")


def add_flags(parser: argparse.ArgumentParser, config_type: type, *, skip: tuple[str, ...] = ()) -> None:
    """One flag per self-describing field, grouped and documented from its metadata. Absent flags stay unset."""
    groups: dict[str, Any] = {}
    for info in describe(config_type):
        if info.name in skip:
            continue
        title = info.group or "settings"
        group = groups.get(title) or groups.setdefault(title, parser.add_argument_group(title))
        flag = "--" + info.name.replace("_", "-")
        names = [o.name for o in info.pick_options()] or None
        shown = {"dest": info.name, "default": argparse.SUPPRESS, "help": _help(info)}
        if info.type is bool:
            group.add_argument(flag, action=argparse.BooleanOptionalAction, **shown)
        else:
            if info.type is tuple:
                shown["action"] = "append"
            group.add_argument(
                flag, metavar="|".join(names) if names else (info.unit or info.type.__name__).upper().replace(" ", "_"), **shown
            )


def _help(info: FieldInfo) -> str:
    parts = [info.help]
    if info.key and info.key != info.name:
        parts.append(f"(key: {info.key})")
    if info.type is tuple:
        parts.append("Repeatable, one each time." if info.verbatim else "Repeatable, or with commas.")
    default = info.none_label if info.default is None else getattr(info.default, "kind", info.default)
    parts.append(f"Default: {default}.")
    return " ".join(parts).replace("%", "%%")


def from_flags(config_type: type[C], namespace: argparse.Namespace, **fixed: Any) -> C:
    """The config that the given flags describe; unset flags keep the field's default. Raises `ConfigError`."""
    values: dict[str, Any] = {}
    for info in describe(config_type):
        if hasattr(namespace, info.name):
            values[info.name] = _value(info, getattr(namespace, info.name))
    return config_type(**{**values, **fixed})


def _value(info: FieldInfo, raw: Any) -> Any:
    if isinstance(raw, str):
        return parse(info, raw)
    if info.type is not tuple or not isinstance(raw, list):
        return raw
    if info.verbatim:
        return tuple(raw)
    parsed = [parse(info, text) for text in raw]
    return None if None in parsed else tuple(item for items in parsed for item in items)
