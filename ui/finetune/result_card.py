"""How a run ended, what was kept, and what can be done with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from PySide6.QtCore import QSize, Qt, QUrl, Signal, Slot
from PySide6.QtGui import QDesktopServices
from PySide6.QtWidgets import QToolButton, QVBoxLayout, QWidget

from ui import icons
from ui.jobs.worker import JobFailure
from ui.theme import SMALL, Theme
from ui.training.run_track import RunTrack
from ui.widgets.button import Button
from ui.widgets.message import Message
from ui.widgets.text import line_of
from workbench.core.format import duration_text

ADAPTER_TIP: Final = "Let the tuned adapter act on the chat, and go there."
MODEL_TIP: Final = "Load the tuned model in place of the one in use, and go to the chat."
MODEL: Final = "model"
ADAPTER: Final = "adapter"
"""The folder in PEFT's format, in a run and in each of its checkpoints."""


def run_folder(path: Path) -> Path:
    """The folder of the run that an adapter or a checkpoint lies in."""
    path = path.parent if path.name in (ADAPTER, MODEL) else path
    return path.parent if path.name.startswith("checkpoint") else path


def kept_adapter(track: RunTrack) -> Path | None:
    """The adapter of the newest checkpoint; None when there is none."""
    path = track.saved / ADAPTER if track.saved is not None else None
    return path if path is not None and path.is_dir() else None


class ResultCard(QWidget):
    """A message, and below it “Chat with it” and the run's folder where there is one."""

    chat_wanted = Signal(object)
    """Path of the adapter."""
    model_wanted = Signal(object)
    """Path of a model all of whose weights were trained."""
    dismissed = Signal()

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self._adapter: Path | None = None
        self._model: Path | None = None
        self._folder: Path | None = None
        self.message = Message(theme)
        self.dismiss = QToolButton(autoRaise=True, iconSize=QSize(14, 14))
        self.dismiss.setToolTip("Put the result away; the run and its adapter stay on disk.")
        self.dismiss.setAccessibleName("Dismiss the result")
        icons.bind(self.dismiss, "close", theme)
        self.dismiss.clicked.connect(self._dismiss)
        self.message.line.addWidget(self.dismiss, 0, Qt.AlignmentFlag.AlignTop)
        self.chat = Button("Chat with it", ADAPTER_TIP, primary=True)
        icons.bind(self.chat, "chat", theme, "on_accent")
        self.chat.clicked.connect(self._chat)
        self.folder = Button("Open folder", "Show the run's files.")
        icons.bind(self.folder, "folder", theme)
        self.folder.clicked.connect(self._open)
        row = line_of(self.chat, self.folder)
        row.setStretch(0, 2)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(SMALL + 2)
        layout.addWidget(self.message)
        layout.addLayout(row)
        self.hide()

    @property
    def adapter(self) -> Path | None:
        """The adapter that “Chat with it” would use."""
        return self._adapter

    @property
    def usable(self) -> bool:
        """Whether there is something to chat with."""
        return self._adapter is not None or self._model is not None

    def show_result(self, result: Any, track: RunTrack, seconds: float) -> None:
        """A `TrainResult`: done, stopped, or failed with words of its own."""
        if result.reason == "failed":
            self.show_failure(JobFailure("The run failed.", "The Log has what it said."), track)
            return
        adapter = result.adapter or kept_adapter(track)
        took = f"{result.steps:,} step{'s' if result.steps != 1 else ''} in {duration_text(seconds)}"
        if result.reason == "stopped":
            saved = "adapter" if result.adapter is not None else "model" if result.model is not None else ""
            kept = f"The {saved} is saved." if saved else _kept_words(track)
            of = f" of {track.of:,}" if track.of else ""
            where = f"after {result.steps:,}{of} steps" if track.of else "before the first step"
            title, text = f"Stopped {where}.", f"{track.outcome()} {kept}".strip()
        else:
            title, text = f"Done: {took}.", track.outcome()
        self._keep(adapter, adapter or result.model or track.saved, result.model)
        self.message.say("good" if self.usable else "info", title, text)
        self.show()

    def show_failure(self, failure: JobFailure, track: RunTrack) -> None:
        """The error sentence, its hint, and what is safe on disk."""
        after = f" after {track.step:,} of {track.of:,} steps" if track.of else " before the first step"
        self._keep(kept_adapter(track), track.saved)
        hint = f"{failure.hint}\n{_kept_words(track)}".strip()
        self.message.say("error", f"Failed{after}.", failure.message, hint, failure.details)
        self.show()

    def allow_chat(self, allowed: bool, reason: str = "") -> None:
        """“Chat with it” is possible, or not now because of `reason`."""
        self.chat.setEnabled(allowed)
        tip = ADAPTER_TIP if self._model is None else MODEL_TIP
        self.chat.setToolTip(tip if allowed else f"{tip}\nNot now: {reason}")

    def _keep(self, adapter: Path | None, folder: Path | None, model: Path | None = None) -> None:
        self._adapter, self._model = adapter, model
        self._folder = run_folder(folder) if folder is not None else None
        self.chat.setVisible(self.usable)
        self.folder.setVisible(self._folder is not None)

    @Slot()
    def _dismiss(self) -> None:
        self.hide()
        self.dismissed.emit()

    @Slot()
    def _chat(self) -> None:
        if self._model is not None:
            self.model_wanted.emit(self._model)
        elif self._adapter is not None:
            self.chat_wanted.emit(self._adapter)

    @Slot()
    def _open(self) -> None:
        if self._folder is not None:
            QDesktopServices.openUrl(QUrl.fromLocalFile(str(self._folder)))


def _kept_words(track: RunTrack) -> str:
    return f"Kept: the checkpoint of step {track.saved_step:,}." if track.saved is not None else "Nothing was kept."
