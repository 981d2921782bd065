"""Python's cycle collector, kept on the GUI thread.

A collection that starts in a training thread would destroy widgets there, which Qt answers with a crash. So automatic
collection is off while the window is open, and a timer on the GUI thread collects instead.
"""

from __future__ import annotations

import gc
from typing import Final

from PySide6.QtCore import QObject, QTimer, Slot

EVERY_MS: Final = 500


class Collector(QObject):
    """Collects in the generations that are due, every half second. `close` gives the collector back to Python."""

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._was_enabled = gc.isenabled()
        gc.disable()
        self._timer = QTimer(self, interval=EVERY_MS)
        self._timer.timeout.connect(self.check)
        self._timer.start()

    @Slot()
    def check(self) -> None:
        """Collect the oldest generation that is due, if any."""
        counts, limits = gc.get_count(), gc.get_threshold()
        due = [n for n in range(3) if 0 < limits[n] < counts[n]]
        if due and due[0] == 0:
            gc.collect(max(due))

    @Slot()
    def settle(self) -> None:
        """After the engine was imported: its hundred thousands of lasting objects are never looked at again."""
        gc.freeze()

    def close(self) -> None:
        self._timer.stop()
        gc.unfreeze()
        if self._was_enabled:
            gc.enable()
