"""The library without the engine: `python -m workbench.library fetch starter` needs no torch, so `make` can run it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Generator
from contextlib import closing
from pathlib import Path

from workbench.core.errors import WorkbenchError
from workbench.core.events import Progress
from workbench.core.format import bytes_text
from workbench.library.catalogue import CATALOGUE
from workbench.library.library import Library


def main(arguments: list[str] | None = None) -> int:
    """`fetch NAME` with progress, or `list`. Exit status: 0 done, 1 failed, 2 wrong arguments, 130 stopped."""
    parser = argparse.ArgumentParser(prog="python -m workbench.library", description="Models of this machine, without loading the engine.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("list", help="Print the models on this machine.")
    verbs.add_parser("fetch", help="Install a model of the catalogue.").add_argument("name", choices=sorted(CATALOGUE))
    options = parser.parse_args(arguments)
    library = Library()
    if options.verb == "list":
        for entry in library.models():
            print(f"{entry.name}\t{bytes_text(entry.bytes)}\t{entry.path}")  # noqa: T201 - the output of a command
        return 0
    try:
        with closing(library.fetch(options.name)) as work:
            path = _show(work)
    except KeyboardInterrupt:
        print("\nStopped; nothing was installed.", file=sys.stderr)  # noqa: T201
        return 130
    except WorkbenchError as error:
        print(f"{error.message}\n{error.hint}", file=sys.stderr)  # noqa: T201
        return 1
    print(path)  # noqa: T201
    return 0


def _show(work: Generator[Progress, None, Path]) -> Path:
    """Run a fetch to its end: one line that is rewritten on a terminal, one line per message elsewhere."""
    terminal, last = sys.stderr.isatty(), ""
    while True:
        try:
            event = next(work)
        except StopIteration as end:
            if terminal:
                print("\r\033[K", end="", file=sys.stderr)  # noqa: T201
            return Path(end.value)
        if terminal:
            share = f" {event.done / event.total:4.0%} of {bytes_text(event.total)}" if event.total else ""
            print(f"\r\033[K{event.message}{share}", end="", file=sys.stderr, flush=True)  # noqa: T201
        elif event.message != last:
            print(event.message, file=sys.stderr, flush=True)  # noqa: T201
            last = event.message
