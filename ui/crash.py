"""What is left when the program dies: a trace per process, found at the next start."""

from __future__ import annotations

import faulthandler
import logging
import os
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Final

import psutil

LAST: Final = "last-crash.log"
LOG_FILE: Final = "workbench.log"


class CrashGuard:
    """`crash-<pid>.log` exists while the program runs and is removed by a clean end. What an earlier run left is in `found`."""

    def __init__(self, logs: Path) -> None:
        logs.mkdir(parents=True, exist_ok=True)
        self.found = self._collect(logs)
        self._path = logs / f"crash-{os.getpid()}.log"
        self._file = open(self._path, "w", encoding="utf-8")  # noqa: SIM115 - faulthandler writes to it until the end
        faulthandler.enable(self._file, all_threads=True)

    @staticmethod
    def _collect(logs: Path) -> str | None:
        """The trace of a run that ended unexpectedly ("" when it was killed without one), or None. Kept as last-crash.log."""
        found: str | None = None
        for path in sorted(logs.glob("crash-*.log")):
            pid = path.stem.removeprefix("crash-")
            if pid.isdigit() and int(pid) != os.getpid() and psutil.pid_exists(int(pid)):
                continue  # another window is open
            found = (found or "") + path.read_text(encoding="utf-8", errors="replace")
            os.replace(path, logs / LAST)
        return found

    def close(self) -> None:
        """A clean end: nothing is left behind."""
        if not self._file.closed:
            faulthandler.disable()
            self._file.close()
            self._path.unlink(missing_ok=True)


def log_to_file(logs: Path) -> logging.Handler:
    """Log lines of every module into a rotating file; returns the handler, for `logging.Logger.removeHandler`."""
    logs.mkdir(parents=True, exist_ok=True)
    handler = RotatingFileHandler(logs / LOG_FILE, maxBytes=1_000_000, backupCount=2, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s [%(name)s] %(message)s"))
    handler.setLevel(logging.INFO)
    return handler
