"""Closing the window while work runs: ask once, stop, wait without blocking, close."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Final

from PySide6.QtCore import QObject, Signal, Slot
from PySide6.QtWidgets import QMessageBox

from ui.jobs.runner import Job, JobRunner

if TYPE_CHECKING:
    from ui.window import Window

ASK_LANES: Final = frozenset({"train", "model"})
"""Only work that could be lost is worth a question; a reply or a download is stopped without one."""
PATIENCE_S: Final = 30.0
FORCED_EXIT: Final = 3


class Closing(QObject):
    """Decides for `Window.closeEvent`."""

    done = Signal()
    """All jobs have ended: the window may close now."""

    def __init__(self, window: Window, jobs: JobRunner) -> None:
        super().__init__(window)
        self._window = window
        self._jobs = jobs
        self._ask = True
        self._stopping = False
        self.question: QMessageBox | None = None
        """The open question, or None."""
        jobs.idle.connect(self._on_idle)
        jobs.late.connect(self._on_late)

    def may_close(self) -> bool:
        """True when nothing runs. Else ask, or begin to stop; `done` comes when the work has ended."""
        if self._stopping:
            return not self._jobs.jobs
        worth_asking = [j for j in self._jobs.jobs if j.lane in ASK_LANES and j.running]
        if worth_asking and self._ask:
            self._open_question(worth_asking)
            return False
        return self.stop(save=True)

    def without_asking(self) -> None:
        """For signals and the end of the session: stop and save, ask nothing."""
        self._ask = False

    def stop(self, save: bool) -> bool:
        """Stop everything; True when nothing was running."""
        self._stopping = True
        ended = self._jobs.shutdown(save, PATIENCE_S)
        if not ended:
            if any(j.lane in ASK_LANES for j in self._jobs.jobs):
                self._window.setEnabled(False)
                self._window.setWindowTitle("Saving and closing…" if save else "Closing…")
            else:
                self._window.hide()  # nothing is lost; the engine only finishes its step
        return ended

    def _open_question(self, jobs: list[Job]) -> None:
        if self.question is not None:
            self.question.raise_()
            return
        box = QMessageBox(self._window)
        box.setIcon(QMessageBox.Icon.Question)
        box.setWindowTitle("Work is running")
        box.setText(f"“{jobs[0].title}” is still running.")
        box.setInformativeText("Stop and save keeps a checkpoint from which it can go on later.")
        box.addButton("Stop and &save", QMessageBox.ButtonRole.AcceptRole).clicked.connect(self._stop_and_save)
        box.addButton("&Stop", QMessageBox.ButtonRole.DestructiveRole).clicked.connect(self._stop_only)
        stay = box.addButton("&Continue", QMessageBox.ButtonRole.RejectRole)
        box.setDefaultButton(stay)
        box.setEscapeButton(stay)
        box.finished.connect(self._on_answered)
        self.question = box
        box.open()

    @Slot()
    def _stop_and_save(self) -> None:
        self._end(save=True)

    @Slot()
    def _stop_only(self) -> None:
        self._end(save=False)

    def _end(self, save: bool) -> None:
        if self.stop(save):
            self.done.emit()

    @Slot()
    def _on_answered(self) -> None:
        if self.question is not None:
            self.question.deleteLater()
            self.question = None

    @Slot()
    def _on_idle(self) -> None:
        if self._stopping:
            self.done.emit()

    @Slot(object)
    def _on_late(self, jobs: tuple[Job, ...]) -> None:
        """The work does not end: a thread cannot be killed safely, so the only way out is the whole program."""
        self._window.setEnabled(True)
        self._window.show()
        box = QMessageBox(self._window)
        box.setIcon(QMessageBox.Icon.Warning)
        box.setWindowTitle("Still waiting")
        box.setText(f"“{jobs[0].title}” has not stopped within {PATIENCE_S:.0f} s.")
        box.setInformativeText("Quitting now loses what it has not saved.")
        box.addButton("&Quit now", QMessageBox.ButtonRole.DestructiveRole).clicked.connect(self._quit_now)
        box.setDefaultButton(box.addButton("&Wait", QMessageBox.ButtonRole.RejectRole))
        box.finished.connect(self._on_answered)
        self.question = box
        box.open()

    @Slot()
    def _quit_now(self) -> None:
        if self._window.panels:
            self._window.save_layout()
        logging.shutdown()
        os._exit(FORCED_EXIT)
