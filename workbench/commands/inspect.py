"""`inspect`: what an architecture costs, before anything is allocated."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from workbench.commands.base import Console, table, verb
from workbench.commands.common import base_model, changed, preset_config, preset_flags
from workbench.core.errors import ConfigError
from workbench.core.fields import Problem, info_of, to_dict
from workbench.core.format import bytes_text, count_text
from workbench.library import Library

if TYPE_CHECKING:
    from workbench.model import Accounting, Comparison, ModelConfig

_WIDTHS = {"float32": 4, "bfloat16": 2}


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", nargs="?", help="A library name, folder or file; only its header is read.")
    preset_flags(parser, fields=True)
    text = "Compare: print what this preset or model costs, what the inspected one costs, and the fields in which they differ."
    parser.add_argument("--against", metavar="PRESET|MODEL", help=text)
    text = "Length of text at which the KV cache and attention are priced (default: the model's context)."
    parser.add_argument("--context", metavar="TOKENS", type=int, help=text)
    parser.add_argument("--list", action="store_true", help="List the presets instead.")


@verb("inspect", "Parameters by part, bytes, FLOPs and cache bytes of a model or preset; allocates nothing.", _arguments)
def run(args: argparse.Namespace, console: Console) -> int:
    from workbench.model import account, compare

    if args.list:
        return _list(console)
    if args.context is not None and args.context < 1:
        raise ConfigError(f"A text of {args.context} tokens has no price.", hint="Give --context 1 or more.")
    config = changed(_config(args), args.changes)
    problems = config.problems()
    if problems:
        return _refuse(config, problems, console)
    cost = account(config)
    data, text = _costs(cost, args.context or config.max_positions)
    if args.against:
        found = compare(_named(args, args.against), config, args.context)
        data["against"] = _against(args.against, found)
        text = _side_by_side(args.against, found)
    console.result(data, text)
    return 0


def _costs(cost: Accounting, context: int) -> tuple[dict[str, Any], str]:
    """One architecture, as JSON and as text."""
    config, total = cost.config, cost.parameters
    data = {
        "config": to_dict(config),
        "parameters": {"total": total, "by_part": cost.by_part, "tied_saving": cost.tied_saving if config.tie_embeddings else 0},
        "parameter_bytes": {"float32": cost.parameter_bytes(4), "bfloat16": cost.parameter_bytes(2), "int8": cost.parameter_bytes(1)},
        "kv_bytes_per_token": {name: cost.kv_bytes_per_token(width) for name, width in _WIDTHS.items()},
        "flops_per_token": cost.flops_per_token(),
        "at_context": {
            "tokens": context,
            "kv_bytes": {name: cost.kv_bytes(context, width) for name, width in _WIDTHS.items()},
            "flops_per_token": cost.flops_per_token(context),
        },
        "problems": [],
    }
    parts = {**cost.by_part, "Total": total}
    rows = [{"part": part, "parameters": f"{n:,}", "share": f"{n / total:.1%}", "float32": bytes_text(4 * n)} for part, n in parts.items()]
    per_token, cached = bytes_text(cost.kv_bytes_per_token()), bytes_text(cost.kv_bytes(context))
    lines = [
        table(rows),
        f"FLOPs per token: {count_text(cost.flops_per_token())}, at {context:,} tokens {count_text(cost.flops_per_token(context))}",
        f"KV cache (float32): {per_token} per token, at {context:,} tokens {cached}",
    ]
    return data, "\n".join(lines)


def _refuse(config: ModelConfig, problems: list[Problem], console: Console) -> int:
    """Say what cannot be built; every key that scripts read is there, and empty."""
    nothing = {
        "parameters": {"total": 0, "by_part": {}, "tied_saving": 0}, "parameter_bytes": {}, "kv_bytes_per_token": {},
        "flops_per_token": None, "at_context": None,
    }  # fmt: skip
    data = {"config": to_dict(config), **nothing, "problems": [asdict(p) for p in problems]}
    console.result(data, "\n".join(f"{p.field}: {p}" for p in problems))
    return 1


def _against(name: str, found: Comparison) -> dict[str, Any]:
    rows = [{"part": r.label, "unit": r.unit, "before": r.a, "after": r.b, "difference": r.difference} for r in found.rows]
    fields = [{"field": d.field, "before": d.a, "after": d.b} for d in found.differences]
    return {"name": name, "context": found.context, "rows": rows, "differences": fields}


def _side_by_side(name: str, found: Comparison) -> str:
    rows = []
    for row in found.rows:
        say = bytes_text if row.unit == "bytes" else count_text
        sign = "+" if row.difference > 0 else "-"
        difference = f"{sign}{say(abs(row.difference))}" if row.difference else ""
        rows.append({"": row.label, name: say(row.a), "→ this": say(row.b), "difference": difference})
    differ = [{"field": d.field, name: _value(d.field, d.a), "→ this": _value(d.field, d.b)} for d in found.differences]
    return f"{table(rows)}\n\n{table(differ) if differ else 'No field differs.'}"


def _value(field: str, value: Any) -> str:
    from workbench.model import ModelConfig

    if value is not None:
        return str(value)
    return "–" if "." in field else info_of(ModelConfig, field).none_label


def _list(console: Console) -> int:
    from workbench.model import PRESETS

    presets = PRESETS.values()
    told = ("name", "family", "year", "parameters", "label", "help", "source")
    rows = [{key: getattr(p, key) for key in told} for p in presets]
    shown = [{"name": p.name, "family": p.family, "year": p.year, "parameters": count_text(p.parameters), "": p.help} for p in presets]
    console.result({"presets": rows}, table(shown))
    return 0


def _config(args: argparse.Namespace) -> ModelConfig:
    if args.preset:
        return preset_config(args.preset)
    if not args.model:
        raise ConfigError("Nothing to inspect.", hint="Name a model, or give --preset NAME; --list names the presets.")
    return _model_config(args, args.model)


def _named(args: argparse.Namespace, name: str) -> ModelConfig:
    """The architecture of a preset, or of a model of that name."""
    from workbench.model import PRESETS

    return PRESETS[name].config if name in PRESETS else _model_config(args, name)


def _model_config(args: argparse.Namespace, model: str) -> ModelConfig:
    from workbench.checkpoints import read_config

    return read_config(Library(args.home).resolve(base_model(model)))
