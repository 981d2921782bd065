"""`python -m workbench <verb>`: the headless twin of every button."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import traceback
from collections.abc import Callable
from types import FrameType

# Before torch is imported by a verb: waiting OpenMP threads give their core back, or a busy machine slows work tenfold.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from workbench import __version__
from workbench.commands import VERBS
from workbench.commands.base import STOPPED, Console, common_flags
from workbench.core.control import Control
from workbench.core.errors import ConfigError, WorkbenchError


def build_parser(wanted: str | None = None) -> argparse.ArgumentParser:
    """The parser with every verb; flags are declared only for `wanted` (None: for all), because that imports its rooms."""
    parser = argparse.ArgumentParser(prog="workbench", description="See, change, fine-tune and talk to language models; without a window.")
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    for verb in VERBS.values():
        sub = verbs.add_parser(verb.name, help=verb.help, description=verb.help, parents=[common_flags()])
        sub.set_defaults(json=False, debug=False, home=None)
        if wanted in (None, verb.name):
            verb.arguments(sub)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run one verb. Exit status: 0 done, 1 failed, 2 wrong arguments, 130 stopped."""
    words = sys.argv[1:] if argv is None else argv
    wanted = next((w for w in words if w in VERBS), None)
    args = build_parser(wanted or "").parse_args(words)
    control = Control()
    console = Console(args.json, control)
    previous = signal.signal(signal.SIGINT, _stopper(control))
    try:
        return VERBS[args.verb].run(args, console)
    except WorkbenchError as error:
        _report(error, args.debug)
        return STOPPED if control.stopping else 2 if isinstance(error, ConfigError) else 1
    except BrokenPipeError:  # the reader of our output went away; nobody is left to tell
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return STOPPED
    except Exception as error:  # the last resort: a person reads a sentence, not Python's stack
        _report(_unexpected(error), args.debug)
        return 1
    finally:
        signal.signal(signal.SIGINT, previous)


def _stopper(control: Control) -> Callable[[int, FrameType | None], None]:
    """The first Ctrl+C asks for an orderly stop, the second interrupts."""

    def handle(number: int, frame: FrameType | None) -> None:
        if control.stopping:
            raise KeyboardInterrupt
        control.stop()

    return handle


def _unexpected(error: Exception) -> WorkbenchError:
    """Any other error as one sentence; its traceback is the details."""
    lines = (str(error) or type(error).__name__).strip().splitlines()
    what = lines[0].rstrip(".") if isinstance(error, OSError) else f"{type(error).__name__}: {lines[0].rstrip('.')}"
    details = "".join(traceback.format_exception(error))
    return WorkbenchError(f"something unexpected happened: {what}.", hint="Run it again with --debug to see where.", details=details)


def _report(error: WorkbenchError, debug: bool) -> None:
    print(f"workbench: {error.message}", file=sys.stderr)
    if error.hint:
        print(f"  {error.hint}", file=sys.stderr)
    if debug:
        if error.details:
            print(error.details, file=sys.stderr)
        if error.__traceback__ is not None:
            traceback.print_exception(error, file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
