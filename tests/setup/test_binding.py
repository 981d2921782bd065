"""The installed Qt binding: the version trap of 6.12.0, and a window on the platform plugin that was asked for."""

from __future__ import annotations

import os
import sys

import pytest
from PySide6.QtCore import QObject
from PySide6.QtGui import QColor, QGuiApplication, QPalette
from PySide6.QtWidgets import QWidget
from pytestqt.qtbot import QtBot


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="None is immortal from Python 3.12 on, so nothing can be lost")
def test_the_binding_does_not_lose_none(qtbot: QtBot) -> None:
    """PySide6 6.12.0 gives away one reference to None with every void call (PYSIDE-3474), until Python aborts."""
    thing = QObject()
    before = sys.getrefcount(None)
    for _ in range(1000):
        thing.setObjectName("x")
    assert before - sys.getrefcount(None) < 500


@pytest.mark.xvfb
def test_a_window_is_painted_by_the_plugin_that_was_asked_for(qtbot: QtBot) -> None:
    assert QGuiApplication.platformName() == os.environ["QT_QPA_PLATFORM"].split(":")[0]
    window = QWidget()
    qtbot.addWidget(window)
    palette = window.palette()
    palette.setColor(QPalette.ColorRole.Window, QColor(10, 120, 200))
    window.setPalette(palette)
    window.resize(200, 100)
    with qtbot.waitExposed(window):
        window.show()
    assert window.grab().toImage().pixelColor(50, 50) == QColor(10, 120, 200)
