"""Services as panels get them, in a folder of the test's own; a stand-in for the engine; panels made for the test."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from PySide6.QtCore import QCoreApplication, QEvent
from PySide6.QtWidgets import QApplication, QLineEdit, QVBoxLayout, QWidget
from pytestqt.qtbot import QtBot

from ui.app import make_services
from ui.panels import PANELS, Area, PanelPlace
from ui.services import Services
from ui.settings import Folders, Preferences, Settings
from workbench.core.control import Control
from workbench.core.events import Event, Phase, Progress


class FakeSession:
    """What the window itself asks of a session."""

    def __init__(self) -> None:
        self.compute = SimpleNamespace(label="CPU · float32 · 2 threads", reason="float32", dtype="torch.float32")
        self.model: object = None

    def load(self, model: object, control: Control) -> Generator[Event, None, object]:
        """Loads nothing."""
        yield Phase(word="Loading")
        return None


@pytest.fixture
def fake_session() -> FakeSession:
    """What `bus.engine_ready` brings."""
    return FakeSession()


@pytest.fixture
def services(qapp: QApplication, qtbot: QtBot, tmp_path: Path) -> Iterator[Services]:
    """Services without an engine. Whatever still runs at the end of the test is stopped and waited for."""
    settings = Settings(Folders.find(tmp_path / "home"))
    settings.value = Preferences(theme="light")
    made = make_services(qapp, settings)
    yield made
    made.jobs.shutdown(save=False)
    qtbot.waitUntil(lambda: not made.jobs.jobs, timeout=5000)
    made.theme.setParent(None)  # type: ignore[call-overload]
    made.theme.deleteLater()
    QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)


class Gate:
    """Work that runs until it is let through or stopped: the tests' stand-in for long work."""

    def __init__(self, word: str = "Training") -> None:
        self.through = threading.Event()
        self.begun = threading.Event()
        self.word = word

    def __call__(self, control: Control) -> Generator[Event, None, str]:
        yield Phase(word=self.word)
        yield Progress(message="steps", done=12, total=60, unit="steps")
        self.begun.set()
        while not control.stopping and not self.through.wait(0.005):
            control.wait_while_paused(every=0.005)
        return "stopped" if control.stopping else "through"


@pytest.fixture
def gate() -> Iterator[Callable[..., Gate]]:
    """Makes gates, and opens all of them at the end."""
    made: list[Gate] = []

    def make(word: str = "Training") -> Gate:
        made.append(Gate(word))
        return made[-1]

    yield make
    for one in made:
        one.through.set()


class FakePanel(QWidget):
    """A panel with one field."""

    def __init__(self, services: Services) -> None:
        super().__init__()
        self.services = services
        self.edit = QLineEdit()
        self.edit.setAccessibleName("A field")
        layout = QVBoxLayout(self)
        layout.addWidget(self.edit)


PLACES: dict[str, tuple[Area, int, bool]] = {
    "architecture": ("left", 10, True),
    "welcome": ("centre", 5, True),
    "chat": ("centre", 10, True),
    "studies": ("centre", 20, False),
    "finetune": ("right", 10, True),
    "monitor": ("bottom", 10, True),
    "log": ("bottom", 90, True),
}


@pytest.fixture
def fake_panels(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """`PANELS` holds small stand-ins at the real places; the real ones come back afterwards."""
    entries, places = dict(PANELS._entries), dict(PANELS._places)
    PANELS._entries.clear()
    PANELS._places.clear()
    for name, (area, order, shown) in PLACES.items():
        PANELS.register(
            name, label=name.capitalize(), help=f"Stands in for {name}.", place=PanelPlace(area, order, "panel", shown)
        )(FakePanel)  # fmt: skip
    monkeypatch.setattr("ui.panels.load", lambda: None)
    yield
    PANELS._entries.clear()
    PANELS._places.clear()
    PANELS._entries.update(entries)
    PANELS._places.update(places)
