"""What the window's own commands do: settings, theme, text size, help, opening a model, stopping a run."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, Final

from PySide6.QtCore import QObject, QPoint, QUrl, Slot
from PySide6.QtGui import QDesktopServices
from PySide6.QtWidgets import QApplication, QDialog, QFileDialog, QWhatsThis

from ui.jobs.runner import Job
from ui.pages import AboutDialog, SettingsDialog, ShortcutsDialog
from ui.services import Services
from ui.settings import Preferences
from ui.window import Window
from workbench.core.errors import WorkbenchError
from workbench.core.fields import info_of

FONT_STEP: Final = 0.1
STOP_ORDER: Final = ("train", "model", "chat")
_NOTHING_RUNS: Final = "Nothing is running."
_LOADING: Final = "The engine is still loading."


class Commands(QObject):
    """Binds the standard commands that belong to no panel."""

    def __init__(self, window: Window, services: Services) -> None:
        super().__init__(window)
        self._window = window
        self._services = services
        self._bind()
        bus = services.bus
        bus.engine_ready.connect(self._on_engine)
        bus.engine_failed.connect(self._on_engine_failed)
        bus.job_started.connect(self._on_job_started)
        bus.job_finished.connect(self._show_what_can_be_stopped)
        services.settings.changed.connect(self._on_preferences)
        self._on_preferences(services.settings.value)
        self._show_what_can_be_stopped()

    def _bind(self) -> None:
        bind = self._services.actions.bind
        bind("model.open_file", self._choose_file, enabled=False, reason=_LOADING)
        bind("model.open_folder", self._choose_folder, enabled=False, reason=_LOADING)
        bind("app.settings", self.open_settings)
        for mode in ("system", "light", "dark"):
            bind(f"view.theme.{mode}", partial(self._set_theme, mode))
        bind("view.theme.toggle", self._toggle_theme)
        bind("view.larger", partial(self._scale, 1))
        bind("view.smaller", partial(self._scale, -1))
        bind("view.normal", partial(self._scale, 0))
        bind("run.pause", self._pause)
        bind("run.stop", self._stop)
        bind("chat.stop", self._stop_chat)
        bind("help.field", self._explain_field)
        bind("help.shortcuts", self._show_shortcuts)
        bind("help.logs", self._open_logs)
        bind("help.about", self._show_about)

    # ---- preferences ---------------------------------------------------------------------------------------------

    @Slot(object)
    def _on_preferences(self, value: Preferences) -> None:
        theme = self._services.theme
        if theme.mode != value.theme:
            theme.set_mode(value.theme)  # type: ignore[arg-type]
        theme.set_font_scale(value.font_scale)
        self._services.notify.log.set_limit(value.log_lines)
        for mode in ("system", "light", "dark"):
            self._services.actions[f"view.theme.{mode}"].setChecked(mode == value.theme)

    def _change(self, **values: Any) -> None:
        try:
            self._services.settings.change(**values)
        except WorkbenchError as error:
            self._services.notify.exception(error, source="settings")

    def _set_theme(self, mode: str, checked: bool) -> None:
        self._change(theme=mode)
        self._services.actions[f"view.theme.{mode}"].setChecked(True)

    def _toggle_theme(self) -> None:
        self._change(theme="light" if self._services.theme.dark else "dark")

    def _scale(self, step: int) -> None:
        info = info_of(Preferences, "font_scale")
        wanted = self._services.settings.value.font_scale + step * FONT_STEP if step else 1.0
        self._change(font_scale=round(min(max(wanted, info.minimum or 0), info.maximum or 9), 2))

    def open_settings(self) -> None:
        """Show the settings."""
        self._open(SettingsDialog(self._services.settings, self._services.notify, self._window))

    # ---- models --------------------------------------------------------------------------------------------------

    @Slot(object)
    def _on_engine(self, session: Any) -> None:
        self._services.actions.allow("model.open_file", True)
        self._services.actions.allow("model.open_folder", True)

    @Slot(object)
    def _on_engine_failed(self, failure: Any) -> None:
        for id in ("model.open_file", "model.open_folder"):
            self._services.actions.allow(id, False, "The engine did not load; see the Log.")

    def _choose_file(self) -> None:
        dialog = QFileDialog(self._window, "Open a model file", "", "Models (*.gguf *.safetensors);;All files (*)")
        dialog.setFileMode(QFileDialog.FileMode.ExistingFile)
        dialog.fileSelected.connect(self._open_model)
        self._open(dialog)

    def _choose_folder(self) -> None:
        dialog = QFileDialog(self._window, "Open a model folder")
        dialog.setFileMode(QFileDialog.FileMode.Directory)
        dialog.setOption(QFileDialog.Option.ShowDirsOnly)
        dialog.fileSelected.connect(self._open_model)
        self._open(dialog)

    @Slot(str)
    def _open_model(self, path: str) -> None:
        self._services.bus.open_model.emit(Path(path))

    # ---- running work --------------------------------------------------------------------------------------------

    @Slot(object)
    def _on_job_started(self, job: Job) -> None:
        job.changed.connect(self._show_what_can_be_stopped)
        self._show_what_can_be_stopped()

    def _running(self, *lanes: str) -> Job | None:
        jobs = self._services.jobs
        return next((job for lane in lanes if (job := jobs.running(lane)) is not None and job.running), None)

    @Slot()
    def _show_what_can_be_stopped(self) -> None:
        actions = self._services.actions
        train, chat, any_job = self._running("train"), self._running("chat"), self._running(*STOP_ORDER)
        wanted = {
            "run.pause": (train is not None and not train.stopping, "No run is going on."),
            "run.stop": (any_job is not None and not any_job.stopping, _NOTHING_RUNS),
            "chat.stop": (chat is not None and not chat.stopping, "No reply is being written."),
        }
        for id, (possible, reason) in wanted.items():
            if actions[id].isEnabled() != possible or actions[id].reason != ("" if possible else reason):
                actions.allow(id, possible, reason)

    def _pause(self) -> None:
        job = self._running("train")
        if job is not None:
            job.resume() if job.control.paused else job.pause()

    def _stop(self) -> None:
        job = self._running(*STOP_ORDER)
        if job is not None:
            job.stop(save=True)

    def _stop_chat(self) -> None:
        job = self._running("chat")
        if job is not None:
            job.stop(save=True)

    # ---- help ----------------------------------------------------------------------------------------------------

    def _explain_field(self) -> None:
        widget = QApplication.focusWidget() or self._window.focusWidget()
        shown = widget
        while widget is not None and not (widget.whatsThis() or widget.toolTip()):
            widget = widget.parentWidget()
        if shown is None or widget is None:
            self._services.notify.info("Put the keyboard into a field first; F1 then explains it.")
            return
        where = shown.mapToGlobal(QPoint(0, shown.height()))
        QWhatsThis.showText(where, widget.whatsThis() or widget.toolTip(), shown)

    def _show_shortcuts(self) -> None:
        self._open(ShortcutsDialog(self._services.actions, self._window))

    def _show_about(self) -> None:
        self._open(AboutDialog(self._window))

    def _open_logs(self) -> None:
        QDesktopServices.openUrl(QUrl.fromLocalFile(str(self._services.settings.folders.logs)))

    @staticmethod
    def _open(dialog: QDialog) -> None:
        dialog.show() if not isinstance(dialog, QFileDialog) else dialog.open()
