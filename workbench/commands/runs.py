"""`runs`: training runs on disk."""

from __future__ import annotations

import argparse
from pathlib import Path

from workbench.commands.base import Console, common_flags, table, verb
from workbench.library import Library


def _arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION")
    show = actions.add_parser("show", help="One run: its manifest and last metrics.", parents=[common_flags()])
    show.add_argument("folder", metavar="DIR", type=Path)


@verb("runs", "List runs, or show one.", _arguments)
def run(args: argparse.Namespace, console: Console) -> int:
    from workbench.runs import list_runs, open_run

    if args.action == "show":
        found = [open_run(args.folder)]
    else:
        found = list_runs(Library(args.home).runs_folder)
    rows = [r.to_json() for r in found]
    shown = [{"name": r["name"], "status": r["status"], "steps": r["steps"], "loss": r["loss"], "folder": r["folder"]} for r in rows]
    console.result({"runs": rows}, table(shown) or "There are no runs yet.")
    return 0
