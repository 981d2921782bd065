"""What a verb is, and how it speaks: JSON lines for programs, sentences and a progress bar for people."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Generator
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, Protocol, TextIO, TypeVar

from workbench.core.control import Control
from workbench.core.events import Event, Notice, Phase, Progress
from workbench.core.format import bytes_text

T = TypeVar("T")
STOPPED = 130
"""Exit status after a stop from the keyboard, as shells have it."""


@dataclass(frozen=True)
class Verb:
    """One verb: `arguments` declares its flags, `run` does it and returns the exit status."""

    name: str
    help: str
    arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace, Console], int]


VERBS: dict[str, Verb] = {}


class Run(Protocol):
    def __call__(self, args: argparse.Namespace, console: Console) -> int: ...


def verb(name: str, help: str, arguments: Callable[[argparse.ArgumentParser], None]) -> Callable[[Run], Run]:
    """Decorator that adds a verb; a name can be taken once."""

    def add(run: Run) -> Run:
        if name in VERBS:
            raise ValueError(f"verb {name!r} is declared twice")
        VERBS[name] = Verb(name, help, arguments, run)
        return run

    return add


def common_flags() -> argparse.ArgumentParser:
    """Flags that every verb, and every action of a verb, takes; unset ones leave the namespace alone."""
    common = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    common.add_argument("--json", action="store_true", help="One JSON object per line on standard output, nothing else.")
    common.add_argument("--debug", action="store_true", help="Show details and the traceback of an error.")
    common.add_argument("--home", type=Path, metavar="FOLDER", help="Data folder (default: WORKBENCH_HOME, or the user's).")
    return common


class Console:
    """Where a verb writes. With `as_json` standard output carries one JSON object per line and nothing else."""

    def __init__(self, as_json: bool, control: Control, out: TextIO | None = None, err: TextIO | None = None) -> None:
        self.as_json = as_json
        self.control = control
        self.out = out or sys.stdout
        self.err = err or sys.stderr
        self._bar_shown = False

    def result(self, data: dict[str, Any], text: str = "") -> None:
        """The verb's last word: `data` as JSON, or `text` for people."""
        self._clear_bar()
        if self.as_json:
            self._json(data)
        elif text:
            print(text, file=self.out)

    def say(self, text: str, end: str = "\n") -> None:
        """Something for people only."""
        if not self.as_json:
            self._clear_bar()
            print(text, end=end, file=self.out, flush=True)

    def follow(self, events: Generator[Event, None, T], show: Callable[[Event], None] | None = None) -> T:
        """Run a generator to its end, writing its events: as JSON, or by `show`, or as progress and notices."""
        while True:
            try:
                event = next(events)
            except StopIteration as end:
                self._clear_bar()
                result: T = end.value
                return result
            if self.as_json:
                self._json(event.to_json())
            elif isinstance(event, Progress):
                self._bar(event)
            elif isinstance(event, Notice):
                self._clear_bar()
                print(event.message, file=self.err)
            elif show is not None and not isinstance(event, Phase):
                self._clear_bar()
                show(event)

    def _json(self, data: dict[str, Any]) -> None:
        print(json.dumps(data, ensure_ascii=False, default=_plain), file=self.out, flush=True)

    def _bar(self, event: Progress) -> None:
        if not self.err.isatty():
            return
        amount = bytes_text if event.unit == "B" else (lambda n: f"{n:g} {event.unit}".strip())
        if event.total:
            filled = int(24 * min(1.0, event.done / event.total))
            line = f"{event.message}  [{'█' * filled}{'░' * (24 - filled)}] {amount(event.done)} of {amount(event.total)}"
            if speed := getattr(event, "bytes_per_second", None):
                line += f", {bytes_text(speed)}/s"
        else:
            line = f"{event.message}  {amount(event.done) if event.done else ''}"
        print(f"\r\033[K{line}", end="", file=self.err, flush=True)
        self._bar_shown = True

    def _clear_bar(self) -> None:
        if self._bar_shown:
            print("\r\033[K", end="", file=self.err, flush=True)
            self._bar_shown = False


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, (set, frozenset, tuple)):
        return list(value)
    if hasattr(value, "to_json"):
        return value.to_json()
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: getattr(value, f.name) for f in fields(value)}
    raise TypeError(f"{type(value).__name__} has no JSON form")


def table(rows: list[dict[str, Any]]) -> str:
    """Rows as aligned text columns, numbers to the right; a key that a row lacks leaves its place empty."""
    if not rows:
        return ""
    heads = list(dict.fromkeys(key for row in rows for key in row))
    texts = [[str(row.get(h, "")) for h in heads] for row in rows]
    widths = [max(len(h), *(len(t[i]) for t in texts)) for i, h in enumerate(heads)]
    right = [all(isinstance(row.get(h, 0), (int, float)) for row in rows) for h in heads]
    lines = []
    for line in [heads, *texts]:
        cells = (cell.rjust(w) if r else cell.ljust(w) for cell, w, r in zip(line, widths, right, strict=True))
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
