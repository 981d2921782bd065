"""Small widgets: by mouse, by keyboard, to assistive tools; and nothing said that no person did."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from PySide6.QtCore import QPoint, Qt
from PySide6.QtGui import QAccessible, QColor
from PySide6.QtWidgets import QApplication, QCheckBox, QHBoxLayout, QLabel, QPushButton, QVBoxLayout, QWidget
from pytestqt.qtbot import QtBot

from ui.theme import DARK, LIGHT, Colours, Theme, contrast
from ui.widgets.button import Button
from ui.widgets.column import ScrollColumn
from ui.widgets.flow import FlowLayout
from ui.widgets.labels import ElidingLabel, MutedLabel
from ui.widgets.section import CollapsibleSection
from ui.widgets.segmented import SegmentedControl
from ui.widgets.slider import ValueSlider
from ui.widgets.toggle import TickBox, ToggleSwitch
from ui.widgets.tones import colours_of


@pytest.fixture
def theme(qapp: QApplication) -> Iterator[Theme]:
    made = Theme(qapp, "light")
    yield made
    made.set_mode("light")
    made.setParent(None)  # type: ignore[call-overload]
    made.deleteLater()


def shown(qtbot: QtBot, widget: QWidget, width: int = 200, height: int = 40) -> QWidget:
    """A window with the widget in it; kept by the caller."""
    host = QWidget()
    row = QHBoxLayout(host)
    row.setContentsMargins(0, 0, 0, 0)
    row.addWidget(widget)
    qtbot.addWidget(host)
    host.resize(width, height)
    with qtbot.waitActive(host):
        host.show()
    return host


@pytest.mark.parametrize("kind", [ToggleSwitch, TickBox])
def test_a_drawn_check_box_is_a_check_box(qtbot: QtBot, theme: Theme, kind: type[QCheckBox]) -> None:
    box = kind("On screen")
    host = shown(qtbot, box)
    assert host.isVisible()
    heard: list[bool] = []
    box.clicked.connect(lambda on: heard.append(on))
    qtbot.mouseClick(box, Qt.MouseButton.LeftButton, pos=QPoint(8, box.height() // 2))
    qtbot.keyClick(box, Qt.Key.Key_Space)
    box.setChecked(True)
    assert heard == [True, False]
    accessible = QAccessible.queryAccessibleInterface(box)
    assert accessible.role() == QAccessible.Role.CheckBox
    assert accessible.text(QAccessible.Text.Name) == "On screen"
    assert box.sizeHint().width() >= box.fontMetrics().horizontalAdvance(box.text())


@pytest.mark.parametrize(("mode", "colours"), [("light", LIGHT), ("dark", DARK)])
@pytest.mark.parametrize("kind", [ToggleSwitch, TickBox])
def test_a_box_can_be_seen_on_either_theme(qtbot: QtBot, theme: Theme, kind: type[QCheckBox], mode: str, colours: Colours) -> None:
    theme.set_mode(mode)  # type: ignore[arg-type]
    box = kind()
    host = shown(qtbot, box)
    pictures = []
    for state in (False, True):
        box.setChecked(state)
        picture = host.grab().toImage()
        seen = {QColor(picture.pixel(x, y)).name() for x in range(picture.width()) for y in range(picture.height())}
        assert max(contrast(c, colours.window) for c in seen) >= 3
        pictures.append(picture)
    assert pictures[0] != pictures[1]


def test_segments_are_chosen_by_mouse_and_arrow_keys(qtbot: QtBot, theme: Theme) -> None:
    control = SegmentedControl([(None, "Auto", ""), (1, "One", "The first."), (2, "Two", "The second.")])
    host = shown(qtbot, control)
    control.set_value(1)
    heard: list[object] = []
    control.chosen.connect(heard.append)
    assert control.value == 1
    control.focus_button().setFocus()
    qtbot.keyClick(control.focus_button(), Qt.Key.Key_Right)
    qtbot.mouseClick(control.buttons()[0], Qt.MouseButton.LeftButton)
    assert heard[-1] is None
    assert control.value is None
    control.set_value("unknown")
    assert not any(b.isChecked() for b in control.buttons())
    control.set_group_name("Count")
    assert [b.accessibleName() for b in control.buttons()] == ["Count: Auto", "Count: One", "Count: Two"]
    assert host.isVisible()


def test_a_section_folds_and_a_search_may_open_it_for_a_while(qtbot: QtBot, theme: Theme) -> None:
    section = CollapsibleSection("Part")
    inside = QLabel("inside")
    section.body_layout.addWidget(inside)
    host = shown(qtbot, section, height=200)
    heard: list[bool] = []
    section.toggled.connect(heard.append)
    qtbot.mouseClick(section.header, Qt.MouseButton.LeftButton)
    assert not inside.isVisible()
    section.set_forced(True)
    assert inside.isVisible()
    section.set_forced(False)
    assert not inside.isVisible()
    qtbot.keyClick(section.header, Qt.Key.Key_Space)
    assert inside.isVisible()
    assert heard == [False, True]
    section.set_badge("2 problems", problem=True)
    assert LIGHT.error in section.badge.styleSheet()
    theme.set_mode("dark")
    QApplication.processEvents()
    assert DARK.error in section.badge.styleSheet()
    assert QAccessible.queryAccessibleInterface(section.header).text(QAccessible.Text.Description) == "2 problems"
    assert host.isVisible()


def test_a_slider_says_its_value_and_only_a_person_moves_it_aloud(qtbot: QtBot, theme: Theme) -> None:
    slider = ValueSlider("Strength", 0.0, 1.5, 0.05, 1.0)
    host = shown(qtbot, slider)
    heard: list[float] = []
    slider.changed.connect(heard.append)
    assert slider.reading.text() == "1.00"
    slider.set_value(0.3)
    assert heard == []
    qtbot.keyClick(slider.slider, Qt.Key.Key_Right)
    assert heard == [0.35]
    assert slider.value == 0.35
    assert slider.reading.text() == "0.35"
    assert slider.slider.accessibleName() == "Strength"
    assert host.isVisible()


def test_a_label_gives_way_and_keeps_its_whole_text(qtbot: QtBot, theme: Theme) -> None:
    label = ElidingLabel("a rather long name of a model.gguf", mode=Qt.TextElideMode.ElideMiddle)
    host = shown(qtbot, label, width=80)
    assert "…" in label.text()
    assert label.full_text == "a rather long name of a model.gguf"
    assert label.toolTip() == label.full_text
    assert QAccessible.queryAccessibleInterface(label).text(QAccessible.Text.Name) == label.full_text
    host.resize(400, 40)
    assert label.text() == label.full_text
    assert label.toolTip() == ""


def test_muted_text_and_tones_follow_the_theme(qtbot: QtBot, theme: Theme) -> None:
    label = MutedLabel("quiet")
    host = shown(qtbot, label)
    assert colours_of(host) is LIGHT
    assert label.palette().color(label.foregroundRole()).name() == LIGHT.muted
    theme.set_mode("dark")
    QApplication.processEvents()
    assert colours_of(label) is DARK
    assert label.palette().color(label.foregroundRole()).name() == DARK.muted


def test_a_button_that_is_no_longer_primary_has_the_colours_of_the_others(qtbot: QtBot, theme: Theme) -> None:
    button, other = Button("Start", "Starts.", primary=True), Button("Other", "Another.")
    hosts = [shown(qtbot, button), shown(qtbot, other)]
    for mode in ("dark", "light"):  # a switch meanwhile used to leave the sheet's colours behind
        theme.set_mode(mode)
        QApplication.processEvents()
    button.set_primary(False)
    assert button.palette().color(button.foregroundRole()) == other.palette().color(other.foregroundRole())
    assert button.palette().button() == other.palette().button()
    assert len(hosts) == 2


def test_a_flow_wraps_and_hidden_widgets_take_no_room(qtbot: QtBot) -> None:
    host = QWidget()
    flow = FlowLayout(host, spacing=8)
    buttons = [QPushButton(f"button {i}") for i in range(4)]
    for button in buttons:
        flow.addWidget(button)
    qtbot.addWidget(host)
    width = buttons[0].sizeHint().width()
    one_line = flow.heightForWidth(4 * width + 100)
    assert flow.heightForWidth(2 * width + 10) > one_line
    host.resize(2 * width + 10, 200)
    host.show()
    assert buttons[2].y() > buttons[0].y()
    buttons[1].hide()
    buttons[3].hide()
    QApplication.processEvents()
    assert buttons[2].y() == buttons[0].y()
    assert flow.takeAt(0) is not None
    assert flow.itemAt(9) is None
    assert flow.count() == 3


def test_a_scrolling_column_is_never_narrower_than_its_content(qtbot: QtBot) -> None:
    content = QWidget()
    rows = QVBoxLayout(content)
    rows.addWidget(QPushButton("short"))
    column = ScrollColumn(content)
    qtbot.addWidget(column)
    column.show()
    before = column.minimumSizeHint().width()
    wide = QPushButton("a label that needs much more room than the first one did")
    rows.addWidget(wide)
    qtbot.waitUntil(lambda: column.minimumSizeHint().width() >= wide.minimumSizeHint().width() > before)
    assert column.minimumSizeHint().height() < 200
