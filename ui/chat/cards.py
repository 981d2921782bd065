"""What stands in the transcript when there is nothing to read yet, and when something went wrong."""

from __future__ import annotations

from typing import Any, Final

from PySide6.QtCore import Signal, Slot
from PySide6.QtGui import QFont
from PySide6.QtWidgets import QFrame, QHBoxLayout, QProgressBar, QVBoxLayout, QWidget

from ui.chat.bits import WrappingLabel
from ui.jobs.worker import JobFailure
from ui.services import Services
from ui.theme import LARGE, MEDIUM, SMALL, Theme
from ui.widgets.button import Button, ElidingButton
from ui.widgets.message import Message
from ui.widgets.text import breakable
from workbench.core.format import bytes_text, duration_text

EXAMPLES: Final = (
    "What is the capital of France?",
    "Explain in three sentences what a language model does.",
    "Write a Python function that reverses a list.",
)
CARD_WIDTH: Final = 460
TINY: Final = "tiny-llama"
"""The preset that the first run builds."""


class EmptyCard(QFrame):
    """The first run: how to get a model, and how that goes; with a model: what one could ask."""

    example_chosen = Signal(str)

    def __init__(self, services: Services) -> None:
        super().__init__()
        self.setObjectName("emptyCard")
        self._services = services
        self.setMaximumWidth(CARD_WIDTH)
        self.title = WrappingLabel()
        self.title.setObjectName("title")
        self.words = WrappingLabel(muted=True)
        self.fetch_button = ElidingButton("Get the starter model", "Download it once, then load it.", primary=True)
        self.open_button = ElidingButton("Open a model folder or GGUF…", "Choose a model that is on this computer.")
        self.build_button = ElidingButton(
            "Build a tiny model from scratch", "Train one on text that is here already: first words within minutes."
        )
        self.stop_button = Button("Stop", "Stop the download or the loading.")
        self.build_button.clicked.connect(self._build_tiny)
        self.fetch_button.clicked.connect(self._fetch)
        self.open_button.clicked.connect(self._open)
        self.stop_button.clicked.connect(self._cancel)
        self.bar = QProgressBar(textVisible=False)
        self.bar.setAccessibleName("Progress of the model")
        self.bar.setFixedHeight(MEDIUM)
        self.progress = WrappingLabel(muted=True)
        self.examples: list[Button] = []
        self._build()
        services.theme.changed.connect(self._tint)
        services.models.changed.connect(self.refresh)
        services.models.models_changed.connect(self.refresh)
        self._tint()

    def _build(self) -> None:
        layout = QVBoxLayout(self)
        layout.setContentsMargins(LARGE + MEDIUM, LARGE + SMALL, LARGE + MEDIUM, LARGE + SMALL)
        layout.setSpacing(MEDIUM + SMALL)
        layout.addWidget(self.title)
        layout.addWidget(self.words)
        self._get = QWidget()
        buttons = QVBoxLayout(self._get)
        buttons.setContentsMargins(0, 0, 0, 0)
        buttons.setSpacing(MEDIUM)
        buttons.addWidget(self.fetch_button)
        buttons.addWidget(self.open_button)
        buttons.addWidget(self.build_button)
        layout.addWidget(self._get)
        self._going = QWidget()
        going = QVBoxLayout(self._going)
        going.setContentsMargins(0, 0, 0, 0)
        going.setSpacing(MEDIUM)
        going.addWidget(self.bar)
        line = QHBoxLayout(spacing=MEDIUM)
        line.addWidget(self.progress, 1)
        line.addWidget(self.stop_button)
        going.addLayout(line)
        layout.addWidget(self._going)
        self._ask = QWidget()
        ask = QVBoxLayout(self._ask)
        ask.setContentsMargins(0, 0, 0, 0)
        ask.setSpacing(MEDIUM)
        for text in EXAMPLES:
            button = ElidingButton(text, "Send this message.")
            button.clicked.connect(lambda _checked=False, t=text: self.example_chosen.emit(t))
            self.examples.append(button)
            ask.addWidget(button)
        layout.addWidget(self._ask)

    @Slot()
    def refresh(self) -> None:
        """Show what is so: no engine, no model, a model on its way, or a model."""
        models, model = self._services.models, self._services.models.summary
        activity = models.activity
        self._get.setVisible(model is None and not activity.busy)
        self._going.setVisible(activity.busy)
        self._ask.setVisible(model is not None and not activity.busy)
        installed = models.library.starter_installed
        if model is not None:
            self.title.setText(breakable(f"Chat with {model.name}"))
            taught = "Try one of these, or write below." if model.chat else (
                "This model was not taught to chat: it continues the text it is given. Try one of these, or write below."
            )  # fmt: skip
            self.words.setText(taught)
        else:
            self.title.setText("Chat with a model on this computer")
            self.words.setText(
                "The starter model SmolLM2-135M-Instruct is small enough for any laptop and needs no graphics card. "
                "Nothing you write leaves this computer."
            )
        size = models.library.catalogue["starter"].bytes
        self.fetch_button.set_words(
            "Load the starter model" if installed else f"Get the starter model ({size / 1e6:.0f} MB)",
            "It is on this computer already." if installed else "Downloads it once, then loads it.",
        )
        if activity.busy:
            self._show_activity(activity)

    def _show_activity(self, activity: Any) -> None:
        known = activity.total is not None and activity.total > 0
        self.bar.setRange(0, 1000 if known else 0)
        if known:
            self.bar.setValue(round(1000 * activity.done / activity.total))
        parts = [activity.message or f"{activity.word} {activity.name}"]
        if known:
            parts.append(f"{100 * activity.done / activity.total:.0f} %")
            if activity.total > 1e6:
                parts.append(f"{bytes_text(activity.done)} of {bytes_text(activity.total)}")
        if activity.eta_seconds:
            parts.append(f"{duration_text(activity.eta_seconds)} left")
        self.progress.setText(" · ".join(parts))

    @Slot()
    def _fetch(self) -> None:
        self._services.actions["model.fetch_starter"].trigger()

    @Slot()
    def _open(self) -> None:
        self._services.actions["model.open"].trigger()

    @Slot()
    def _build_tiny(self) -> None:
        self._services.bus.build_requested.emit(TINY)

    @Slot()
    def _cancel(self) -> None:
        self._services.actions["model.cancel"].trigger()

    @Slot()
    def _tint(self) -> None:
        c = self._services.theme.colours
        font = QFont(self.font())
        font.setPointSizeF(font.pointSizeF() * 1.25)
        font.setWeight(QFont.Weight.DemiBold)
        self.title.setFont(font)
        self.setStyleSheet(f"#emptyCard {{ background: {c.window}; border: 1px solid {c.border}; border-radius: 8px; }}")


class ErrorCard(Message):
    """Why there is no reply, what to do, and the long story for those who ask."""

    retry_wanted = Signal()

    def __init__(self, theme: Theme) -> None:
        super().__init__(theme)
        self.retry_button = Button("Try again", "Answer the last message again.")
        self.retry_button.clicked.connect(self.retry_wanted)
        self.buttons.addWidget(self.retry_button)

    def show_failure(self, failure: JobFailure) -> None:
        """Say why."""
        self.say("error", "", failure.message, failure.hint, failure.details)
