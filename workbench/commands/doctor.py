"""`doctor`: is everything there that the program needs?"""

from __future__ import annotations

import argparse
from dataclasses import asdict

from workbench.commands.base import Console, verb
from workbench.doctor import checks, healthy
from workbench.library import Library


def _arguments(parser: argparse.ArgumentParser) -> None:
    """No flags of its own."""


@verb("doctor", "Check libraries, display, device, memory and permissions; print the fix for each.", _arguments)
def run(args: argparse.Namespace, console: Console) -> int:
    found = checks(Library(args.home).home)
    for check in found:
        mark = "✓" if check.ok else ("✗" if check.required else "!")
        console.say(f"{mark} {check.name}: {check.detail}" + (f"\n    fix: {check.fix}" if check.fix and not check.ok else ""))
    ok = healthy(found)
    console.result({"ok": ok, "checks": [asdict(c) for c in found]}, "All is well." if ok else "Something is missing; see the fixes above.")
    return 0 if ok else 1
