"""Below the settings: what the draft would do to the loaded model, and the buttons that do something about it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PySide6.QtCore import Qt, Signal, Slot
from PySide6.QtWidgets import QFileDialog, QMenu, QVBoxLayout, QWidget

from ui import icons
from ui.architecture.conversion import Conversion
from ui.architecture.verdicts import ICONS
from ui.forms.note import Note
from ui.services import Services
from ui.theme import MEDIUM, SMALL
from ui.widgets.button import Button
from ui.widgets.flow import FlowLayout


class ActionBar(QWidget):
    """Apply, measure, heal and undo act on the loaded model; Train from scratch hands the draft on."""

    build_wanted = Signal()

    def __init__(self, services: Services, conversion: Conversion) -> None:
        super().__init__()
        self._conversion = conversion
        self._problem = self._whole = ""
        self._can_build = False
        self.verdict = Note()
        self.apply_button = Button("Apply", "", primary=True)
        self.measure_button = Button("Measure", "Convert a copy, and compare how well both predict a text.")
        self.measure_button.setMenu(self._measure_menu())
        self.heal_button = Button("Heal…", "Heal with a fine-tune: train the converted model a little, so that it finds its way back.")
        self.undo_button = Button("Undo", "Undo the conversion: bring back the model as it was before it.")
        self.build_button = Button("Train from scratch…", "")
        for button, icon, role in (
            (self.apply_button, "check", "on_accent"),
            (self.heal_button, "finetune", "text"),
            (self.undo_button, "refresh", "text"),
            (self.build_button, "add", "text"),
        ):
            icons.bind(button, icon, services.theme, role)
        self.apply_button.clicked.connect(conversion.apply)
        self.heal_button.clicked.connect(conversion.heal)
        self.undo_button.clicked.connect(conversion.undo)
        self.build_button.clicked.connect(self.build_wanted)
        buttons = QWidget()
        flow = FlowLayout(buttons, spacing=SMALL + 2)
        for button in (self.apply_button, self.measure_button, self.heal_button, self.undo_button, self.build_button):
            flow.addWidget(button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(MEDIUM, SMALL + 2, MEDIUM, MEDIUM)
        layout.setSpacing(SMALL)
        layout.addWidget(self.verdict)
        layout.addWidget(buttons)
        conversion.changed.connect(self.refresh)
        self.refresh()

    def _measure_menu(self) -> QMenu:
        menu = QMenu(self)
        menu.addAction("On the built-in text").triggered.connect(self._conversion.measure_on_builtin)
        menu.addAction("On a text of yours…").triggered.connect(self._ask_sample)
        return menu

    def _ask_sample(self) -> None:
        dialog = QFileDialog(self.window(), "A text to measure on", "", "Texts (*.txt *.md);;All files (*)")
        dialog.setFileMode(QFileDialog.FileMode.ExistingFile)
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.fileSelected.connect(self._on_sample)
        dialog.open()

    @Slot(str)
    def _on_sample(self, path: str) -> None:
        self._conversion.measure_on(Path(path))

    def set_problem(self, short: str, whole: str) -> None:
        """What keeps the draft from being built: a few words for the buttons, and the whole of it; empty when it can be."""
        self._problem, self._whole = short, whole
        self.refresh()

    def allow_build(self, possible: bool) -> None:
        """Whether there is a page that trains models from scratch."""
        self._can_build = possible
        self.refresh()

    def refresh(self) -> None:
        """Draw what is so."""
        conversion = self._conversion
        found = conversion.verdict()
        changed, converted = conversion.plan is not None, conversion.report is not None
        if self._problem:
            self.verdict.say("", "", "muted")
        elif found is not None:
            self.verdict.say(found.words, found.icon, found.role)
        else:
            self._tell_report()
        blocked = bool(self._problem) and conversion.has_model
        self.apply_button.setVisible(changed or blocked or conversion.busy)
        self.apply_button.setEnabled(changed and not conversion.busy)
        self.measure_button.setVisible(changed and not conversion.busy and found is not None and found.kind != "exact")
        self.measure_button.setEnabled(not conversion.estimating)
        self.heal_button.setVisible(converted and not changed and conversion.report.verdict != "exact")
        self.undo_button.setVisible(conversion.can_undo and not conversion.busy)
        self.build_button.setVisible(self._can_build and not blocked)  # one button says what is wrong
        self.build_button.setEnabled(not self._problem)
        self._words()

    def _tell_report(self) -> None:
        told: Any = self._conversion.told()
        if told:
            icon, role = ICONS[self._conversion.report.verdict]
            self.verdict.say(told, icon, role)
        else:
            self.verdict.say("", "", "muted")

    def _words(self) -> None:
        if self._problem:
            for button in (self.apply_button, self.build_button):
                button.set_words(self._problem, self._whole)
            return
        tip = "Convert the loaded model to these settings; what can be kept is kept, and it can be undone."
        self.apply_button.set_words("Converting…" if self._conversion.busy else "Apply", tip)
        self.build_button.set_words("Train from scratch…", "Hand these settings to the page that builds and trains new models.")
