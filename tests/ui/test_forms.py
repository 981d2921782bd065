"""Forms: every kind of field there and back, problems at their field, and nothing said that no person did."""

# long: one widget, every kind of field; cutting it apart would part the cases from their fixtures
from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from PySide6.QtCore import QPoint, QPointF, Qt
from PySide6.QtGui import QAccessible, QGuiApplication, QWheelEvent
from PySide6.QtWidgets import QAbstractButton, QAbstractSpinBox, QApplication, QComboBox, QLineEdit, QScrollArea, QVBoxLayout, QWidget
from pytestqt.qtbot import QtBot

from ui.forms import ConfigForm
from ui.forms.choice import ChoiceEditor
from ui.forms.editors import Editor, LineEditor, NumberEditor, OptionalNumberEditor, PickEditor, ToggleEditor
from ui.forms.menu import field_menu
from ui.theme import DARK, LIGHT, Theme
from workbench.core.errors import ConfigError
from workbench.core.fields import Option, Problem, choice, describe, field_problems, pick, setting
from workbench.core.registry import Choice, Registry

KINDS: Registry[None] = Registry("codec")
DEPTHS: Registry[None] = Registry("depth")


@dataclass(frozen=True)
class Deep:
    level: int = setting(1, label="Level", help="How deep.", minimum=0, maximum=9)


DEPTHS.register("deep", label="Deep", help="Goes on.", options=Deep)(lambda **_: None)


@dataclass(frozen=True)
class Packed:
    bits: int = setting(3, label="Bits", help="Bits of each value.", minimum=1, maximum=8, unit="bits")
    rotate: bool = setting(True, label="Rotate", help="Rotates first.")
    depth: Choice[None] = choice(DEPTHS, "deep", label="Depth", help="Nested once more.")
    seed: int | None = setting(None, label="Seed", help="Seed of the rotation.", minimum=0, none_label="random", advanced=True)


KINDS.register("exact", label="Exact", help="Stores what was computed.")(lambda **_: None)
KINDS.register(
    "packed", label="Packed", help="Compresses.", options=Packed, source="arXiv:2504.19874", equation="x ≈ Πᵀ q(Πx)", used_by="nobody yet"
)(lambda **_: None)

SCHEDULES = tuple(Option(n, n.capitalize(), f"Falls {n}.") for n in ("linear", "cosine", "constant", "inverse"))


@dataclass(frozen=True, kw_only=True)
class Demo:
    """One field of every kind."""

    rank: int = setting(8, label="Rank", key="r", help="Inner width.", group="Adapter", minimum=1, maximum=512, log=True)
    alpha: int = setting(16, label="Strength", key="lora_alpha", help="Scale.", group="Adapter", minimum=1, maximum=1024)
    dropout: float = setting(0.05, label="Dropout", help="Fraction dropped.", group="Adapter", minimum=0, maximum=0.5)
    codec: Choice[None] = choice(KINDS, "packed", label="Codec", help="How values are stored.", group="Adapter")
    rate: float = setting(2e-4, label="Learning rate", key="learning_rate", help="Step size.", group="Training", minimum=0, log=True)
    steps: int | None = setting(None, label="Steps", help="Stops there.", group="Training", minimum=1, unit="steps", none_label="by epochs")
    clip: float | None = setting(1.0, label="Clip", help="Largest norm.", group="Training", minimum=0, none_label="off", advanced=True)
    seed: int = setting(0, label="Seed", help="Where chance begins.", group="Training", minimum=0, advanced=True)
    schedule: str = pick(SCHEDULES, "cosine", label="Schedule", help="How the rate falls.", group="Training")
    dtype: str = pick((Option("auto", "Auto"), Option("bf16", "bf16")), "auto", label="Precision", help="Number format.", group="Training")
    target: str | None = pick(SCHEDULES, None, label="Target", help="Which layers.", group="Training", none_label="all")
    bias: bool = setting(False, label="Bias", help="Adds one.", group="Output")
    merge: bool | None = setting(None, label="Merge", help="Into the weights.", group="Output", none_label="auto")
    name: str = setting("run", label="Name", help="Of the run.", group="Output")
    note: str | None = setting(None, label="Note", help="Free text.", group="Output", none_label="none")
    stop: tuple[str, ...] = setting((), label="Stop at", help="Ends there.", group="Output")
    sizes: tuple[int, ...] = setting((1, 2), label="Sizes", help="Numbers.", group="Output")

    def problems(self) -> list[Problem]:
        found = field_problems(self)
        if self.alpha < self.rank:
            found.append(Problem("alpha", f"Strength {self.alpha} is below the rank {self.rank}.", "Raise it."))
        if self.name == "nowhere":
            found.append(Problem("", "This name has no place.", "Choose another."))
        return found


MakeForm = Callable[..., ConfigForm]


@pytest.fixture
def theme(qapp: QApplication) -> Iterator[Theme]:
    made = Theme(qapp, "light")
    yield made
    made.set_mode("light")
    made.setParent(None)  # type: ignore[call-overload]
    made.deleteLater()


@pytest.fixture
def make_form(qtbot: QtBot, theme: Theme) -> MakeForm:
    """A form as in a dock: 320 px wide, active window."""
    hosts: list[QWidget] = []  # pytest-qt keeps weak references only

    def make(config_type: type = Demo, value: Any = None, **options: Any) -> ConfigForm:
        host = QWidget()
        layout = QVBoxLayout(host)
        form = ConfigForm(config_type, value, **options)
        layout.addWidget(form)
        layout.addStretch(1)
        qtbot.addWidget(host)
        host.resize(320, 900)
        with qtbot.waitActive(host):
            host.show()
        hosts.append(host)
        return form

    return make


@pytest.fixture
def heard() -> list[Any]:
    return []


def type_into(qtbot: QtBot, line: QWidget, text: str) -> None:
    """As a person: select all, type, Enter."""
    line.setFocus()
    qtbot.keyClick(line, Qt.Key.Key_A, Qt.KeyboardModifier.ControlModifier)
    if text:
        qtbot.keyClicks(line, text)
    else:
        qtbot.keyClick(line, Qt.Key.Key_Delete)
    qtbot.keyClick(line, Qt.Key.Key_Return)


# ---- there and back ----------------------------------------------------------------------------------------------


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


def pick_kind(form: ConfigForm, name: str, kind: str) -> None:
    editor = form.editor(name)
    assert isinstance(editor, ChoiceEditor)
    index = editor.combo.findData(kind)
    editor.combo.setCurrentIndex(index)
    editor.combo.activated.emit(index)


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


# ---- defaults, states, help --------------------------------------------------------------------------------------


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


# ---- layout ------------------------------------------------------------------------------------------------------


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
