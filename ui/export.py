"""Exporting the loaded model: a small window beside the main one, as the settings have; the work is a job like any other."""

from __future__ import annotations

import re
import shutil
from collections.abc import Generator
from functools import partial
from pathlib import Path
from typing import Any, Final

from PySide6.QtCore import QObject, QStandardPaths, Qt, QTimer, QUrl, Slot
from PySide6.QtGui import QDesktopServices, QFont
from PySide6.QtWidgets import QDialog, QFileDialog, QFormLayout, QLabel, QLineEdit, QProgressBar, QVBoxLayout, QWidget

from ui import icons
from ui.jobs.runner import Job
from ui.jobs.worker import JobFailure
from ui.services import Services
from ui.theme import LARGE, MEDIUM, SMALL
from ui.widgets.button import Button
from ui.widgets.labels import ElidingLabel
from ui.widgets.message import Message
from ui.widgets.sizes import control_height
from ui.widgets.text import Muted, line_of, together
from workbench.core.control import Control
from workbench.core.errors import WorkbenchError
from workbench.core.events import Event
from workbench.core.format import bytes_text, count_text, duration_text
from workbench.core.layouts import layout_of

PARTS: Final = 1000
_NO_MODEL: Final = "No model is loaded."
_UNSAFE: Final = re.compile(r"[^\w.+-]+")
_QUANTIZED: Final = re.compile(r"[.-](i?q\d\w*|b?f16|f32)$", re.IGNORECASE)
"""What names of files say about how their numbers are stored."""
WIDTH: Final = 520


class ExportCommand(QObject):
    """The command "Export model…": possible while a model is loaded; one window at a time."""

    def __init__(self, window: QWidget, services: Services) -> None:
        super().__init__(window)
        self._window = window
        self._services = services
        self.page: ExportWindow | None = None
        services.actions.add(
            "model.export", "&Export model…", self.open, menu="Model", group=1, icon="export",
            tooltip="Write the model, with the adapter in force, for llama.cpp, transformers, or as a checkpoint of our own.",
        )  # fmt: skip
        services.bus.model_changed.connect(self._on_model)
        self._on_model(None)

    @Slot(object)
    def _on_model(self, summary: object) -> None:
        self._services.actions.allow("model.export", summary is not None, _NO_MODEL)

    @Slot()
    def open(self) -> None:
        """Show the window, or bring it to the front."""
        if self.page is None:
            self.page = ExportWindow(self._services, self._window)
            self.page.destroyed.connect(self._forget)
        self.page.show()
        self.page.activateWindow()

    @Slot()
    def _forget(self) -> None:
        self.page = None


class ExportWindow(QDialog):
    """What, as what, where to; what it will be; and how it went. Closing it leaves a running export alone."""

    def __init__(self, services: Services, parent: QWidget) -> None:
        super().__init__(parent)
        from ui.forms.form import ConfigForm
        from workbench.exporting import ExportConfig  # the engine is here by now: a model is loaded

        self.setWindowTitle("Export model")
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self._services = services
        self._job: Job | None = None
        self._plan: Any = None
        self._written = Path()
        self._follows = True
        """The destination follows the format until a person names another."""
        self.name = ElidingLabel()
        bold = QFont(self.name.font())
        bold.setWeight(QFont.Weight.DemiBold)
        self.name.setFont(bold)
        self.words = Muted()
        self.form: Any = ConfigForm(ExportConfig, ExportConfig())
        self.place = QLineEdit()
        self.place.setObjectName("export.place")
        self.place.setAccessibleName("Where to")
        self.place.setMinimumHeight(control_height(self.place))
        self.choose_button = Button("Choose…", "Choose where the export goes.")
        icons.bind(self.choose_button, "folder", services.theme)
        self.plan_words = Muted()
        self.bar = QProgressBar(textVisible=False, maximumHeight=2 * SMALL)
        self.bar.setRange(0, PARTS)
        self.bar.setAccessibleName("Progress of the export")
        self.message = Message(services.theme)
        self.start_button = Button("Export", "Write the model, read it back and compare.", primary=True)
        self.start_button.setObjectName("export.start")
        self.start_button.setDefault(True)
        self.stop_button = Button("Stop", "Give up; what is half-written is removed.")
        icons.bind(self.stop_button, "stop", services.theme)
        self.folder_button = Button("Open folder", "Show what was written.")
        icons.bind(self.folder_button, "folder", services.theme)
        self.close_button = Button("Close", "Close this window; an export that is running goes on.")
        for button in (self.choose_button, self.stop_button, self.folder_button, self.close_button):
            button.setAutoDefault(False)
        self._build()
        self._connect()
        self._on_model(None)

    def _build(self) -> None:
        place = QFormLayout(horizontalSpacing=MEDIUM)
        row = line_of(self.place, self.choose_button)
        row.setStretch(0, 1)
        label = QLabel("Where to", indent=MEDIUM + SMALL)  # below the labels of the form
        label.setBuddy(self.place)
        place.addRow(label, row)
        buttons = line_of(self.folder_button, 1, self.stop_button, self.start_button, self.close_button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(LARGE, LARGE, LARGE, LARGE)
        layout.setSpacing(MEDIUM)
        for item in (self.name, self.words, self.form, place, self.plan_words, self.bar, self.message):
            layout.addLayout(item) if isinstance(item, QFormLayout) else layout.addWidget(item)
        layout.addStretch(1)
        layout.addLayout(buttons)
        layout.setSizeConstraint(QVBoxLayout.SizeConstraint.SetNoConstraint)  # wrapped text asks for more than it needs; see `_fit`
        for hidden in (self.bar, self.message, self.stop_button, self.folder_button):
            hidden.hide()
        self.setMinimumWidth(WIDTH)
        self._soon = QTimer(self, singleShot=True, interval=0)
        self._soon.timeout.connect(self._fit)

    def _connect(self) -> None:
        bus = self._services.bus
        self.form.changed.connect(self._on_config)
        self.place.textEdited.connect(self._on_place_edited)
        self.place.textChanged.connect(self._show_what_can_be_done)
        self.choose_button.clicked.connect(self._choose)
        self.start_button.clicked.connect(self._start)
        self.stop_button.clicked.connect(self._stop)
        self.folder_button.clicked.connect(self._open_folder)
        self.close_button.clicked.connect(self.close)
        bus.model_changed.connect(self._on_model)
        bus.adapter_changed.connect(self._on_model)
        bus.job_started.connect(self._show_what_can_be_done)
        bus.job_finished.connect(self._show_what_can_be_done)

    # ---- what is asked -------------------------------------------------------------------------------------------

    @property
    def path(self) -> Path:
        """The destination as typed."""
        return Path(self.place.text().strip()).expanduser()

    @Slot(object)
    def _on_model(self, _news: object) -> None:
        """Another model, or another adapter in force."""
        session = self._services.session
        summary = getattr(session, "model", None)
        if summary is None:
            self.close()
            return
        self.name.set_full_text(summary.name)
        adapter = session.adapter
        merged = "" if adapter is None else f" The adapter “{adapter.name}” is added into the weights at strength {adapter.strength:g}."
        self.words.setText(f"{count_text(summary.parameters)} parameters, {summary.precision} in memory.{merged}")
        self._on_config(self.form.value)

    @Slot(object)
    def _on_config(self, config: Any) -> None:
        self._plan, problem = None, None
        if not config.problems():
            try:
                self._plan = self._services.engine.plan_export(config)
            except WorkbenchError as error:
                problem = error
        self.message.hide()
        self.folder_button.hide()
        if problem is not None:
            self._say("warning", problem.message, problem.hint, details=problem.details)
        if self._follows and self._plan is not None:
            self.place.setText(str(self._proposal()))
        self._show_what_can_be_done()

    def _proposal(self) -> Path:
        """A free name in the folder of the last export, else in the person's documents."""
        documents = QStandardPaths.writableLocation(QStandardPaths.StandardLocation.DocumentsLocation) or str(Path.home())
        folder = self.path.parent if self.place.text().strip() else Path(documents)
        stem = _UNSAFE.sub("-", _QUANTIZED.sub("", self.name.full_text)).strip("-") or "model"
        ending = f"-{self._plan.type}{self._plan.suffix}" if self._plan.suffix else f"-{self._plan.format}"
        tries = (folder / f"{stem}{'' if n == 1 else f'-{n}'}{ending}" for n in range(1, 1000))
        return next((path for path in tries if not path.exists()), folder / f"{stem}{ending}")

    @Slot()
    def _on_place_edited(self) -> None:
        self._follows = False

    @Slot()
    def _choose(self) -> None:
        dialog = QFileDialog(self, "Export the model to", str(self.path))
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.setAcceptMode(QFileDialog.AcceptMode.AcceptSave)
        dialog.setOption(QFileDialog.Option.DontConfirmOverwrite)  # the button says it
        if self._plan is not None and self._plan.suffix:
            dialog.setNameFilter(f"GGUF files (*{self._plan.suffix})")
            dialog.setDefaultSuffix(self._plan.suffix.removeprefix("."))
        dialog.fileSelected.connect(self.choose)
        dialog.open()

    @Slot(str)
    def choose(self, path: str) -> None:
        """Export to `path`."""
        self._follows = False
        self.place.setText(path)

    # ---- what can be done ----------------------------------------------------------------------------------------

    @Slot()
    def _show_what_can_be_done(self, _job: object = None) -> None:
        running = self._job is not None
        reason = "" if running else self._why_not()
        replaces = not reason and not running and self.path.exists() and layout_of(self.path) is not None
        tip = "Replace the checkpoint that is there." if replaces else "Write the model, read it back and compare."
        self.start_button.set_words("Replace and export" if replaces else "Export", f"{tip}\nNot now: {reason}" if reason else tip)
        self.start_button.setEnabled(not reason and not running)
        self.start_button.setVisible(not running)
        self.stop_button.setVisible(running)
        self.bar.setVisible(running)
        for widget in (self.form, self.place, self.choose_button):
            widget.setEnabled(not running)
        self.plan_words.setText(self._plan_text(reason))
        self._soon.start()

    @Slot()
    def _fit(self) -> None:
        """As high as what is shown needs at this width."""
        layout = self.layout()
        layout.activate()
        self.resize(self.width(), layout.totalHeightForWidth(self.width()))

    def _why_not(self) -> str:
        """Why no export can be started; "" when it can."""
        problems = self.form.value.problems()
        if problems:
            return problems[0].message
        if self._plan is None:
            return "This format cannot hold the model."
        if not self.place.text().strip():
            return "Say where to export to."
        if self.path.suffix.lower() != self._plan.suffix and self._plan.suffix:
            return f"The name must end in {self._plan.suffix}."
        if self.path.is_file() != bool(self._plan.suffix) and self.path.exists():
            return f"{self.path.name} is a {'file' if self.path.is_file() else 'folder'} of another kind."
        blocker = self._services.jobs.blocker("model")
        return f"“{blocker.title}” is still running." if blocker is not None else ""

    def _plan_text(self, reason: str) -> str:
        if self._plan is None:
            return reason
        kind = "" if self._plan.family == self._plan.format else f" · kind of model: {self._plan.family}"
        free = _free(self.path)
        left = "" if free is None else f" · {bytes_text(free)} free there"
        words = [together(f"{bytes_text(self._plan.nbytes)} as {self._plan.type}") + kind + left, *self._plan.notices, reason]
        return "\n".join(filter(None, words))

    # ---- the work ------------------------------------------------------------------------------------------------

    @Slot()
    def _start(self) -> None:
        config, path = self.form.value, self.path
        write = partial(self._services.engine.export, path, config.format, config.type, layout_of(path) is not None)

        def make(control: Control) -> Generator[Event, None, Any]:
            return write(control=control)  # type: ignore[no-any-return]

        try:
            self._job = self._services.jobs.start(
                f"Export to {path.name}", make, "model",
                on_done=self._on_done, on_failed=self._on_failed, on_finished=self._on_finished,
            )  # fmt: skip
        except WorkbenchError as error:  # started elsewhere in this moment
            self._say("warning", error.message, error.hint)
            return
        self.message.hide()
        self.folder_button.hide()
        self.bar.setRange(0, 0)
        self._job.changed.connect(self._show_progress)
        self._show_what_can_be_done()

    @Slot()
    def _stop(self) -> None:
        if self._job is not None:
            self._job.stop(save=False)

    @Slot()
    def _show_progress(self) -> None:
        if self._job is None:
            return
        progress = self._job.progress
        # Reading back has no length of its own: the bar says that it is still at work.
        known = bool(progress.total) and progress.done < (progress.total or 0)
        self.bar.setRange(0, PARTS if known else 0)
        if known:
            self.bar.setValue(round(PARTS * progress.done / (progress.total or 1)))
        self.plan_words.setText(progress.message)

    def _on_done(self, report: Any) -> None:
        if report is None:
            self._say("info", "Stopped.", "Nothing was written.")
            return
        seconds = self._job.elapsed if self._job is not None else 0.0
        costs = "" if report.exact else "; that is what the rounding costs"
        moved = f", largest difference of a logit {report.max_abs_logit_difference:.2g}{costs}" if report.proven else ""
        self._say(
            "good", f"Exported {bytes_text(report.nbytes)} in {duration_text(seconds)}.",
            f"Compared with the model: {report.proof}{moved}.",
            str(report.path),
        )  # fmt: skip
        self._written = report.path
        self.folder_button.show()

    def _on_failed(self, failure: JobFailure) -> bool:
        self._say("error", failure.message, failure.hint, details=failure.details)
        return self.isVisible()

    def _on_finished(self) -> None:
        self._job = None
        self._show_what_can_be_done()

    def _say(self, level: Any, title: str, text: str = "", hint: str = "", details: str = "") -> None:
        self.message.say(level, title, text, hint, details)
        self.message.show()
        self._soon.start()

    @Slot()
    def _open_folder(self) -> None:
        folder = self._written if self._written.is_dir() else self._written.parent
        QDesktopServices.openUrl(QUrl.fromLocalFile(str(folder)))


def _free(path: Path) -> int | None:
    """Bytes free where `path` would be; None when that cannot be said."""
    try:
        return shutil.disk_usage(next(folder for folder in path.absolute().parents if folder.exists())).free
    except (OSError, StopIteration):
        return None
