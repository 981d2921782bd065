"""Forms: every kind of field there and back, problems at their field, and nothing said that no person did."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import pytest
from PySide6.QtCore import QPoint, QPointF, Qt
from PySide6.QtGui import QAccessible, QWheelEvent
from PySide6.QtWidgets import QApplication, QWidget
from pytestqt.qtbot import QtBot

from tests.ui.form_fakes import KINDS, Demo, MakeForm, Packed, heard, make_form, pick_kind, theme, type_into
from ui.forms.editors import LineEditor, NumberEditor, OptionalNumberEditor, PickEditor, ToggleEditor
from workbench.core.errors import ConfigError
from workbench.core.fields import Problem, setting

# ---- there and back ----------------------------------------------------------------------------------------------

__all__ = ["heard", "make_form", "theme"]  # fixtures


def test_the_form_shows_the_config_and_gives_it_back(make_form: MakeForm) -> None:
    shown = Demo(
        rank=64, alpha=2**70, dropout=0.1, codec=KINDS.choose("packed", bits=4, seed=7), rate=3.3e-7, steps=10**12, clip=None,
        schedule="linear", dtype="bf16", target="cosine", bias=True, merge=False, name="x, y", note="hello",
        stop=("###", "\n\n", "a,b", " c"), sizes=(3,), seed=1,
    )  # fmt: skip
    form = make_form(value=shown)
    assert form.value == shown
    assert form.value is shown
    form.set_value(Demo())
    assert form.value == Demo()


@pytest.mark.parametrize(
    ("field", "text", "value"),
    [
        ("rank", "64", 64),
        ("rank", "1_0", 10),
        ("alpha", "1e3", 1000),
        ("alpha", "1,000", 1000),
        ("seed", str(2**63 + 1), 2**63 + 1),
        ("dropout", "0.25", 0.25),
        ("dropout", "0,25", 0.25),
        ("rate", "2e-5", 2e-5),
        ("rate", "1", 1.0),
        ("name", "a name", "a name"),
        ("note", "text", "text"),
        ("stop", "###, \\n\\n ,a\\,b", ("###", "\n\n", "a,b")),
        ("sizes", "4, 5", (4, 5)),
    ],
)
def test_what_is_typed_becomes_the_value(make_form: MakeForm, qtbot: QtBot, heard: list[Any], field: str, text: str, value: Any) -> None:
    form = make_form()
    form.changed.connect(heard.append)
    editor = form.editor(field)
    line = editor.box if isinstance(editor, NumberEditor) else editor.line if isinstance(editor, LineEditor) else None
    assert line is not None
    type_into(qtbot, line, text)
    assert getattr(form.value, field) == value
    assert type(getattr(form.value, field)) is type(value)
    assert heard == [dataclasses.replace(Demo(), **{field: value})]


def test_typing_is_taken_over_after_a_pause_and_by_reading_the_value(make_form: MakeForm, qtbot: QtBot, heard: list[Any]) -> None:
    form = make_form()
    form.changed.connect(heard.append)
    box = form.editor("rank").box  # type: ignore[attr-defined]
    box.setFocus()
    box.selectAll()
    qtbot.keyClicks(box, "32")
    assert heard == [], "not with every letter"
    with qtbot.waitSignal(form.changed, timeout=3000):
        pass
    assert [c.rank for c in heard] == [32]
    qtbot.keyClicks(box, "0")
    assert form.value.rank == 320, "a shortcut may start the run before the pause is over"
    assert [c.rank for c in heard] == [32, 320]


def test_a_switch_a_segment_and_a_drop_down_change_the_value(make_form: MakeForm, qtbot: QtBot, heard: list[Any]) -> None:
    form = make_form()
    form.changed.connect(heard.append)
    bias, dtype, schedule = form.editor("bias"), form.editor("dtype"), form.editor("schedule")
    assert isinstance(bias, ToggleEditor)
    qtbot.keyClick(bias.switch, Qt.Key.Key_Space)
    assert isinstance(dtype, PickEditor)
    assert dtype.segments is not None
    qtbot.mouseClick(dtype.segments.buttons()[1], Qt.MouseButton.LeftButton)
    assert isinstance(schedule, PickEditor)
    assert schedule.combo is not None
    qtbot.keyClick(schedule.combo, Qt.Key.Key_Down)
    assert [(c.bias, c.dtype, c.schedule) for c in heard] == [
        (True, "auto", "cosine"), (True, "bf16", "cosine"), (True, "bf16", "constant")
    ]  # fmt: skip


def test_none_is_said_in_the_fields_own_words_and_taken_back(make_form: MakeForm, qtbot: QtBot) -> None:
    form = make_form()
    steps = form.editor("steps")
    assert isinstance(steps, OptionalNumberEditor)
    assert steps.box.text() == "by epochs"
    assert not steps.box.isEnabled()
    qtbot.keyClick(steps.by_hand, Qt.Key.Key_Space)
    assert form.value.steps == 1, "begins at the least"
    type_into(qtbot, steps.box, "300")
    assert form.value.steps == 300
    qtbot.keyClick(steps.by_hand, Qt.Key.Key_Space)
    assert form.value.steps is None
    qtbot.keyClick(steps.by_hand, Qt.Key.Key_Space)
    assert form.value.steps == 300, "the number is remembered"
    merge, note = form.editor("merge"), form.editor("note")
    assert isinstance(merge, PickEditor)
    assert merge.segments is not None
    assert [b.text() for b in merge.segments.buttons()] == ["Auto", "On", "Off"]
    qtbot.mouseClick(merge.segments.buttons()[2], Qt.MouseButton.LeftButton)
    assert form.value.merge is False
    assert isinstance(note, LineEditor)
    type_into(qtbot, note.line, "x")
    type_into(qtbot, note.line, "")
    assert form.value.note is None


def test_arrow_keys_step_sensibly_and_stay_inside_the_bounds(make_form: MakeForm, qtbot: QtBot) -> None:
    form = make_form()
    rank, rate, dropout = (form.editor(n).box for n in ("rank", "rate", "dropout"))  # type: ignore[attr-defined]
    qtbot.keyClick(rank, Qt.Key.Key_Up)
    qtbot.keyClick(rate, Qt.Key.Key_Up)
    qtbot.keyClick(dropout, Qt.Key.Key_Up)
    assert (form.value.rank, form.value.rate, form.value.dropout) == (16, 3e-4, 0.06)
    for _ in range(8):
        qtbot.keyClick(rank, Qt.Key.Key_Up)
    assert form.value.rank == 512
    for _ in range(12):
        qtbot.keyClick(rank, Qt.Key.Key_Down)
    assert form.value.rank == 1


# ---- silence -----------------------------------------------------------------------------------------------------


def test_showing_a_value_is_no_edit(make_form: MakeForm, qtbot: QtBot, heard: list[Any]) -> None:
    form = make_form()
    form.changed.connect(heard.append)
    form.set_value(Demo(rank=4, codec=KINDS.choose("exact"), steps=3, schedule="linear", stop=("x",)))
    form.set_value(Demo(codec=KINDS.choose("packed", bits=2)))
    form.commit()
    assert heard == []


def test_an_edit_that_changes_nothing_says_nothing(make_form: MakeForm, qtbot: QtBot, heard: list[Any]) -> None:
    form = make_form()
    form.changed.connect(heard.append)
    type_into(qtbot, form.editor("rank").box, "8")  # type: ignore[attr-defined]
    type_into(qtbot, form.editor("rate").box, "0.0002")  # type: ignore[attr-defined]
    type_into(qtbot, form.editor("name").line, "run")  # type: ignore[attr-defined]
    assert heard == []


def test_the_wheel_changes_only_what_has_the_focus(make_form: MakeForm, qtbot: QtBot) -> None:
    form = make_form()
    form.editor("name").line.setFocus()  # type: ignore[attr-defined]
    rank, schedule = form.editor("rank").box, form.editor("schedule").combo  # type: ignore[attr-defined]

    def wheel(widget: QWidget) -> bool:
        middle = QPointF(widget.rect().center())
        event = QWheelEvent(
            middle, QPointF(widget.mapToGlobal(widget.rect().center())), QPoint(), QPoint(0, -120), Qt.MouseButton.NoButton,
            Qt.KeyboardModifier.NoModifier, Qt.ScrollPhase.NoScrollPhase, False,
        )  # fmt: skip
        event.setAccepted(True)
        QApplication.sendEvent(widget, event)
        return event.isAccepted()

    assert not wheel(rank), "the scroll area behind gets it"
    assert not wheel(schedule)
    assert form.value == Demo()
    rank.setFocus()
    assert wheel(rank)
    assert form.value.rank == 4


def test_values_of_another_config_are_refused(make_form: MakeForm) -> None:
    with pytest.raises(TypeError, match="Demo"):
        make_form().set_value(Packed())


# ---- problems ----------------------------------------------------------------------------------------------------


def test_a_problem_is_shown_at_its_field_without_moving_anything(make_form: MakeForm, qtbot: QtBot) -> None:
    form = make_form()
    before = {name: row.geometry() for name, row in form.rows.items()}
    type_into(qtbot, form.editor("dropout").box, "0.9")  # type: ignore[attr-defined]
    assert form.value.dropout == 0.9, "a number outside the bounds is not replaced behind the person's back"
    text = "Dropout is 0.9; the most is 0.5. Use 0.5 or less."
    assert form.problem_text("dropout") == text
    assert form.problem_text("rank") == ""
    assert form.callout.isVisible()
    assert form.callout.text() == text
    row = form.rows["dropout"]
    assert form.callout.y() >= row.mapTo(form, QPoint(0, 0)).y() + row.editor.height()
    assert row.mark.kind == "problem"
    assert form.sections["Adapter"].badge.text() == "1 problem"
    assert text in QAccessible.queryAccessibleInterface(row.editor.stops()[0]).text(QAccessible.Text.Description)
    assert {name: r.geometry() for name, r in form.rows.items()} == before
    type_into(qtbot, form.editor("dropout").box, "0.5")  # type: ignore[attr-defined]
    assert not form.callout.isVisible()
    assert form.problems == []


def test_a_rule_between_fields_is_shown_where_the_config_says(make_form: MakeForm, qtbot: QtBot) -> None:
    form = make_form()
    news: list[list[Problem]] = []
    form.problems_changed.connect(news.append)
    type_into(qtbot, form.editor("rank").box, "64")  # type: ignore[attr-defined]
    assert form.problem_text("alpha") == "Strength 16 is below the rank 64. Raise it."
    assert [[p.field for p in n] for n in news] == [["alpha"]]
    type_into(qtbot, form.editor("alpha").box, "64")  # type: ignore[attr-defined]
    assert news[-1] == []


def test_text_that_is_no_number_is_a_problem_and_the_value_stays(make_form: MakeForm, qtbot: QtBot, heard: list[Any]) -> None:
    form = make_form()
    form.changed.connect(heard.append)
    box = form.editor("rate").box  # type: ignore[attr-defined]
    type_into(qtbot, box, "1e")
    assert "Learning rate must be a number, not '1e'" in form.problem_text("rate")
    assert [p.field for p in form.problems] == ["rate"]
    assert box.text() == "1e", "what was typed stays to be mended"
    assert form.value.rate == 2e-4
    assert heard == []
    type_into(qtbot, box, "abc")
    assert box.text() == "1e", "letters that no number has cannot be typed at all"
    type_into(qtbot, box, "")
    assert "empty" in form.problem_text("rate")
    form.set_value(Demo())
    assert form.problems == []
    assert box.text() == "2e-4"
    type_into(qtbot, form.editor("sizes").line, "1, x")  # type: ignore[attr-defined]
    assert "numbers with commas" in form.problem_text("sizes")


def test_problems_of_options_are_shown_at_the_option(make_form: MakeForm, qtbot: QtBot) -> None:
    form = make_form()
    type_into(qtbot, form.editor("codec.bits").box, "99")  # type: ignore[attr-defined]
    assert "the most is 8" in form.problem_text("codec.bits")
    assert form.problem_text("codec") == ""
    type_into(qtbot, form.editor("codec.depth.level").box, "-1")  # type: ignore[attr-defined]
    assert "the least is 0" in form.problem_text("codec.depth.level")
    assert [p.field for p in form.problems] == ["codec.bits", "codec.depth.level"]
    assert form.callout.isVisible()
    assert form.callout.parentWidget() is form
    assert form.sections["Adapter"].badge.text() == "1 problem"
    type_into(qtbot, form.editor("codec.bits").box, "1e")  # type: ignore[attr-defined]
    assert "codec.bits" in [p.field for p in form.problems]


def test_a_problem_of_no_field_has_a_place_too(make_form: MakeForm, qtbot: QtBot) -> None:
    form = make_form(exclude=("alpha",))
    type_into(qtbot, form.editor("name").line, "nowhere")  # type: ignore[attr-defined]
    assert form._unplaced.isVisible()
    assert form._unplaced.text() == "This name has no place. Choose another."
    type_into(qtbot, form.editor("name").line, "run")  # type: ignore[attr-defined]
    type_into(qtbot, form.editor("rank").box, "64")  # type: ignore[attr-defined]
    assert [p.field for p in form.problems] == ["alpha"]
    assert not form._unplaced.isVisible(), "who left the field out shows what is wrong with it"


def test_a_config_that_refuses_a_value_is_not_lost(make_form: MakeForm, qtbot: QtBot, heard: list[Any]) -> None:
    @dataclass(frozen=True)
    class Strict:
        size: int = setting(1, label="Size", help="Not two.")

        def __post_init__(self) -> None:
            if self.size == 2:
                raise ConfigError("Size cannot be 2.", hint="Use 3.")

    form = make_form(Strict)
    form.changed.connect(heard.append)
    type_into(qtbot, form.editor("size").box, "2")  # type: ignore[attr-defined]
    assert form.problem_text("size") == "Size cannot be 2. Use 3."
    assert form.problems != []
    type_into(qtbot, form.editor("size").box, "3")  # type: ignore[attr-defined]
    assert form.problems == []
    assert heard == [Strict(3)]


# ---- choices -----------------------------------------------------------------------------------------------------


def test_another_kind_swaps_its_options_in_place_and_keeps_the_rest(make_form: MakeForm, qtbot: QtBot, heard: list[Any]) -> None:
    form = make_form()
    type_into(qtbot, form.editor("rank").box, "4")  # type: ignore[attr-defined]
    type_into(qtbot, form.editor("codec.bits").box, "5")  # type: ignore[attr-defined]
    form.changed.connect(heard.append)
    bits = form.editor("codec.bits")
    assert bits.isVisible()
    pick_kind(form, "codec", "exact")
    assert form.value.codec == KINDS.choose("exact")
    assert form.value.rank == 4
    assert not bits.isVisible()
    with pytest.raises(KeyError):
        form.editor("codec.bits")
    pick_kind(form, "codec", "packed")
    assert form.value.codec.options.bits == 5, "options come back with their kind"
    assert bits.isVisible()
    pick_kind(form, "codec", "packed")
    assert len(heard) == 2


def test_editing_an_option_gives_a_new_choice(make_form: MakeForm, qtbot: QtBot, heard: list[Any]) -> None:
    form = make_form()
    form.changed.connect(heard.append)
    qtbot.keyClick(form.editor("codec.rotate").switch, Qt.Key.Key_Space)  # type: ignore[attr-defined]
    type_into(qtbot, form.editor("codec.depth.level").box, "5")  # type: ignore[attr-defined]
    assert heard[0].codec == KINDS.choose("packed", rotate=False)
    assert heard[1].codec.options.depth.options.level == 5
    assert form.value == heard[1]


def test_a_kind_shown_from_outside_is_shown_with_its_options(make_form: MakeForm) -> None:
    form = make_form(value=Demo(codec=KINDS.choose("exact")))
    form.set_value(Demo(codec=KINDS.choose("packed", bits=7)))
    assert form.editor("codec.bits").value() == 7
    assert form.value == Demo(codec=KINDS.choose("packed", bits=7))
