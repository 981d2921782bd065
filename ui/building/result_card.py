"""How a run from scratch ended, what was kept, and what can be done with the model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from PySide6.QtCore import QSize, Qt, QUrl, Signal, Slot
from PySide6.QtGui import QDesktopServices
from PySide6.QtWidgets import QToolButton, QVBoxLayout, QWidget

from ui import icons
from ui.building.track import BuildTrack
from ui.jobs.worker import JobFailure
from ui.theme import SMALL, Theme
from ui.widgets.button import Button
from ui.widgets.flow import FlowLayout
from ui.widgets.message import Message
from ui.widgets.segmented import SegmentedControl
from workbench.core.format import duration_text

ALONE: Final = ""


@dataclass(frozen=True)
class Outcome:
    """What can be used: folders that can be loaded by run ("" for a run by itself, else "A" and "B"), the folder, whether it can go on."""

    models: dict[str, Path]
    folder: Path | None = None
    resumable: bool = False

    @staticmethod
    def of(result: Any, track: BuildTrack) -> Outcome:
        """Of a `TrainResult`; what the checkpoints of a stopped run allow counts too."""
        runs = result.runs or {ALONE: result}
        models = {name: run.folder or run.model for name, run in runs.items() if run.model is not None}
        return Outcome(models, result.folder or track.folder, resumable=result.reason == "stopped" and track.saved is not None)


class ResultCard(QWidget):
    """A message; below it what to do with the model, and how to go on with a run that was stopped."""

    use_wanted = Signal(object, str)
    """(path of the model, "chat" or "finetune"): load it and go there."""
    export_wanted = Signal(object)
    """Path of the model."""
    resume_wanted = Signal(object)
    """Folder of the run."""
    dismissed = Signal()

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self.outcome = Outcome({})
        self.message = Message(theme)
        self.dismiss = QToolButton(autoRaise=True, iconSize=QSize(14, 14))
        self.dismiss.setToolTip("Put the result away; the run and its model stay on disk.")
        self.dismiss.setAccessibleName("Dismiss the result")
        icons.bind(self.dismiss, "close", theme)
        self.dismiss.clicked.connect(self._dismiss)
        self.message.line.addWidget(self.dismiss, 0, Qt.AlignmentFlag.AlignTop)
        self.side = SegmentedControl([("A", "A", "The model of run A."), ("B", "B", "The model of run B.")])
        self.side.set_group_name("Model")
        self.side.set_value("A")
        self.generate = Button("Generate with it", "Load the model and let it continue a text in the chat.", primary=True)
        self.tune = Button("Fine-tune it", "Load the model and go on with a fine-tune of it.")
        self.export = Button("Export…", "Save it as a Hugging Face folder or a GGUF file.")
        self.folder = Button("Open folder", "Show the run's files.")
        self.resume = Button("Go on with the run", "Continue from its last checkpoint, as if it had never stopped.")
        for button, icon, slot in (
            (self.generate, "chat", self._generate), (self.tune, "finetune", self._tune), (self.export, "export", self._export),
            (self.folder, "folder", self._open), (self.resume, "play", self._resume),
        ):  # fmt: skip
            icons.bind(button, icon, theme, "on_accent" if button is self.generate else "text")
            button.clicked.connect(slot)
        self.buttons = QWidget()
        flow = FlowLayout(self.buttons, spacing=SMALL + 2)
        for widget in (self.side, self.generate, self.tune, self.export, self.resume, self.folder):
            flow.addWidget(widget)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(SMALL + 2)
        layout.addWidget(self.message)
        layout.addWidget(self.buttons)
        self.hide()

    @property
    def model(self) -> Path | None:
        """The model that the buttons act on."""
        models = self.outcome.models
        return models.get(self.side.value if ALONE not in models else ALONE)

    def show_result(self, result: Any, track: BuildTrack, seconds: float, verdict: str = "", writes: bool = True) -> None:
        """A `TrainResult`: done or stopped. `writes` is False for a model that only fills in masked tokens."""
        outcome = Outcome.of(result, track)
        took = f"{result.steps:,} step{'s' if result.steps != 1 else ''} in {duration_text(seconds)}"
        if result.reason == "stopped":
            title = f"Stopped after {took}." if result.steps else "Stopped before the first step."
            kept = "" if not result.steps else "The model is saved as far as it is." if outcome.models else "Nothing was kept."
            if not outcome.models and track.saved is not None:
                kept = f"Kept: the checkpoint of step {track.saved_step:,}."
            text = f"{verdict or track.outcome()} {kept}".strip()
        else:
            title, text = f"Done: {took}.", verdict or track.outcome()
        self._show(outcome)
        self.generate.setVisible(bool(outcome.models) and writes)
        self.message.say("good" if outcome.models else "info", title, text)

    def show_failure(self, failure: JobFailure, track: BuildTrack) -> None:
        """The error sentence, its hint, and what is safe on disk."""
        after = f" after {track.step:,} of {track.of:,} steps" if track.of else " before the first step"
        kept = f"Kept: the checkpoint of step {track.saved_step:,}." if track.saved is not None else ""
        self._show(Outcome({}, track.folder, resumable=track.folder is not None))
        self.message.say("error", f"Failed{after}.", failure.message, f"{failure.hint}\n{kept}".strip(), failure.details)

    def _show(self, outcome: Outcome) -> None:
        self.outcome = outcome
        usable = bool(outcome.models)
        self.side.setVisible(len(outcome.models) > 1)
        if ALONE not in outcome.models and usable:
            self.side.set_value(next(iter(outcome.models)))
        for button in (self.generate, self.tune, self.export):
            button.setVisible(usable)
        self.folder.setVisible(outcome.folder is not None)
        self.resume.setVisible(outcome.resumable and outcome.folder is not None)
        self.buttons.setVisible(usable or outcome.folder is not None)
        self.show()

    @Slot()
    def _dismiss(self) -> None:
        self.hide()
        self.dismissed.emit()

    @Slot()
    def _generate(self) -> None:
        if self.model is not None:
            self.use_wanted.emit(self.model, "chat")

    @Slot()
    def _tune(self) -> None:
        if self.model is not None:
            self.use_wanted.emit(self.model, "finetune")

    @Slot()
    def _export(self) -> None:
        if self.model is not None:
            self.export_wanted.emit(self.model)

    @Slot()
    def _resume(self) -> None:
        if self.outcome.folder is not None:
            self.resume_wanted.emit(self.outcome.folder)

    @Slot()
    def _open(self) -> None:
        if self.outcome.folder is not None:
            QDesktopServices.openUrl(QUrl.fromLocalFile(str(self.outcome.folder)))
