"""`data`: the pre-flight report of training data."""

from __future__ import annotations

import argparse

from workbench.commands.base import STOPPED, Console, verb
from workbench.commands.common import compute_flags, open_model
from workbench.core.flags import add_flags, from_flags


def _arguments(parser: argparse.ArgumentParser) -> None:
    from workbench.data import DataConfig

    parser.add_argument("sources", metavar="DATA", nargs="+", help="Files, folders, or built-in data sets: sample-chat, stdlib-docstrings.")
    parser.add_argument("--model", metavar="MODEL", required=True, help="The model whose tokenizer and chat template are used.")
    parser.add_argument("--max-length", metavar="TOKENS", type=int, default=256, help="Longest sequence. Default: 256.")
    add_flags(parser, DataConfig, skip=("sources", "validation_fraction"))
    compute_flags(parser)


@verb("data", "Rows kept, dropped and truncated, and why; three samples with what is learnt.", _arguments)
def run(args: argparse.Namespace, console: Console) -> int:
    from workbench.data import DataConfig

    sources = tuple(vars(args).pop("sources"))
    session = open_model(args, console)
    config = from_flags(DataConfig, args, sources=sources)
    report = console.follow(session.preflight(config, args.max_length, console.control))
    lines = [
        f"{report.rows} rows: {report.kept} kept, {report.dropped} dropped, {report.truncated} truncated, {report.duplicates} repeated",
        f"{report.tokens} tokens in {report.sequences} sequences, {report.trained_tokens} of them learnt; longest {report.longest}",
    ]
    lines += [f"dropped: {p}" for p in report.problems[:20]] + [f"note: {note}" for note in report.notes]
    for sample in report.samples:
        text = "".join(f"⟦{s.text}⟧" if s.trained else s.text for s in sample.segments)
        lines.append(f"--- {sample.file}, row {sample.row}; ⟦learnt⟧\n{text}")
    console.result(report.to_json(), "\n".join(lines))
    if report.stopped:
        return STOPPED
    report.require_usable()
    return 0
