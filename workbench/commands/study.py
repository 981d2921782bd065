"""`study`: one reproducible experiment, with a table, a figure and a verdict."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from workbench.commands.base import STOPPED, Console, table, verb
from workbench.commands.common import compute_flags, open_model, open_session
from workbench.core.errors import ConfigError
from workbench.core.fields import describe, with_text

_NO_MODEL = "none"


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("study", metavar="NAME", nargs="?", help="Which study; --list names them all.")
    parser.add_argument("--list", action="store_true", help="Name all studies and their options, and do nothing else.")
    text = f"The model it is done on: a library name, folder or file; {_NO_MODEL} for studies that can do without. Default: starter."
    parser.add_argument("--model", metavar="MODEL", default="starter", help=text)
    text = "Change an option of the study, such as tokens=256; repeatable."
    parser.add_argument("--set", metavar="FIELD=VALUE", action="append", default=[], dest="changes", help=text)
    parser.add_argument("--out", metavar="DIR", type=Path, help="Folder for table.csv, table.json and figure.svg.")
    compute_flags(parser)


@verb("study", "Run a reproducible experiment: a table, a figure, and a verdict that follows from them.", _arguments)
def run(args: argparse.Namespace, console: Console) -> int:
    from workbench.studies import STUDIES, write

    if args.list:
        return _list(console)
    if args.study is None:
        raise ConfigError("Which study?", hint=f"Choose one of: {', '.join(STUDIES.names())}.")
    options = STUDIES[args.study].options()
    for assignment in args.changes:
        options = with_text(options, assignment)
    session = open_session(args) if args.model == _NO_MODEL else open_model(args, console)
    result = console.follow(session.study(args.study, options, console.control))
    if result is None:
        console.result({"event": "done", "stopped": True}, "The study was stopped.")
        return STOPPED
    files = [] if args.out is None else [str(path) for path in write(result, args.out.expanduser())]
    for found in result.tables:
        shown = [{c.label: _shown(row.get(c.name)) for c in found.columns} for row in found.rows]
        console.say(f"{found.title}\n{table(shown)}\n")
    answer = result.to_json()
    data = {"event": "done", "table": answer["tables"][result.tables[0].name]["rows"], "verdict": result.verdict, "files": files}
    console.result({**data, "result": answer}, "\n".join([*result.notes, "", result.verdict, *(f"Wrote {path}" for path in files)]))
    return 0


def _shown(value: Any) -> Any:
    """Numbers with the digits that say something."""
    if isinstance(value, float):
        return f"{value:.3e}" if value >= 1e6 else f"{value:.4f}" if abs(value) < 100 else f"{value:,.1f}"
    return value


def _list(console: Console) -> int:
    from workbench.studies import STUDIES

    studies = [{"name": s.name, "label": s.label, "help": s.help, "options": [i.name for i in describe(s.options)]} for s in STUDIES]
    lines = []
    for study in STUDIES:
        lines += [f"{study.name}: {study.label}. {study.help}"]
        lines += [f"  --set {i.name}={i.default if i.default is not None else i.none_label}    {i.help}" for i in describe(study.options)]
    console.result({"studies": studies}, "\n".join(lines))
    return 0
