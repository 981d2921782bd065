"""A config with one field of every kind, and forms made of it as in a dock."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QApplication, QVBoxLayout, QWidget
from pytestqt.qtbot import QtBot

from ui.forms import ConfigForm
from ui.forms.choice import ChoiceEditor
from ui.theme import Theme
from workbench.core.fields import Option, Problem, choice, field_problems, pick, setting
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


def pick_kind(form: ConfigForm, name: str, kind: str) -> None:
    editor = form.editor(name)
    assert isinstance(editor, ChoiceEditor)
    index = editor.combo.findData(kind)
    editor.combo.setCurrentIndex(index)
    editor.combo.activated.emit(index)
