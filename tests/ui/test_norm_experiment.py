"""The experiment on quantized norms: switches, a run that can be stopped, the table, the ranges, and its files."""

from __future__ import annotations

from collections.abc import Callable, Generator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PySide6.QtCore import QEvent, QPointF, Qt
from PySide6.QtGui import QMouseEvent
from PySide6.QtWidgets import QApplication
from pytestqt.modeltest import ModelTester
from pytestqt.qtbot import QtBot

from tests.ui.conftest import Gate
from ui.quantizing.norm_experiment import NormExperiment
from ui.quantizing.norm_ranges import decades, power
from ui.quantizing.roundings_table import cell_text, share
from ui.services import Services
from workbench.core.control import Control
from workbench.core.errors import ModelError
from workbench.core.events import Event, Progress
from workbench.studies import StudyResult
from workbench.studies.int8_norms import Int8Parts, Seen
from workbench.studies.measure import Figures
from workbench.studies.norm_findings import Findings, NormSeen, Row, result
from workbench.studies.norm_int8 import NormInt8Options


def answer(models: tuple[str, ...] = ("Big", "the small model")) -> StudyResult:
    def of(label: str) -> Findings:
        deltas = {"input": 30.0 if label == "Big" else 0.001, "parameters": -0.0002}
        rows = tuple(
            Row(Int8Parts(**{what: True}, scale="tensor"), Figures(100, 2 + d, 0.1, 0.9, d, d * d + 0.01))  # type: ignore[arg-type]
            for what, d in deltas.items()
        )
        ranges = [(3.0, 0.5), (24_000.0 if label == "Big" else 12.0, 1.5), (20.0, 2.0)]
        seen = tuple(NormSeen(f"blocks.{n}.norm", Seen(high, low, 9.0)) for n, (high, low) in enumerate(ranges))
        return Findings(label, "RMSNorm", Figures(100, 2.0, 0.0, 1.0), 400, rows, seen, 400, 104, 40_000)

    return result("norm-int8", [of(model) for model in models], "built-in prose", {})


@pytest.fixture
def session(services: Services) -> SimpleNamespace:
    def study(name: str, options: NormInt8Options, control: Control) -> Generator[Event, None, StudyResult | None]:
        found.asked = (name, options)
        yield Progress(message="Reading with Big", done=1, total=4)
        return found.answer if not control.stopping else None

    found = SimpleNamespace(model=SimpleNamespace(name="Big"), study=study, asked=None, answer=answer())
    services.session = found
    return found


@pytest.fixture
def page(qtbot: QtBot, services: Services, session: SimpleNamespace) -> NormExperiment:
    made = NormExperiment(services)
    qtbot.addWidget(made)
    made.resize(1000, 900)
    made.show()
    return made


def test_before_the_first_run_it_says_what_will_appear(page: NormExperiment) -> None:
    assert page.empty.isVisible()
    assert not page.table.isVisible()
    assert not page.save_button.isVisible()
    assert "Measures Big and the small model" in page.status.text()


def test_a_run_asks_for_what_the_switches_say_and_shows_the_answer(page: NormExperiment, session: SimpleNamespace, qtbot: QtBot) -> None:
    page.form.take(NormInt8Options(output=False, tokens=64))
    with qtbot.waitSignal(page.finished, timeout=5000):
        page.run_button.click()
    qtbot.waitUntil(lambda: not page.running)
    assert session.asked == ("norm-int8", NormInt8Options(output=False, tokens=64))
    assert page.message.isVisible()
    assert page.message.title.text().startswith("Not the norms’ weights")
    assert "×" in page.message.text.text()
    texts = page.table.as_text().splitlines()
    assert len(texts) == 1 + 2 * 3
    assert texts[2].startswith("Big\tinput\tshared")
    assert [chart.model for chart in page.ranges if chart.isVisible()] == ["Big", "the small model"]
    assert "int8 would save 296 B" in page.bytes.text()
    assert page.run_button.text() == "Run"
    session.answer = answer(("Big",))
    page.run_button.click()
    qtbot.waitUntil(lambda: not page.running)
    assert [chart.model for chart in page.ranges if chart.isVisible()] == ["Big"]


def test_stop_ends_it_and_keeps_the_page_as_it_was(
    page: NormExperiment, session: SimpleNamespace, gate: Callable[..., Gate], qtbot: QtBot
) -> None:
    work = gate()

    def study(_name: str, _options: object, control: Control) -> Generator[Event, None, None]:
        yield from work(control)
        return None

    session.study = study
    page.run_button.click()
    qtbot.waitUntil(work.begun.is_set)
    assert page.run_button.text() == "Stop"
    assert not page.form.isEnabled()
    assert page.bar.isVisible()
    qtbot.waitUntil(lambda: "12 of 60 steps" in page.status.text())
    page.run_button.click()
    qtbot.waitUntil(lambda: not page.running)
    assert page.status.text() == "Stopped."
    assert page.empty.isVisible()
    assert page.form.isEnabled()


def test_a_failure_is_told_on_the_page(page: NormExperiment, session: SimpleNamespace, qtbot: QtBot) -> None:
    def study(_name: str, _options: object, _control: Control) -> Generator[Event, None, None]:
        yield Progress(message="Reading", done=0, total=2)
        raise ModelError("Big has no norms with parameters.", hint="Load a model that has some.")

    session.study = study
    page.run_button.click()
    qtbot.waitUntil(lambda: not page.running)
    assert page.line.message.isVisible()
    assert page.line.message.title.text() == "Big has no norms with parameters."


def test_what_keeps_it_from_running_is_on_the_button(page: NormExperiment, services: Services, session: SimpleNamespace) -> None:
    session.model = None
    services.bus.model_changed.emit(None)
    assert page.run_button.isEnabled()
    assert "the small model alone" in page.status.text()
    page.form.take(NormInt8Options(contrast=False))
    assert not page.run_button.isEnabled()
    assert page.run_button.text() == "Load a model"
    page.form.take(NormInt8Options(per_token=False, per_tensor=False, unscaled=False))
    assert page.run_button.text() == "Choose what to round"
    assert "No scale is chosen" in page.status.text()


def test_the_table_is_sound_and_gives_way_to_a_narrow_page(page: NormExperiment, qtbot: QtBot) -> None:
    page.show_result(answer())
    ModelTester(page.table.shown)
    page.resize(1300, 900)
    qtbot.waitUntil(lambda: not page.table.isColumnHidden(5))
    page.resize(330, 900)
    qtbot.waitUntil(lambda: page.table.isColumnHidden(5))
    assert not page.table.isColumnHidden(3)
    assert not page.columns.side_by_side
    page.grab()
    page.table.setFocus()
    page.table.keyPressEvent(_key(Qt.Key.Key_C, Qt.KeyboardModifier.ControlModifier))
    assert QApplication.clipboard().text() == page.table.as_text()


def test_ranges_tell_the_norm_under_the_mouse_and_the_arrows(page: NormExperiment) -> None:
    page.show_result(answer())
    chart = page.ranges[0]
    assert "24,000" in chart.accessibleDescription()
    chart.keyPressEvent(_key(Qt.Key.Key_Right))
    chart.keyPressEvent(_key(Qt.Key.Key_Right))
    assert chart.current == 1
    chart.keyPressEvent(_key(Qt.Key.Key_Left))
    assert chart.current == 0
    spot = QPointF(chart.width() - 12, 60)
    none = Qt.MouseButton.NoButton
    chart.mouseMoveEvent(QMouseEvent(QEvent.Type.MouseMove, spot, chart.mapToGlobal(spot), none, none, Qt.KeyboardModifier.NoModifier))
    assert chart.current == 2
    page.grab()
    chart.leaveEvent(QEvent(QEvent.Type.Leave))
    assert chart.current is None


def test_the_answer_is_saved_as_files(page: NormExperiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page.show_result(answer())
    monkeypatch.setattr("ui.quantizing.norm_experiment.QFileDialog.getExistingDirectory", lambda *_: str(tmp_path / "out"))
    page.ask_save()
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"table.csv", "norms.csv", "bytes.csv", "table.json", "figure.svg"}


def test_figures_are_written_with_the_digits_that_say_something() -> None:
    assert cell_text("delta", -0.00001) == "0.0000"
    assert cell_text("delta", -0.012) == "−0.0120"
    assert cell_text("perplexity", 6.4e16) == "6.4e16"
    assert cell_text("perplexity", float("inf")) == "∞"
    assert (share(0.0), share(1e9)) == (0.0, 1.0)
    assert share(0.01) < share(1.0)
    assert decades(0.07, 22_000)[0] <= -2
    assert 10.0 ** decades(0.07, 22_000)[-1] >= 22_000
    assert [power(d) for d in (-2, 0, 3, 6)] == ["0.01", "1", "1,000", "10⁶"]


def _key(key: Qt.Key, modifier: Qt.KeyboardModifier = Qt.KeyboardModifier.NoModifier) -> Any:
    from PySide6.QtGui import QKeyEvent

    return QKeyEvent(QEvent.Type.KeyPress, key, modifier)
