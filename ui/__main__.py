"""Open the window: python -m ui."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from workbench.platform_checks import launch_obstacle

THEMES = ("system", "light", "dark")


def parser() -> argparse.ArgumentParser:
    """The flags of the window."""
    made = argparse.ArgumentParser(prog="python -m ui", description="Open the LLM Workbench.")
    made.add_argument("--home", type=Path, metavar="FOLDER", help="keep models, runs, settings and logs below this folder")
    made.add_argument("--model", type=Path, metavar="PATH", help="open this GGUF file or model folder")
    made.add_argument("--theme", choices=THEMES, help="colours for this start; the saved preference stays")
    made.add_argument("--screenshot", type=Path, metavar="FOLDER", help="save a light and a dark picture of the window there and quit")
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status: 0 well, 1 the engine did not load, 2 no window can be opened here."""
    given = parser().parse_args(arguments)
    obstacle = launch_obstacle()
    if obstacle is not None:
        if sys.stderr is not None:  # a windowed launcher has none
            sys.stderr.write(f"{obstacle}\n")
        return 2
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from ui.app import Launch, run

    return run(Launch(given.home, given.screenshot, given.model, given.theme))


if __name__ == "__main__":
    sys.exit(main())
