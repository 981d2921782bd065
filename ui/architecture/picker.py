"""Which model: a list of those on this machine with size and fit, and what is being loaded or fetched."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from PySide6.QtCore import QSize, Qt, Slot
from PySide6.QtWidgets import QComboBox, QHBoxLayout, QProgressBar, QPushButton, QSizePolicy, QToolButton, QVBoxLayout, QWidget

from ui import icons
from ui.models import STARTER, Activity, ModelController
from ui.services import Services
from ui.theme import SMALL
from ui.widgets.labels import ElidingLabel, MutedLabel
from workbench.core.format import bytes_text, duration_text
from workbench.library import ModelEntry

STEPS: Final = 1000
_TARGET: Final = Qt.ItemDataRole.UserRole
_PATH: Final = Qt.ItemDataRole.UserRole + 1


class _Combo(QComboBox):
    """Looks at the disk again when it is opened. The wheel changes no model."""

    def __init__(self, picker: ModelPicker) -> None:
        super().__init__()
        self._picker = picker
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.setMinimumContentsLength(10)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)

    def showPopup(self) -> None:
        self._picker.refresh()
        self._picker.appraise()
        super().showPopup()

    def wheelEvent(self, event: Any) -> None:
        event.ignore()


class ModelPicker(QWidget):
    """Asks the controller; shows what it says. The list always stands on the model in use, whatever became of a choice."""

    def __init__(self, services: Services) -> None:
        super().__init__()
        self._services = services
        self._models: ModelController = services.models
        self.combo = _Combo(self)
        self.combo.setAccessibleName("Model")
        self.combo.setToolTip("Models on this machine (Ctrl+L). Choosing one loads it; the one in use stays until the new one is whole.")
        self.combo.activated.connect(self._picked)
        self.open_button = self._tool("folder", "Open a model…", services)
        self.open_button.clicked.connect(services.actions["model.open"].trigger)
        self.find_button = self._tool("search", "Find and download models…", services)
        self.find_button.clicked.connect(services.actions["model.find"].trigger)
        self.cancel_button = self._tool("close", "Stop the download or the loading", services)
        self.cancel_button.clicked.connect(self._models.cancel)
        self.bar = QProgressBar(textVisible=False, maximum=STEPS)
        self.bar.setAccessibleName("Progress of the model")
        self.words = MutedLabel()
        self.words.setWordWrap(True)
        self.words.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Minimum)
        self.message = ElidingLabel()
        self.starter_button = QPushButton()
        self.starter_button.clicked.connect(services.actions["model.fetch_starter"].trigger)
        icons.bind(self.starter_button, "download", services.theme)
        self._build()
        self._models.changed.connect(self.show_activity)
        self._models.models_changed.connect(self.refresh)
        self._models.hub.appraised.connect(self._on_appraised)
        services.bus.model_changed.connect(self.refresh)
        services.bus.engine_ready.connect(self.refresh)
        self.refresh()

    def _tool(self, icon: str, name: str, services: Services) -> QToolButton:
        button = QToolButton(autoRaise=True)
        button.setAccessibleName(name)
        button.setToolTip(name)
        icons.bind(button, icon, services.theme)
        return button

    def _build(self) -> None:
        first = QHBoxLayout(spacing=SMALL)
        first.addWidget(self.combo, 1)
        first.addWidget(self.find_button)
        first.addWidget(self.open_button)
        self.progress = QWidget()
        column = QVBoxLayout()
        column.setSpacing(SMALL // 2)
        column.addWidget(self.message)
        column.addWidget(self.bar)
        self.bar.setFixedHeight(2 * SMALL)
        row = QHBoxLayout(self.progress)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(SMALL)
        row.addLayout(column, 1)
        row.addWidget(self.cancel_button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(SMALL)
        layout.addLayout(first)
        for widget in (self.progress, self.words, self.starter_button):
            layout.addWidget(widget)

    def minimumSizeHint(self) -> QSize:
        return QSize(0, super().minimumSizeHint().height())

    # ---- the list ------------------------------------------------------------------------------------------------

    @Slot()
    def refresh(self, _news: object = None) -> None:
        """Read again what is on this machine and free in memory, and stand on the model in use."""
        dtype = self._models.dtype
        self.combo.clear()
        for entry in self._models.entries():
            fit = self._models.hub.fit(entry, dtype)
            known = self._models.hub.appraisals.get(entry.path)
            broken = known is not None and bool(known.problem)
            word = "cannot be opened" if broken else fit.word
            label = self._label(entry)
            self.combo.addItem(f"{label}  ·  {bytes_text(entry.bytes)}  ·  {word}", entry.name if entry.name == STARTER else entry.path)
            at = self.combo.count() - 1
            self.combo.setItemData(at, entry.path, _PATH)
            tip = known.problem if known is not None and broken else f"{label} {fit.text}."
            self.combo.setItemData(at, f"{entry.path}\n{tip}", Qt.ItemDataRole.ToolTipRole)
        self._stand_on_current()
        self.show_activity(self._models.activity)

    def appraise(self) -> None:
        """Have models that are not known yet looked at, for a better estimate the next time."""
        self._models.hub.appraise(self._models.entries())

    @Slot()
    def _on_appraised(self) -> None:
        if not self.combo.view().isVisible():  # an open list is not pulled away under the mouse
            self.refresh()

    def _label(self, entry: ModelEntry) -> str:
        known = self._models.library.catalogue.get(entry.name)
        return known.label if known is not None else Path(entry.name).name

    def _stand_on_current(self) -> None:
        summary = self._models.summary
        paths = [self.combo.itemData(n, _PATH) for n in range(self.combo.count())]
        if summary is not None and summary.path not in paths:
            self.combo.addItem(summary.name, summary.path)
            self.combo.setItemData(self.combo.count() - 1, summary.path, _PATH)
            paths.append(summary.path)
        self.combo.setPlaceholderText("Choose a model" if paths else "No model on this machine yet")
        self.combo.setCurrentIndex(paths.index(summary.path) if summary is not None else -1)

    @Slot(int)
    def _picked(self, index: int) -> None:
        target, path = self.combo.itemData(index, _TARGET), self.combo.itemData(index, _PATH)
        self._stand_on_current()  # until the choice has become the model in use
        summary = self._models.summary
        if target is not None and (summary is None or summary.path != path):
            self._models.open(target)

    # ---- what is going on ----------------------------------------------------------------------------------------

    @Slot(object)
    def show_activity(self, activity: Activity) -> None:
        """A bar while something is fetched or loaded, else what the model in use is."""
        summary = self._models.summary
        self.progress.setVisible(activity.busy)
        installed = self._models.library.starter_installed
        self.starter_button.setVisible(not activity.busy and summary is None)
        command = self._services.actions["model.fetch_starter"]
        self.starter_button.setText("Load the starter model" if installed else command.info.plain_text)
        self.starter_button.setToolTip(command.toolTip())
        self.combo.setEnabled(activity.word != "Downloading")
        if activity.busy:
            self.bar.setRange(0, STEPS if activity.total else 0)
            self.bar.setValue(round(STEPS * activity.done / activity.total) if activity.total else 0)
            self.message.set_full_text(_progress_words(activity))
        self.words.setVisible(summary is not None and not activity.busy)
        if summary is not None:
            self.words.setText(_model_words(summary))
            self.words.setToolTip(f"{summary.path}\nBytes of the weights are measured on the loaded tensors.")


def _progress_words(activity: Activity) -> str:
    words = activity.message or activity.word
    if activity.total:
        words += f" · {bytes_text(activity.done)} of {bytes_text(activity.total)}"
    if activity.eta_seconds:
        words += f" · about {duration_text(activity.eta_seconds)} left"
    return words


def _model_words(summary: Any) -> str:
    chats = [] if summary.chat else ["no chat template"]
    weights = f"{bytes_text(summary.parameter_bytes)} as {summary.precision}"
    return " · ".join([weights, f"context {summary.config.max_positions:,}", *chats])
