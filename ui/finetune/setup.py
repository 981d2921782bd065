"""Data, method and numbers as one request: remembered, checked in the background, locked while a run uses it.

Imports the engine's settings, so this module is imported once the engine is there.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import psutil
from PySide6.QtCore import QCoreApplication, QMimeData, QObject, QTimer, Signal, Slot

from ui.finetune import remembered
from ui.finetune.check import Preflight, Wanted
from ui.finetune.method_part import COPIES, MethodPart
from ui.finetune.report_view import ReportView
from ui.services import Services
from ui.training.data_part import DataPicker, dropped_data
from ui.training.step import StepSection
from workbench.core.errors import WorkbenchError
from workbench.core.fields import describe
from workbench.core.format import bytes_text
from workbench.data import DataConfig
from workbench.requests import FinetuneRequest

SAVE_AFTER_MS: Final = 800


class Setup(QObject):
    """Fills the parts for data and method. `changed` comes when the request, or what is known about it, is another."""

    changed = Signal()

    def __init__(self, services: Services, data_step: StepSection, method_step: StepSection, parent: QObject) -> None:
        super().__init__(parent)
        self._services = services
        self._data_step, self._method_step = data_step, method_step
        self._model: object = None
        self.path: Path = services.models.library.home / remembered.FILE
        self._remembered = remembered.load(self.path)
        request = self._remembered.request
        self.picker = DataPicker(services.theme)
        self.report = ReportView(services.theme)
        self.method = MethodPart(request.lora, request.train, request.data, request.full)
        self.check = Preflight(services, self)
        data_step.body_layout.addWidget(self.picker)
        data_step.body_layout.addWidget(self.report)
        method_step.body_layout.addWidget(self.method)
        self.picker.show_sources(request.data.sources, self._remembered.recent)
        self._save_soon = QTimer(self, singleShot=True, interval=SAVE_AFTER_MS)
        self._save_soon.timeout.connect(self.remember)
        self.picker.chosen.connect(self._on_chosen)
        self.method.changed.connect(self._on_changed)
        self.report.again.connect(self.check.again)
        self.check.changed.connect(self._show)
        app = QCoreApplication.instance()
        if app is not None:
            app.aboutToQuit.connect(self._save_if_waiting)
        self._show()

    # ---- the request ---------------------------------------------------------------------------------------------

    def request(self) -> FinetuneRequest:
        """What a start would ask for."""
        method = self.method
        return FinetuneRequest(data=method.data(self.picker.sources), lora=method.lora, train=method.train, full=method.full)

    def problem(self) -> tuple[str, str]:
        """(words for the button, the reason) of what is wrong with it; two empty texts when nothing is."""
        if not self.picker.sources:
            return "Choose a dataset", "Pick one under Data, or drop files onto this panel."
        found = self.method.problems
        if found:
            labels = {i.name: i.label for t in (type(self.method.lora), type(self.method.train), DataConfig) for i in describe(t)}
            return f"Correct “{labels.get(found[0].field, found[0].field)}”", str(found[0])
        free, priced = float(psutil.virtual_memory().available), self.check.priced
        need = COPIES * 4 * priced.parameters if self.method.full and priced is not None else 0
        if need > free:
            return "Too large for this computer", f"All weights need about {bytes_text(need)} (estimated) and {bytes_text(free)} are free."
        if self.check.failure is not None:
            return "The data cannot be used", f"{self.check.failure.message} {self.check.failure.hint}".strip()
        if self.check.report is not None and not self.check.report.usable:
            return "Nothing to learn in these data", "No row has anything to learn; see under Data."
        if not self.check.usable:
            return "Checking the data…", "A run starts when it is known what would be learnt."
        return "", ""

    def set_model(self, summary: object) -> None:
        """Another model (or None): its tokenizer counts the tokens now."""
        self._model = summary
        self._recheck()

    def set_locked(self, locked: bool) -> None:
        """While a run uses the settings they cannot be changed."""
        self.picker.setEnabled(not locked)
        self.method.set_locked(locked)
        self._method_step.set_state(self._method_step.state, "used by the run" if locked else "")

    def dropped(self, mime: QMimeData) -> list[str]:
        """The data files of a drag; empty when it is something else."""
        return dropped_data(mime)

    # ---- changes -------------------------------------------------------------------------------------------------

    @Slot(object)
    def _on_chosen(self, sources: tuple[str, ...]) -> None:
        self._remembered = self._remembered.used(sources)
        self.picker.show_sources(sources, self._remembered.recent)
        self._on_changed()

    @Slot()
    def _on_changed(self) -> None:
        self._save_soon.start()
        self._recheck()
        self._show()

    def _recheck(self) -> None:
        """A new check where the old one no longer holds; none while there is no model or a setting is unusable."""
        data, train = self.method.data(self.picker.sources), self.method.train
        usable = self._model is not None and bool(data.sources) and not data.problems() and not train.problems()
        self.check.want(Wanted(data, train.max_length, self._model) if usable else None)

    @Slot()
    def _show(self) -> None:
        check = self.check
        self.report.follow(check)
        self.method.set_priced(check.priced, check.report.sequences if check.report is not None else 0)
        if check.word == "checking":
            self._data_step.set_state("busy", "checking…")
        elif check.failure is not None or (check.report is not None and not check.report.usable):
            self._data_step.set_state("problem", "")
        else:
            self._data_step.set_state("done" if check.usable else "open", "")
        wrong = len(self.method.problems)
        words = f"{wrong} problem{'s' if wrong > 1 else ''}" if wrong else ""
        self._method_step.set_state("problem" if wrong else "done", words)
        self.changed.emit()

    # ---- memory --------------------------------------------------------------------------------------------------

    @Slot()
    def remember(self) -> None:
        """Write the settings, if they are usable, so that the next start shows them again."""
        self._save_soon.stop()
        if self.method.problems:
            return
        self._remembered = remembered.Remembered(self.request(), self._remembered.recent)
        try:
            remembered.save(self.path, self._remembered)
        except WorkbenchError as error:
            self._services.notify.exception(error, source="fine-tune")

    @Slot()
    def _save_if_waiting(self) -> None:
        if self._save_soon.isActive():
            self.remember()
