"""What holds for every panel of the window: it is placed, explained, built from services alone, and named for everyone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from PySide6.QtGui import QAccessible
from PySide6.QtWidgets import (
    QAbstractButton,
    QAbstractItemView,
    QAbstractSlider,
    QAbstractSpinBox,
    QApplication,
    QComboBox,
    QLineEdit,
    QPlainTextEdit,
    QTabBar,
    QTextEdit,
    QWidget,
)
from pytestqt.qtbot import QtBot

from ui import icons, panels
from ui.app import make_services
from ui.panels import AREAS, PANELS
from ui.services import Services
from ui.settings import Folders, Settings
from ui.window import LEAST_SIZE

panels.load()
NAMED = (QAbstractButton, QLineEdit, QAbstractSpinBox, QComboBox, QAbstractSlider, QTextEdit, QPlainTextEdit, QAbstractItemView, QTabBar)


@pytest.fixture(params=PANELS.names())
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def services(qapp: QApplication, qtbot: QtBot, tmp_path: Path) -> Iterator[Services]:
    made = make_services(qapp, Settings(Folders.find(tmp_path)))
    yield made
    made.jobs.shutdown(save=False)
    qtbot.waitUntil(lambda: not made.jobs.jobs, timeout=5000)
    made.theme.setParent(None)  # type: ignore[call-overload]


@pytest.fixture
def panel(name: str, services: Services, qtbot: QtBot) -> QWidget:
    made = PANELS[name].make(services)
    qtbot.addWidget(made)
    return made


def test_it_is_placed_and_explained(name: str) -> None:
    entry, place = PANELS[name], PANELS.place(name)
    assert place.area in AREAS
    assert place.icon in icons.names()
    assert entry.label[0].isupper()
    assert entry.help.endswith(".")


def test_no_two_panels_share_a_place() -> None:
    places = [(PANELS.place(n).area, PANELS.place(n).order) for n in PANELS.names()]
    assert len(set(places)) == len(places)


def test_everything_in_it_that_takes_the_keyboard_has_a_name(panel: QWidget) -> None:
    nameless = [
        f"{type(w).__name__} {w.objectName()}"
        for w in panel.findChildren(QWidget)
        if isinstance(w, NAMED)
        and w.focusPolicy().value
        and not w.objectName().startswith("qt_")
        and w.parent().metaObject().className() != "QComboBoxPrivateContainer"
        and not QAccessible.queryAccessibleInterface(w).text(QAccessible.Text.Name)
    ]
    assert nameless == []


def test_it_leaves_room_for_the_others(panel: QWidget, name: str) -> None:
    area = PANELS.place(name).area
    least = panel.minimumSizeHint()
    widest = {"left": 0.4, "right": 0.4, "centre": 0.6, "bottom": 1.0}[area] * LEAST_SIZE.width()
    highest = {"bottom": 0.45}.get(area, 0.75) * LEAST_SIZE.height()
    assert least.width() <= widest
    assert least.height() <= highest


def test_it_follows_a_change_of_theme_and_of_text_size(panel: QWidget, services: Services, qtbot: QtBot) -> None:
    panel.resize(800, 500)
    with qtbot.waitExposed(panel):
        panel.show()
    services.theme.set_mode("light")
    light = panel.grab().toImage()
    services.theme.set_mode("dark")
    dark = panel.grab().toImage()
    corner = (light.width() - 3, light.height() - 3)
    assert light.pixelColor(*corner).lightness() > dark.pixelColor(*corner).lightness()
    services.theme.set_font_scale(1.5)
    assert panel.font().pointSizeF() == pytest.approx(QApplication.font().pointSizeF())
    services.theme.set_font_scale(1.0)
