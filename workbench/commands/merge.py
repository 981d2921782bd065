"""`merge`: write a model with an adapter added into its weights."""

from __future__ import annotations

import argparse
from pathlib import Path

from workbench.commands.base import Console, verb
from workbench.commands.common import base_model, compute_flags, model_argument, open_session, split_strength
from workbench.core.errors import WorkbenchError


def _arguments(parser: argparse.ArgumentParser) -> None:
    model_argument(parser)
    parser.add_argument("--adapter", metavar="DIR[:STRENGTH]", required=True, help="Adapter folder in PEFT's format.")
    parser.add_argument("--out", metavar="DIR", type=Path, required=True, help="Folder, or .gguf file, to write.")
    parser.add_argument("--format", metavar="hf|gguf|workbench", default="hf", help="Kind of checkpoint. Default: hf.")
    compute_flags(parser)


@verb("merge", "Add an adapter into the weights, write the model, read it back and compare logits.", _arguments)
def run(args: argparse.Namespace, console: Console) -> int:
    session = open_session(args)
    if console.follow(session.load(base_model(args.model), console.control)) is None:
        raise WorkbenchError("Loading was stopped.")
    path, strength = split_strength(args.adapter)
    report = console.follow(session.merge(path, strength, args.out, args.format, console.control))
    if report is None:
        raise WorkbenchError("Merging was stopped; nothing was written.")
    console.result(
        {"path": str(report.path), "max_abs_logit_difference": report.max_abs_logit_difference, "report": report},
        f"Wrote {report.path} ({report.format}, {report.family}); read back: max |Δ logit| = {report.max_abs_logit_difference:.2e}",
    )
    return 0
