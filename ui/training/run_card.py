"""A run while it goes on: the word, how far, how long, the figures, and the buttons that hold or end it."""

from __future__ import annotations

from PySide6.QtCore import Qt, Signal, Slot
from PySide6.QtGui import QFont, QKeyEvent
from PySide6.QtWidgets import QProgressBar, QVBoxLayout, QWidget

from ui import icons
from ui.jobs.runner import Job
from ui.theme import SMALL, Theme
from ui.training.run_track import RunTrack
from ui.widgets.button import Button
from ui.widgets.labels import ElidingLabel
from ui.widgets.text import Muted, line_of, wrapping

STEPS_PER_BAR = 1000


class StopChoice(QWidget):
    """Asked in place, while the run goes on: stop and save, stop, or continue. Esc continues."""

    chosen = Signal(object)
    """True: stop and save. False: stop without. None: continue."""

    def __init__(self) -> None:
        super().__init__()
        self.question = wrapping()
        self.save = Button("Stop and save", "End at the next step; keep what was trained and a checkpoint to go on from.", primary=True)
        self.drop = Button("Stop", "End at the next step; what was not saved yet is lost.")
        self.stay = Button("Continue", "Let the run go on.")
        self.save.clicked.connect(self._save)
        self.drop.clicked.connect(self._drop)
        self.stay.clicked.connect(self._stay)
        buttons = line_of(self.save, self.drop, self.stay)
        buttons.setStretch(0, 2)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(SMALL)
        layout.addWidget(self.question)
        layout.addLayout(buttons)
        self.hide()

    def ask(self, track: RunTrack) -> None:
        """Show the question; the safe answer has the keyboard."""
        kept = f"Saved last at step {track.saved_step:,}" if track.saved_step else "Nothing is saved yet"
        self.question.setText(f"Stop the run? {kept}; “Stop” loses what came after.")
        self.show()
        self.save.setFocus(Qt.FocusReason.OtherFocusReason)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if event.key() == Qt.Key.Key_Escape:
            self._stay()
        else:
            super().keyPressEvent(event)

    @Slot()
    def _save(self) -> None:
        self.chosen.emit(True)

    @Slot()
    def _drop(self) -> None:
        self.chosen.emit(False)

    @Slot()
    def _stay(self) -> None:
        self.chosen.emit(None)


class RunCard(QWidget):
    """Follows one job of the train lane. Pause and Stop act on the job; so may the commands of the Run menu."""

    def __init__(self, theme: Theme, pause_keys: str = "", stop_keys: str = "") -> None:
        super().__init__()
        self._theme = theme
        self._job: Job | None = None
        self._pause_keys = f" ({pause_keys})" if pause_keys else ""
        self._pause_icon = ""
        self.track = RunTrack()
        self.word = ElidingLabel()
        bold = QFont(self.word.font())
        bold.setWeight(QFont.Weight.DemiBold)
        self.word.setFont(bold)
        self.left = Muted()
        self.left.setWordWrap(False)
        self.left.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        self.bar = QProgressBar(textVisible=False, maximumHeight=2 * SMALL)
        self.bar.setAccessibleName("Progress of the run")
        self.figures = Muted()
        self.pause = Button("Pause", "")
        self.pause.clicked.connect(self.toggle_pause)
        self.stop = Button("Stop…", f"End the run at its next step; asks whether to save. {stop_keys} stops and saves at once.".strip())
        self.stop.setAccessibleName("Stop the run")
        icons.bind(self.stop, "stop", theme)
        self.stop.clicked.connect(self._ask)
        self.choice = StopChoice()
        self.choice.chosen.connect(self._answered)
        self.buttons = QWidget()
        row = line_of(self.pause, self.stop)
        row.setContentsMargins(0, 0, 0, 0)
        self.buttons.setLayout(row)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(SMALL + 2)
        head = line_of(self.word, self.left)
        head.setStretch(0, 3)
        head.setStretch(1, 2)
        layout.addLayout(head)
        for widget in (self.bar, self.figures, self.buttons, self.choice):
            layout.addWidget(widget)
        self.hide()

    @property
    def job(self) -> Job | None:
        return self._job

    def follow(self, job: Job, track: RunTrack | None = None) -> None:
        """Show this run from now on; `track` when more is to be known of it."""
        self._job, self.track = job, RunTrack() if track is None else track
        job.changed.connect(self.refresh)
        self._close_choice()
        self.refresh()
        self.show()
        self.pause.setFocus(Qt.FocusReason.OtherFocusReason)

    def leave(self) -> None:
        """The run is over."""
        if self._job is not None:
            self._job.changed.disconnect(self.refresh)
        self._job = None
        self.hide()

    @Slot()
    def toggle_pause(self) -> None:
        """Hold the run, or go on with it."""
        if self._job is not None:
            self._job.resume() if self._job.control.paused else self._job.pause()

    @Slot()
    def refresh(self) -> None:
        """Draw what the job and its track say now."""
        job, track = self._job, self.track
        if job is None:
            return
        place = track.place()
        word = ("Saving and stopping" if job.control.save_on_stop else "Stopping") + " after this step…" if job.stopping else job.state
        self.word.set_full_text(f"{word} · {place}" if place and not job.stopping else word)
        self.left.setText("" if job.stopping or job.state == "Paused" else track.left())
        self.bar.setRange(0, STEPS_PER_BAR if track.of else 0)  # 0 to 0: busy, of unknown length
        if track.of:
            self.bar.setValue(round(STEPS_PER_BAR * track.step / track.of))
        self.bar.setAccessibleDescription(f"{place} {track.left()}".strip())
        self.figures.setText(track.figures() or "The first figures come with the first step.")
        self._show_buttons(job)

    def _show_buttons(self, job: Job) -> None:
        paused = job.state == "Paused"
        icon = "play" if paused else "pause"
        if icon != self._pause_icon:
            self._pause_icon = icon
            icons.bind(self.pause, icon, self._theme)
        text = "Resume" if paused else "Pause"
        if self.pause.text() != text:
            what = "Go on with the run." if paused else "Hold the run after this step and leave the machine to the chat."
            self.pause.set_words(text, f"{what}{self._pause_keys}")
        for button in (self.pause, self.stop):
            button.setEnabled(not job.stopping)
        if job.stopping and self.choice.isVisibleTo(self):
            self._close_choice()

    @Slot()
    def _ask(self) -> None:
        self.buttons.hide()
        self.choice.ask(self.track)

    @Slot(object)
    def _answered(self, save: bool | None) -> None:
        self._close_choice()
        if self._job is not None and save is not None:
            self._job.stop(save=save)
        elif self.stop.isEnabled():
            self.stop.setFocus(Qt.FocusReason.OtherFocusReason)

    def _close_choice(self) -> None:
        self.choice.hide()
        self.buttons.show()
