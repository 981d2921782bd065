"""The fine-tune panel before a run: what the button says is missing, the check of the data, choosing data; and its looks."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PySide6.QtCore import QMimeData, QPoint, QPointF, Qt, QUrl
from PySide6.QtGui import QAccessible, QDragEnterEvent, QDropEvent
from PySide6.QtWidgets import (
    QAbstractButton,
    QAbstractSlider,
    QAbstractSpinBox,
    QApplication,
    QComboBox,
    QLabel,
    QLineEdit,
    QPlainTextEdit,
    QWidget,
)
from pytestqt.qtbot import QtBot

from tests.ui.finetune_fakes import (
    EMPTY,
    GOOD,
    WAIT,
    FakeSession,
    click,
    finish,
    model,
    open_panel,
    panel,
    run_steps,
    session,
    type_number,
)
from ui.panels.finetune import FinetunePanel
from ui.services import Services
from ui.widgets.labels import ElidingLabel
from workbench.core.errors import DataError
from workbench.data import DataConfig

__all__ = ["open_panel", "panel", "session"]  # fixtures


# ---- what is missing ---------------------------------------------------------------------------------------------


def test_opening_the_panel_does_not_import_torch() -> None:
    code = "import sys; import ui.panels.finetune; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=Path(__file__).parents[2]).returncode == 0


def test_the_button_says_what_is_missing(open_panel: Callable[..., FinetunePanel], services: Services, qtbot: QtBot) -> None:
    panel = open_panel()
    assert panel.start_button.text() == "The engine is loading…"
    session = FakeSession()
    session.reading.clear()
    services.session = session
    services.bus.engine_ready.emit(session)
    assert panel.start_button.text() == "Load a model first"
    assert not services.actions["run.start"].isEnabled()
    assert "starter model" in services.actions["run.start"].reason
    session.model = model()
    services.bus.model_changed.emit(session.model)
    assert panel.start_button.text() == "Checking the data…"
    session.reading.set()
    qtbot.waitUntil(lambda: panel.start_button.text() == "Start fine-tuning", timeout=WAIT)
    assert panel.start_button.isEnabled()
    assert services.actions["run.start"].isEnabled()
    panel.setup.picker._set(())
    assert panel.start_button.text() == "Choose a dataset"
    assert not panel.start_button.isEnabled()


def test_without_an_engine_it_says_so(open_panel: Callable[..., FinetunePanel], services: Services) -> None:
    panel = open_panel()
    services.bus.engine_failed.emit(None)
    assert panel.start_button.text() == "The engine did not load"
    assert not panel.start_button.isEnabled()


def test_a_wrong_number_is_named_on_the_button(panel: FinetunePanel) -> None:
    type_number(panel, "r", "0")
    assert panel.start_button.text() == "Correct “Rank”"
    assert "the least is 1" in panel.start_button.toolTip()
    type_number(panel, "r", "8")
    assert "Correct" not in panel.start_button.text()


def test_a_layer_that_does_not_exist_is_named(panel: FinetunePanel) -> None:
    targets: Any = panel.setup.method.targets.editor
    targets.set_value(("banana_proj",))
    targets.edited.emit()
    assert panel.start_button.text() == "Correct “Layers”"
    assert "banana_proj" in panel.setup.method.counts.text()


def test_no_model_offers_the_two_ways_to_one(
    open_panel: Callable[..., FinetunePanel], services: Services, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    for name in ("model.fetch_starter", "model.open"):
        services.actions.bind(name, lambda name=name: asked.append(name))
    panel = open_panel(FakeSession())
    click(qtbot, panel.model.starter)
    click(qtbot, panel.model.open)
    assert asked == ["model.fetch_starter", "model.open"]


def test_a_run_of_another_panel_is_named(panel: FinetunePanel, services: Services, gate: Callable[..., Any], qtbot: QtBot) -> None:
    work = gate()
    services.jobs.start("Merging", work, "model")
    assert panel.start_button.text() == "Wait for “Merging”"
    work.through.set()
    qtbot.waitUntil(lambda: panel.start_button.isEnabled(), timeout=WAIT)


# ---- the check of the data ---------------------------------------------------------------------------------------


def test_the_check_shows_what_would_be_learnt(panel: FinetunePanel, session: FakeSession) -> None:
    report = panel.setup.report
    assert "100 rows kept · 0 left out · 2 cut" in report.figures.text()
    assert "6,000 of 9,000 tokens learnt (67 %)" in report.figures.text()
    assert report.message.isHidden()
    report.samples.set_expanded(True)
    view = report.sample_view
    assert "1 of 3" in view.place.full_text
    assert "text-decoration:underline" in view.text.text()
    assert "Learnt: Hello." in view.text.accessibleName()
    assert session.checks == [(DataConfig(sources=("sample-chat",)), 256)]


def test_data_that_teach_nothing_cannot_start(open_panel: Callable[..., FinetunePanel], session: FakeSession, qtbot: QtBot) -> None:
    session.report = EMPTY
    panel = open_panel(session)
    qtbot.waitUntil(lambda: panel.setup.check.word == "checked", timeout=WAIT)
    assert panel.start_button.text() == "Nothing to learn in these data"
    assert not panel.start_button.isEnabled()
    message = panel.setup.report.message
    assert message.text.text() == "Rows 3, 7: There is no reply."
    assert message.hint.text() == "Add a reply."
    assert panel.data_step.state == "problem"
    panel.start()
    assert session.requests == []


def test_data_that_cannot_be_read_say_why(open_panel: Callable[..., FinetunePanel], session: FakeSession, qtbot: QtBot) -> None:
    session.data_error = DataError("x.jsonl does not exist.", hint="Check the path.")
    panel = open_panel(session)
    qtbot.waitUntil(lambda: panel.setup.check.word == "failed", timeout=WAIT)
    assert panel.start_button.text() == "The data cannot be used"
    assert panel.setup.report.message.text.text() == "x.jsonl does not exist."
    session.data_error = None
    click(qtbot, panel.setup.report.refresh)
    qtbot.waitUntil(lambda: panel.start_button.isEnabled(), timeout=WAIT)
    assert panel.setup.report.message.isHidden()


def test_it_is_checked_again_when_the_length_or_the_model_changes(
    panel: FinetunePanel, session: FakeSession, services: Services, qtbot: QtBot
) -> None:
    type_number(panel, "max_length", "64")
    assert not panel.start_button.isEnabled()
    qtbot.waitUntil(lambda: panel.start_button.isEnabled(), timeout=WAIT)
    session.model = model("other")
    services.bus.model_changed.emit(session.model)
    qtbot.waitUntil(lambda: panel.start_button.isEnabled(), timeout=WAIT)
    assert [length for _, length in session.checks] == [256, 64, 64]
    type_number(panel, "learning_rate", "1e-4")  # the data do not depend on it
    assert panel.start_button.isEnabled()


def test_a_newer_choice_overtakes_a_check_that_is_running(panel: FinetunePanel, session: FakeSession, qtbot: QtBot) -> None:
    session.reading.clear()
    panel.setup.picker.take(["stdlib-docstrings"])
    qtbot.waitUntil(lambda: len(session.checks) == 2, timeout=WAIT)
    session.report = replace(GOOD, kept=7)
    panel.setup.picker.take(["sample-chat"])
    qtbot.waitUntil(lambda: len(session.checks) == 3, timeout=WAIT)
    session.reading.set()
    qtbot.waitUntil(lambda: panel.start_button.isEnabled(), timeout=WAIT)
    assert "7 rows kept" in panel.setup.report.figures.text()


# ---- choosing data -----------------------------------------------------------------------------------------------


def drag(paths: list[Path]) -> QMimeData:
    mime = QMimeData()
    mime.setUrls([QUrl.fromLocalFile(str(p)) for p in paths])
    return mime


def drop(panel: FinetunePanel, mime: QMimeData) -> bool:
    where, buttons, keys = QPointF(50, 50), Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
    enter = QDragEnterEvent(where.toPoint(), Qt.DropAction.CopyAction, mime, buttons, keys)
    QApplication.sendEvent(panel, enter)
    if not enter.isAccepted():
        return False
    QApplication.sendEvent(panel, QDropEvent(where, Qt.DropAction.CopyAction, mime, buttons, keys))
    return True


def test_files_are_dropped_onto_the_panel(panel: FinetunePanel, tmp_path: Path) -> None:
    files = [tmp_path / "a.jsonl", tmp_path / "b.md"]
    for file in files:
        file.write_text("x")
    mime = drag(files)
    assert drop(panel, mime)
    assert panel.setup.picker.sources == tuple(map(str, files))
    assert panel.setup.picker.combo.currentText() == "2 files: a.jsonl, b.md"
    assert panel.drops.veil.isHidden()


def test_a_model_dropped_onto_it_is_left_to_the_window(panel: FinetunePanel, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    for path in (tmp_path / "m.gguf", tmp_path):
        mime = drag([path])
        assert not drop(panel, mime)
    assert panel.setup.picker.sources == ("sample-chat",)


def test_files_chosen_in_the_dialog_are_used_and_remembered(panel: FinetunePanel, tmp_path: Path, qtbot: QtBot) -> None:
    picker = panel.setup.picker
    picker.choose = lambda parent, chosen: chosen([str(tmp_path / "mine.txt")])
    click(qtbot, picker.files)
    assert picker.sources == (str(tmp_path / "mine.txt"),)
    picker.take(["sample-chat"])
    assert [picker.combo.itemText(i) for i in range(picker.combo.count()) if picker.combo.itemText(i)][-1] == "mine.txt"


def test_settings_are_there_again_on_the_next_start(
    panel: FinetunePanel, session: FakeSession, open_panel: Callable[..., FinetunePanel], services: Services, tmp_path: Path
) -> None:
    panel.setup.picker.take([str(tmp_path / "mine.txt")])
    type_number(panel, "r", "64")
    type_number(panel, "max_length", "128")
    panel.setup.remember()
    saved = json.loads(panel.setup.path.read_text())
    assert saved["version"] == 1
    panel.setup.check.want(None)
    again = open_panel(session)
    if again._setup is None:
        services.bus.engine_ready.emit(session)
    assert again.setup.request() == panel.setup.request()
    assert again.setup.request().lora.r == 64


# ---- for everyone ------------------------------------------------------------------------------------------------

FIELDS = (QAbstractButton, QLineEdit, QAbstractSpinBox, QComboBox, QAbstractSlider, QPlainTextEdit)


def test_everything_that_takes_the_keyboard_has_a_name(panel: FinetunePanel) -> None:
    nameless = [
        f"{type(w).__name__} {w.objectName()}"
        for w in panel.findChildren(QWidget)
        if isinstance(w, FIELDS)
        and w.focusPolicy().value
        and not w.objectName().startswith("qt_")
        and w.parent().metaObject().className() != "QComboBoxPrivateContainer"
        and not QAccessible.queryAccessibleInterface(w).text(QAccessible.Text.Name)
    ]
    assert nameless == []


def test_tab_goes_from_the_data_over_the_method_to_the_start(panel: FinetunePanel) -> None:
    order: list[QWidget] = []
    widget = panel.setup.picker.combo.nextInFocusChain()
    while widget is not panel.setup.picker.combo:
        order.append(widget)
        widget = widget.nextInFocusChain()
    method: Any = panel.setup.method
    wanted = [panel.setup.picker.files, method.adapter.editor("r").box, method.targets.editor.combo, method.run.editor("max_length").box]
    places = [order.index(w) for w in [*wanted, panel.start_button]]
    assert places == sorted(places)


def clipped(panel: FinetunePanel) -> list[str]:
    """Buttons and texts that are narrower than they need, or stand out of the panel."""
    found = []
    for widget in panel.findChildren(QWidget):
        if isinstance(widget, (QAbstractButton, QLabel)) and widget.isVisible() and not isinstance(widget, ElidingLabel):
            right = widget.mapTo(panel, QPoint(widget.width(), 0)).x()
            if widget.width() < widget.minimumSizeHint().width() or right > panel.width():
                found.append(f"{type(widget).__name__} {widget.property('text')!r} {widget.width()} {widget.minimumSizeHint().width()}")
    return found


@pytest.mark.parametrize(("width", "scale"), [(320, 1.0), (340, 1.1), (380, 1.25)])
def test_nothing_is_cut_off_in_a_narrow_dock(
    open_panel: Callable[..., FinetunePanel], session: FakeSession, services: Services, qtbot: QtBot, width: int, scale: float
) -> None:
    services.theme.set_font_scale(scale)
    session.model, session.report = None, EMPTY
    panel = open_panel(session)
    panel.resize(width, 700)
    panel.layout().activate()
    assert clipped(panel) == []
    session.model = model()
    services.bus.model_changed.emit(session.model)
    qtbot.waitUntil(lambda: panel.setup.check.word == "checked", timeout=WAIT)
    assert clipped(panel) == []
    session.report = GOOD
    panel.setup.check.again()
    qtbot.waitUntil(lambda: panel.start_button.isEnabled(), timeout=WAIT)
    panel.start()
    run_steps(panel, session, 1, qtbot)
    panel.run_card.stop.click()
    assert clipped(panel) == []
    session.fail_at = 3
    finish(panel, session, qtbot)
    assert clipped(panel) == []
    services.bus.use_adapter.emit(Path("runs/r1/adapter"))
    qtbot.waitUntil(lambda: panel.adapter.isVisible() and not services.jobs.jobs, timeout=WAIT)
    assert clipped(panel) == []
    services.theme.set_font_scale(1.0)
