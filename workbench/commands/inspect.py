"""`inspect`: what an architecture costs, before anything is allocated."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import TYPE_CHECKING

from workbench.commands.base import Console, table, verb
from workbench.commands.common import base_model, changed, preset_config, preset_flags
from workbench.core.errors import ConfigError
from workbench.core.fields import to_dict
from workbench.core.format import bytes_text, count_text
from workbench.library import Library

if TYPE_CHECKING:
    from workbench.model import ModelConfig


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", nargs="?", help="A library name, folder or file; only its header is read.")
    preset_flags(parser)


@verb("inspect", "Parameters by part, bytes, FLOPs and cache bytes of a model or preset; allocates nothing.", _arguments)
def run(args: argparse.Namespace, console: Console) -> int:
    from workbench.model import account

    config = changed(_config(args), args.changes)
    problems = config.problems()
    if problems:
        nothing = {
            "parameters": {"total": 0, "by_part": {}, "tied_saving": 0}, "parameter_bytes": {}, "kv_bytes_per_token": {},
            "flops_per_token": None,
        }  # fmt: skip
        found = [asdict(p) for p in problems]
        console.result({"config": to_dict(config), **nothing, "problems": found}, "\n".join(f"{p.field}: {p}" for p in problems))
        return 1
    cost = account(config)
    total = cost.parameters
    data = {
        "config": to_dict(config),
        "parameters": {"total": total, "by_part": cost.by_part, "tied_saving": cost.tied_saving if config.tie_embeddings else 0},
        "parameter_bytes": {"float32": cost.parameter_bytes(4), "bfloat16": cost.parameter_bytes(2), "int8": cost.parameter_bytes(1)},
        "kv_bytes_per_token": {"float32": cost.kv_bytes_per_token(4), "bfloat16": cost.kv_bytes_per_token(2)},
        "flops_per_token": cost.flops_per_token(),
        "problems": [],
    }
    parts = {**cost.by_part, "Total": total}
    rows = [{"part": part, "parameters": f"{n:,}", "share": f"{n / total:.1%}", "float32": bytes_text(4 * n)} for part, n in parts.items()]
    flops, cached = count_text(cost.flops_per_token()), bytes_text(cost.kv_bytes_per_token())
    text = f"{table(rows)}\nFLOPs per token: {flops}   KV cache per token: {cached} (float32)"
    console.result(data, text)
    return 0


def _config(args: argparse.Namespace) -> ModelConfig:
    if args.preset:
        return preset_config(args.preset)
    if not args.model:
        raise ConfigError("Nothing to inspect.", hint="Name a model, or give --preset NAME.")
    from workbench.checkpoints import read_config

    return read_config(Library(args.home).resolve(base_model(args.model)))
