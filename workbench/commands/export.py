"""`export`: write a model for other programs."""

from __future__ import annotations

import argparse
from pathlib import Path

from workbench.commands.base import Console, verb
from workbench.commands.common import adapter_flag, compute_flags, model_argument, open_model
from workbench.commands.quantize_flags import quantize_flags
from workbench.core.errors import WorkbenchError
from workbench.core.fields import require_usable
from workbench.core.flags import add_flags, from_flags
from workbench.core.format import bytes_text


def _arguments(parser: argparse.ArgumentParser) -> None:
    model_argument(parser)
    from workbench.exporting import ExportConfig

    add_flags(parser, ExportConfig)
    parser.add_argument("--out", metavar="PATH", type=Path, required=True, help="Folder, or .gguf file, to write.")
    parser.add_argument("--overwrite", action="store_true", help="Replace a checkpoint that is there already.")
    adapter_flag(parser)
    quantize_flags(parser)
    compute_flags(parser)


@verb("export", "Write a model (an adapter is added into its weights) for other programs, read it back and compare logits.", _arguments)
def run(args: argparse.Namespace, console: Console) -> int:
    from workbench.exporting import ExportConfig

    config = from_flags(ExportConfig, args)
    require_usable(config)
    session = open_model(args, console)
    report = console.follow(session.export(args.out, config.format, config.type, args.overwrite, console.control))
    if report is None:
        raise WorkbenchError("Exporting was stopped; nothing was written.")
    console.result(
        {"path": str(report.path), "max_abs_logit_difference": report.max_abs_logit_difference, "report": report},
        f"Wrote {report.path} ({report.format}, {report.family}, {report.type}, {bytes_text(report.nbytes)}); "
        f"{report.proof}: max |Δ logit| = {report.max_abs_logit_difference:.2e}",
    )
    return 0
