"""The composition root: what is made in which order, and how the program ends."""

from __future__ import annotations

import linecache
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Generator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from PySide6.QtCore import QObject, QSocketNotifier, QTimer, Slot
from PySide6.QtWidgets import QApplication

import workbench
from ui import icons
from ui.actions import ActionRegistry
from ui.commands import Commands
from ui.crash import LAST, LOG_FILE, CrashGuard, log_to_file
from ui.export import ExportCommand
from ui.garbage import Collector
from ui.jobs.runner import JobRunner
from ui.jobs.worker import JobFailure
from ui.models import ModelController
from ui.notify import FILE, Hooks, LogHandler, Notifier
from ui.services import AppBus, Services
from ui.settings import Folders, Settings
from ui.theme import Theme
from ui.window import FIRST_SIZE, TITLE, Window
from workbench.core.control import Control
from workbench.core.errors import WorkbenchError
from workbench.core.events import Event, Phase, Progress

DESKTOP_FILE: Final = "llm-workbench"
SWITCH_INTERVAL_S: Final = 0.001
"""Python hands the interpreter over this often: the GUI waits at most that long for a worker's Python code."""
FORGET_MS: Final = 40
LAST_WAIT_S: Final = 5.0
SETTLE_MS: Final = 400
"""Before a screenshot, so that panels have drawn what the engine told them."""

MakeSession = Callable[[Settings], Any]


@dataclass(frozen=True)
class Launch:
    """What the command line asked for."""

    home: Path | None = None
    screenshot: Path | None = None
    model: Path | None = None
    theme: str | None = None


def engine_session(settings: Settings) -> Any:
    """Import the engine and make its session. On a worker's thread: this takes seconds."""
    from workbench.session import Session

    wanted = settings.value
    return Session(home=settings.folders.home, device=wanted.device, dtype=wanted.dtype, threads=wanted.threads)


def prepare_training(control: Control) -> Generator[Event, None, None]:
    """What the first run would otherwise wait for. Not before a model is there: it takes 70 MiB."""
    from workbench.devices import warm_up

    yield Phase(word="Loading")
    warm_up()


def load_engine(make_session: MakeSession, settings: Settings, control: Control) -> Generator[Event, None, Any]:
    """The engine as a job like any other; an import cannot be stopped half-way."""
    yield Phase(word="Loading")
    yield Progress(message="importing torch")
    try:
        return make_session(settings)
    except WorkbenchError:
        raise
    except Exception as error:
        raise WorkbenchError(
            f"It could not be loaded ({type(error).__name__}: {error}).",
            hint="“python -m workbench doctor” says what is missing; nothing can be computed until then.",
        ) from error


def make_services(app: QApplication, settings: Settings) -> Services:
    """Everything panels need but the session, wired to each other."""
    mode: Any = settings.value.theme
    bus, theme = AppBus(), Theme(app, mode, settings.value.font_scale)
    notify = Notifier(settings.value.log_lines)
    bus.events.connect(notify.follow)
    bus.job_finished.connect(notify.on_job_finished)
    services = Services(bus, JobRunner(bus), settings, notify, theme, ActionRegistry(theme))
    services.models = ModelController(services)
    return services


class Program(QObject):
    """Owns everything of one running window. `start` shows it; `closed` of the window ends it."""

    def __init__(self, app: QApplication, launch: Launch, make_session: MakeSession = engine_session) -> None:
        super().__init__()
        self._app = app
        self._launch = launch
        self._make_session = make_session
        self.exit_code = 0
        # PySide reads the source of every module imported after it, and Python keeps the lines: 90 MiB for torch.
        self._forget_sources = QTimer(self, interval=FORGET_MS)
        self._forget_sources.timeout.connect(linecache.clearcache)
        settings = Settings(Folders.find(launch.home))
        self.services = make_services(app, settings)
        self.window = Window(self.services)
        self.commands = Commands(self.window, self.services)
        self.exporting = ExportCommand(self.window, self.services)
        if launch.theme:
            mode: Any = launch.theme
            self.services.theme.set_mode(mode)
        self.window.painted.connect(self._after_first_paint)
        if launch.screenshot is not None:
            self.window.resize(FIRST_SIZE)  # whatever this screen's size is
            self._take_pictures_when_ready()

    def start(self) -> None:
        """Show the window; everything slow comes behind its first paint."""
        self.window.show()
        if self.services.settings.problem is not None:
            self.services.notify.exception(self.services.settings.problem, source="settings")

    @Slot()
    def _after_first_paint(self) -> None:
        self.window.build_panels()
        QTimer.singleShot(0, self._start_engine)

    @Slot()
    def _start_engine(self) -> None:
        self._forget_sources.start()
        self.services.jobs.start(
            "The engine",
            partial(load_engine, self._make_session, self.services.settings),
            "background",
            on_done=self._on_engine,
            on_failed=self._on_engine_failed,
            on_finished=self._forget_sources.stop,
        )

    def _on_engine(self, session: Any) -> None:
        self.services.session = session
        self.services.bus.model_changed.connect(self._on_first_model)
        self.services.bus.engine_ready.emit(session)
        if self._launch.model is not None:
            self.services.bus.open_model.emit(self._launch.model)

    @Slot(object)
    def _on_first_model(self, model: object) -> None:
        if model is None:
            return
        self.services.bus.model_changed.disconnect(self._on_first_model)
        self._forget_sources.start()
        self.services.jobs.start("Preparing for training", prepare_training, "background", on_finished=self._forget_sources.stop)

    def _on_engine_failed(self, failure: JobFailure) -> None:
        self.exit_code = 1
        self.services.bus.engine_failed.emit(failure)

    # ---- pictures ------------------------------------------------------------------------------------------------

    def _take_pictures_when_ready(self) -> None:
        bus = self.services.bus
        (bus.model_changed if self._launch.model is not None else bus.engine_ready).connect(self._take_pictures_soon)
        bus.engine_failed.connect(self._take_pictures_soon)

    @Slot(object)
    def _take_pictures_soon(self, news: object) -> None:
        QTimer.singleShot(SETTLE_MS, self._take_light)

    @Slot()
    def _take_light(self) -> None:
        self._take("light")
        QTimer.singleShot(SETTLE_MS, self._take_dark)

    @Slot()
    def _take_dark(self) -> None:
        self._take("dark")
        self.window.closing.without_asking()
        self.window.close()

    def _take(self, mode: Any) -> None:
        assert self._launch.screenshot is not None
        self.services.theme.set_mode(mode)
        self._launch.screenshot.mkdir(parents=True, exist_ok=True)
        path = self._launch.screenshot / f"window-{mode}.png"
        if not self.window.grab().save(str(path)):
            self.exit_code = 1
            self.services.notify.error(f"{path} could not be written.", "Choose another folder.")


class Signals(QObject):
    """SIGINT and SIGTERM close the window as a person would, without the question; a second one kills the program."""

    def __init__(self, window: Window) -> None:
        super().__init__(window)
        self._window = window
        self._read, self._write = socket.socketpair()
        for end in (self._read, self._write):
            end.setblocking(False)
        self._fd_before = signal.set_wakeup_fd(self._write.fileno())
        self._notifier = QSocketNotifier(self._read.fileno(), QSocketNotifier.Type.Read, self)
        self._notifier.activated.connect(self._on_signal)
        self._before = {s: signal.signal(s, self._noted) for s in (signal.SIGINT, signal.SIGTERM)}

    @staticmethod
    def _noted(number: int, frame: Any) -> None:
        """The byte in the socket wakes the event loop; nothing may be done here."""

    @Slot()
    def _on_signal(self) -> None:
        self._read.recv(64)
        for number in self._before:
            signal.signal(number, signal.SIG_DFL)
        self._window.closing.without_asking()
        self._window.close()

    def close(self) -> None:
        self._notifier.setEnabled(False)
        signal.set_wakeup_fd(self._fd_before)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._read.close()
        self._write.close()


def make_application() -> QApplication:
    """The one `QApplication`, named for the desktop."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch: spinning threads would starve the window
    app = QApplication(sys.argv[:1])
    app.setApplicationName("llm-workbench")
    app.setApplicationDisplayName(TITLE)
    app.setApplicationVersion(workbench.__version__)
    app.setDesktopFileName(DESKTOP_FILE)
    app.setWindowIcon(icons.app_icon())
    app.setQuitOnLastWindowClosed(False)
    return app


def run(launch: Launch, make_session: MakeSession = engine_session) -> int:
    """Open the window and stay until it is closed. Returns the exit status."""
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    app = make_application()
    folders = Folders.find(launch.home)
    guard = CrashGuard(folders.logs)
    root = logging.getLogger()
    root.setLevel(logging.INFO)
    file_handler = log_to_file(folders.logs)
    for logger in (root, FILE):
        logger.addHandler(file_handler)
    program = Program(app, launch, make_session)
    notify = program.services.notify
    hooks = Hooks(notify)
    handler = LogHandler(notify)
    root.addHandler(handler)
    collector = Collector()
    signals = Signals(program.window)
    program.services.bus.engine_ready.connect(collector.settle)
    program.window.closed.connect(app.quit)
    if guard.found is not None:
        notify.warning(
            "The program ended unexpectedly last time.",
            f"If memory was short, use a smaller model or batch. The trace is kept as {folders.logs / LAST}.",
            guard.found or f"There is no trace: the system may have stopped the program. Its last lines are in {folders.logs / LOG_FILE}.",
        )
    program.start()
    app.exec()
    ended = program.services.jobs.wait_blocking(LAST_WAIT_S)
    signals.close()
    collector.close()
    root.removeHandler(handler)
    hooks.remove()
    guard.close()
    if not ended:  # destroying a QThread that runs aborts the process; leave without destroying anything
        logging.shutdown()
        os._exit(1)
    for logger in (root, FILE):
        logger.removeHandler(file_handler)
    file_handler.close()
    return program.exit_code
