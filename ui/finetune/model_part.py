"""Which model is tuned; how to get one when there is none."""

from __future__ import annotations

from typing import Any

from PySide6.QtGui import QFont
from PySide6.QtWidgets import QProgressBar, QSizePolicy, QVBoxLayout, QWidget

from ui import icons
from ui.actions import ActionRegistry
from ui.theme import SMALL, Theme
from ui.widgets.button import Button
from ui.widgets.labels import ElidingLabel
from ui.widgets.text import Muted
from workbench.core.format import bytes_text, count_text

PARTS = 1000


def model_words(summary: Any) -> str:
    """ "134.5 M parameters · float32 · cpu"."""
    parts = [f"{count_text(summary.parameters)} parameters", str(summary.precision), str(summary.device).upper()]
    if not summary.chat:
        parts.append("no chat template")
    return " · ".join(parts)


class ModelPart(QWidget):
    """The loaded model in two lines, a load that is going on, or the two buttons that bring a model."""

    def __init__(self, actions: ActionRegistry, theme: Theme) -> None:
        super().__init__()
        self._actions = actions
        self.name = ElidingLabel()
        bold = QFont(self.name.font())
        bold.setWeight(QFont.Weight.Medium)
        self.name.setFont(bold)
        self.words = Muted()
        self.bar = QProgressBar(textVisible=False, maximumHeight=2 * SMALL)
        self.bar.setAccessibleName("Progress of the model")
        self.starter = Button("Get the starter model", "", primary=True)
        icons.bind(self.starter, "download", theme, "on_accent")
        self.open = Button("Open a model…", "Load a GGUF file, or a model folder by its config.json.")
        self.open.setAccessibleName("Open a model")
        icons.bind(self.open, "folder", theme)
        self.starter.clicked.connect(self._get)
        self.open.clicked.connect(self._open)
        self.buttons = QWidget()
        column = QVBoxLayout(self.buttons)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(SMALL + 2)
        for button in (self.starter, self.open):
            button.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
            column.addWidget(button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(SMALL)
        for widget in (self.name, self.words, self.bar, self.buttons):
            layout.addWidget(widget)

    def show_model(self, summary: Any, activity: Any, starter_installed: bool, starter_bytes: float) -> None:
        """Show the model in use; an `Activity` that is going on comes first."""
        busy = activity is not None and activity.busy
        self.name.setVisible(summary is not None and not busy)
        self.bar.setVisible(busy)
        self.buttons.setVisible(summary is None and not busy)
        if busy:
            self._show_activity(activity)
        elif summary is not None:
            self.name.set_full_text(summary.name)
            self.words.setText(model_words(summary))
        else:
            self.words.setText("No model is loaded: there is nothing to tune yet.")
            get = "Load the starter model" if starter_installed else f"Get the starter model ({starter_bytes / 1e6:.0f} MB)"
            self.starter.set_words(get, self._actions["model.fetch_starter"].toolTip())

    def _show_activity(self, activity: Any) -> None:
        known = bool(activity.total)
        self.bar.setRange(0, PARTS if known else 0)
        if known:
            self.bar.setValue(round(PARTS * activity.done / activity.total))
        amount = f" · {bytes_text(activity.done)} of {bytes_text(activity.total)}" if known and activity.word == "Downloading" else ""
        self.words.setText(f"{activity.message or activity.word}{amount}")

    def _get(self) -> None:
        self._actions["model.fetch_starter"].trigger()

    def _open(self) -> None:
        self._actions["model.open"].trigger()
