"""Forms: resets, marks, notes, menus, help, and names for assistive tools."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from PySide6.QtCore import Qt
from PySide6.QtGui import QAccessible, QGuiApplication
from PySide6.QtWidgets import QAbstractButton, QAbstractSpinBox, QComboBox, QLineEdit
from pytestqt.qtbot import QtBot

from tests.ui.form_fakes import KINDS, Demo, MakeForm, heard, make_form, pick_kind, theme
from ui.forms.editors import Editor
from ui.forms.menu import field_menu

__all__ = ["heard", "make_form", "theme"]  # fixtures


def test_a_field_and_a_form_go_back_to_their_defaults(make_form: MakeForm, qtbot: QtBot, heard: list[Any]) -> None:
    form = make_form(value=Demo(rank=4, alpha=99, steps=5, codec=KINDS.choose("exact")), exclude=("name",))
    assert form.rows["rank"].mark.kind == "changed"
    form.changed.connect(heard.append)
    menu = field_menu(form, form.rows["rank"])
    reset = menu.actions()[0]
    assert reset.text() == "Reset to default (8)"
    reset.trigger()
    assert form.value.rank == 8
    assert form.rows["rank"].mark.kind == ""
    assert not field_menu(form, form.rows["rank"]).actions()[0].isEnabled()
    form.reset()
    assert form.value == Demo()
    assert form.editor("rank").value() == 8
    assert len(heard) == 2
    form.reset()
    assert len(heard) == 2


def test_resetting_keeps_what_the_form_does_not_show(make_form: MakeForm) -> None:
    form = make_form(value=Demo(name="mine", rank=4), exclude=("name",))
    form.reset()
    assert form.value == Demo(name="mine")


def test_the_menu_copies_the_key(make_form: MakeForm) -> None:
    form = make_form()
    copy = field_menu(form, form.rows["alpha"]).actions()[-1]
    copy.trigger()
    assert QGuiApplication.clipboard().text() == "lora_alpha"


def test_a_field_that_may_not_be_changed_says_why(make_form: MakeForm) -> None:
    form = make_form()
    form.set_field_state("rank", False, "A run is going on.")
    assert not form.editor("rank").isEnabled()
    assert "A run is going on." in form.rows["rank"].toolTip()
    form.set_field_state("codec.bits", False, "Fixed by the model.")
    pick_kind(form, "codec", "exact")
    pick_kind(form, "codec", "packed")
    assert not form.editor("codec.bits").isEnabled()
    form.set_field_state("rank", True)
    assert form.editor("rank").isEnabled()
    assert "A run" not in form.rows["rank"].toolTip()


def test_the_tooltip_tells_the_whole_story(make_form: MakeForm) -> None:
    form = make_form()
    tip = form.rows["rank"].toolTip()
    for part in ("Rank", "Inner width.", "<code>r</code>", "1 to 512", "Default", "8"):
        assert part in tip
    tip = form.rows["codec"].toolTip()
    for part in ("Packed", "Compresses.", "arXiv:2504.19874", "x ≈ Πᵀ q(Πx)", "nobody yet"):
        assert part in tip
    pick_kind(form, "codec", "exact")
    assert "Stores what was computed." in form.rows["codec"].toolTip()
    assert "by epochs" in form.rows["steps"].toolTip()
    assert "steps" in form.rows["steps"].toolTip()


@pytest.mark.parametrize("how", ["F1", "label"])
def test_help_is_asked_for_by_f1_and_by_the_label(make_form: MakeForm, qtbot: QtBot, how: str) -> None:
    form = make_form()
    asked: list[str] = []
    form.explained.connect(lambda row: asked.append(row.path))
    if how == "F1":
        form.focus_field("codec.bits")
        qtbot.keyClick(form.editor("codec.bits").stops()[0], Qt.Key.Key_F1)
    else:
        row = form.row("codec.bits")
        assert row is not None
        qtbot.mouseClick(row.label, Qt.MouseButton.LeftButton)
        assert form.focused_row() is row
    assert asked == ["codec.bits"]


def test_without_anyone_to_explain_the_help_is_shown_over_the_form(
    make_form: MakeForm, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr("ui.forms.form.QWhatsThis.showText", lambda where, text, widget: told.append(text))
    form = make_form()
    form.focus_field("rate")
    qtbot.keyClick(form.editor("rate").stops()[0], Qt.Key.Key_F1)
    assert len(told) == 1
    assert "Step size." in told[0]


def test_the_mark_of_a_changed_field_resets_it(make_form: MakeForm, qtbot: QtBot, heard: list[Any]) -> None:
    form = make_form()
    form.changed.connect(heard.append)
    form.set_value(dataclasses.replace(form.value, rank=64))
    mark = form.rows["rank"].mark
    assert mark.kind == "changed"
    qtbot.mouseClick(mark, Qt.MouseButton.LeftButton)
    assert form.value.rank == 8
    assert len(heard) == 1
    qtbot.mouseClick(mark, Qt.MouseButton.LeftButton)
    assert len(heard) == 1


def test_options_are_changed_against_those_of_the_baseline(make_form: MakeForm) -> None:
    form = make_form()
    base = dataclasses.replace(Demo(), codec=KINDS.choose("packed", bits=5))
    form.set_baseline(base)
    row = form.row("codec.bits")
    assert row is not None
    assert row.mark.kind == "changed", "3 is the default, but not what it was"
    form.set_value(base)
    assert row.mark.kind == ""


def test_a_note_says_what_a_value_means(make_form: MakeForm) -> None:
    form = make_form()
    row = form.rows["rank"]
    row.set_note("")
    assert row.note is None, "no widget for nothing"
    row.set_note("Keeps the model.", "check", "good")
    assert row.note is not None
    assert row.note.isVisible()
    assert row.note.accessibleName() == "Keeps the model."
    assert row.note.icon.isVisible(), "not by colour alone"
    row.set_note("")
    assert not row.note.isVisible()


def test_a_config_can_be_taken_as_if_it_were_entered(make_form: MakeForm, heard: list[Any]) -> None:
    form = make_form()
    form.changed.connect(heard.append)
    form.take(dataclasses.replace(form.value, rank=4))
    form.take(form.value)
    assert [c.rank for c in heard] == [4]


def test_an_editor_must_say_what_it_shows() -> None:
    with pytest.raises(TypeError, match=r"Half must say value, stops"):
        type("Half", (Editor,), {"set_value": lambda self, value: None})


def test_every_widget_that_takes_the_focus_has_a_name(make_form: MakeForm) -> None:
    form = make_form(searchable=True)
    seen = 0
    for kind in (QAbstractButton, QLineEdit, QAbstractSpinBox, QComboBox):
        for widget in form.findChildren(kind):
            if widget.focusPolicy() != Qt.FocusPolicy.NoFocus and not widget.objectName().startswith("qt_"):
                assert QAccessible.queryAccessibleInterface(widget).text(QAccessible.Text.Name), widget
                seen += 1
    assert seen > 25
    name = QAccessible.queryAccessibleInterface(form.editor("steps").stops()[0]).text(QAccessible.Text.Name)
    assert name == "Set Steps by hand"
