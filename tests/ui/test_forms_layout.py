"""Forms: the order of Tab, what folds, what the search leaves, nothing clipped, nothing left behind."""

from __future__ import annotations

import pytest
from PySide6.QtCore import QPoint, Qt
from PySide6.QtWidgets import QApplication, QScrollArea, QVBoxLayout, QWidget
from pytestqt.qtbot import QtBot

from tests.ui.form_fakes import KINDS, Demo, MakeForm, heard, make_form, pick_kind, theme, type_into
from ui.forms import ConfigForm
from ui.theme import DARK, LIGHT, Theme
from workbench.core.fields import describe

__all__ = ["heard", "make_form", "theme"]  # fixtures


def test_tab_goes_through_the_fields_as_they_stand(make_form: MakeForm, qtbot: QtBot) -> None:
    form = make_form(searchable=True)
    pick_kind(form, "codec", "exact")
    pick_kind(form, "codec", "packed")  # what was made last must not be reached last
    for section in form._inner.values():
        section.set_expanded(True)
    form.search.setFocus()
    reached: list[QWidget] = []
    for _ in range(200):
        qtbot.keyClick(QApplication.focusWidget(), Qt.Key.Key_Tab)
        widget = QApplication.focusWidget()
        if widget is form.search:
            break
        reached.append(widget)
    tops = [w.mapTo(form, w.rect().center()).y() for w in reached]
    assert tops == sorted(tops)
    assert {form.editor(n).stops()[0] for n in form.rows} - set(reached) <= {form.editor("steps").stops()[1]}
    assert form.editor("codec.bits").stops()[0] in reached


def test_advanced_fields_wait_behind_their_header(make_form: MakeForm, qtbot: QtBot) -> None:
    form = make_form(value=Demo(clip=None))
    assert not form.editor("clip").isVisible()
    inner = form._inner["Training"]
    assert inner.badge.text() == "1 changed"
    qtbot.keyClick(inner.header, Qt.Key.Key_Space)
    assert form.editor("clip").isVisible()
    assert inner.header.accessibleName() == "Training: advanced settings"


def test_focus_opens_what_is_folded_and_scrolls_there(make_form: MakeForm) -> None:
    form = make_form()
    form.sections["Training"].set_expanded(False)
    form.focus_field("clip")
    assert form.editor("clip").isVisible()
    assert form.focused_row() is form.rows["clip"]


def test_the_filter_finds_labels_keys_help_and_options(make_form: MakeForm, qtbot: QtBot) -> None:
    form = make_form(searchable=True)

    def found(text: str) -> list[str]:
        form.search.setText(text)
        return [n for n, row in form.rows.items() if row.isVisible()]

    assert found("lora_alpha") == ["alpha"]
    assert found("norm") == ["clip"], "folded parts open"
    assert found("inverse") == ["schedule", "target"]
    assert found("bits") == ["codec"]
    assert form.editor("codec.bits").isVisible()
    assert not form.editor("codec.rotate").isVisible()
    assert found("nobody yet") == ["codec"], "who uses a kind is searched too"
    form.editor("codec").set_value(KINDS.choose("exact"))
    assert found("rotation") == ["codec"], "options of kinds that are not chosen count"
    form.editor("codec").set_value(KINDS.choose("packed"))
    assert found("no such thing") == []
    assert form.nothing.isVisible()
    assert not form.sections["Output"].isVisible()
    assert len(found("")) == len(form.rows) - 2
    assert not form.nothing.isVisible()
    assert form.editor("codec.rotate").isVisible()
    assert not form._inner["Training"].expanded


def test_groups_and_exclusions_choose_what_is_shown(make_form: MakeForm) -> None:
    form = make_form(groups=("Output", "Adapter"), exclude=("note",))
    assert list(form.sections) == ["Output", "Adapter"]
    assert next(iter(form.rows)) == "bias"
    assert "note" not in form.rows
    assert "rate" not in form.rows
    alone = make_form(groups=("Adapter",))
    assert alone.sections == {}
    assert make_form(compact=True).sections == {}


@pytest.mark.parametrize("scale", [1.0, 1.25])
@pytest.mark.parametrize("mode", ["light", "dark"])
def test_nothing_is_clipped_or_out_of_line_in_a_narrow_dock(make_form: MakeForm, theme: Theme, scale: float, mode: str) -> None:
    theme.set_font_scale(scale)
    theme.set_mode(mode)  # type: ignore[arg-type]
    form = make_form()
    for section in (*form.sections.values(), *form._inner.values()):
        section.set_expanded(True)
    QApplication.processEvents()
    assert form.width() <= 320
    edges = set()
    for row in form.rows.values():
        editor = row.editor
        assert editor.width() >= editor.minimumSizeHint().width(), row.name
        assert row.label.height() >= row.label.heightForWidth(row.label.width()), row.name
        assert editor.mapTo(form, QPoint(editor.width(), 0)).x() <= form.width()
        edges.add(editor.mapTo(form, QPoint(0, 0)).x())
    edges.add(form.editor("codec.bits").mapTo(form, QPoint(0, 0)).x())
    assert max(edges) - min(edges) <= 1, "all editors begin on one line, options of kinds included"
    assert not form.findChildren(QScrollArea)
    theme.set_font_scale(1.0)


def test_a_theme_switch_recolours_marks_and_boxes(make_form: MakeForm, theme: Theme, qtbot: QtBot) -> None:
    form = make_form()
    type_into(qtbot, form.editor("dropout").box, "0.9")  # type: ignore[attr-defined]
    assert LIGHT.error_surface in form.callout.styleSheet()
    theme.set_mode("dark")
    QApplication.processEvents()
    assert DARK.error_surface in form.callout.styleSheet()
    pixel = form.callout.grab().toImage().pixelColor(form.callout.width() // 2, 3)
    assert pixel.name() == DARK.error_surface


def test_forms_leave_nothing_behind(make_form: MakeForm, qtbot: QtBot) -> None:
    host = QWidget()
    qtbot.addWidget(host)
    layout = QVBoxLayout(host)

    def once() -> int:
        form = ConfigForm(Demo)
        layout.addWidget(form)
        pick_kind(form, "codec", "exact")
        layout.removeWidget(form)
        form.setParent(None)  # type: ignore[call-overload]
        form.deleteLater()
        QApplication.sendPostedEvents(None, 52)  # DeferredDelete
        return len(QApplication.allWidgets())

    first = once()
    assert [once() for _ in range(3)] == [first] * 3


def test_every_config_of_the_engine_has_a_form(make_form: MakeForm) -> None:
    """Fields are described in many rooms; each must be editable as it is described."""
    from workbench.adapters.config import LoraConfig
    from workbench.caches.config import CacheConfig
    from workbench.generation.config import GenerationConfig
    from workbench.model import ModelConfig
    from workbench.training.config import TrainConfig

    for config_type in (ModelConfig, LoraConfig, TrainConfig, GenerationConfig, CacheConfig):
        form = make_form(config_type)
        assert form.value == config_type()
        assert set(form.rows) == {i.name for i in describe(config_type)}
