"""`models`: what this machine has, and fetching what it has not."""

from __future__ import annotations

import argparse
from dataclasses import asdict

from workbench.commands.base import Console, common_flags, table, verb
from workbench.core.format import bytes_text
from workbench.library import Library


def _arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION")
    fetch = actions.add_parser("fetch", help="Download a model of the catalogue (checksum verified).", parents=[common_flags()])
    fetch.add_argument("name", metavar="NAME", help="Name in the catalogue, such as starter.")


@verb("models", "List the models on this machine, or fetch one.", _arguments)
def run(args: argparse.Namespace, console: Console) -> int:
    library = Library(args.home)
    if args.action == "fetch":
        path = console.follow(library.fetch(args.name, console.control))
        console.say(f"{args.name} is at {path}")
    found = library.models()
    missing = [m for name, m in library.catalogue.items() if not library.is_installed(name)]
    rows = [{"name": m.name, "size": bytes_text(m.bytes), "format": m.format, "path": m.path} for m in found]
    text = table(rows) or "There is no model on this machine yet."
    for model in missing:
        text += f"\nCan be fetched: {model.name} ({model.label}, {bytes_text(model.bytes)}): python -m workbench models fetch {model.name}"
    console.result({"models": [asdict(m) for m in found], "available": [m.name for m in missing]}, text)
    return 0
