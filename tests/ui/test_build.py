"""The Build page: what is asked for, what is missing, the run with its samples, and what becomes of the model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PySide6.QtCore import QMimeData, Qt, QUrl
from PySide6.QtWidgets import QAbstractButton, QAbstractSpinBox, QComboBox, QLineEdit, QWidget
from pytestqt.qtbot import QtBot

from tests.ui.build_fakes import GOOD, WAIT, FakeSession, click, finish, open_page, page, ready, run_steps, session, set_train
from ui.building import remembered
from ui.building.words import length_words, memory_problem
from ui.chat.cards import EmptyCard
from ui.panels.build import BuildPanel
from ui.services import Services
from workbench.core.errors import DataError
from workbench.data import DataConfig
from workbench.data.examples import RowProblem
from workbench.model import PRESETS, account
from workbench.tokenizers.config import TokenizerConfig
from workbench.training import PretrainConfig

__all__ = ["open_page", "page", "session"]  # fixtures


# ---- the first run -----------------------------------------------------------------------------------------------


def test_two_clicks_from_a_fresh_start_to_a_run(
    open_page: Callable[..., BuildPanel], services: Services, session: FakeSession, qtbot: QtBot
) -> None:
    card = EmptyCard(services)
    qtbot.addWidget(card)
    with qtbot.waitExposed(card):
        card.show()
    page = open_page(session)
    shown: list[str] = []
    services.bus.show_panel.connect(shown.append)
    click(qtbot, card.build_button)
    assert shown == ["build"]
    ready(page, qtbot)
    click(qtbot, page.start_button)
    qtbot.waitUntil(lambda: bool(session.requests), timeout=WAIT)
    asked = session.requests[0]
    assert asked.model == replace(PRESETS["tiny-llama"].config, vocab_size=GOOD.vocabulary)
    assert asked.data.sources == ("stdlib-docstrings",)
    assert asked.train.max_minutes == remembered.MINUTES
    assert asked.out is not None
    assert asked.out.name.endswith("tiny-llama")
    assert not asked.problems()


def test_a_wish_before_the_engine_is_there_is_kept(
    open_page: Callable[..., BuildPanel], services: Services, session: FakeSession, qtbot: QtBot
) -> None:
    page = open_page()
    assert page.missing()[0] == "The engine is loading…"
    services.bus.build_requested.emit("tiny-gpt2")
    services.session = session
    services.bus.engine_ready.emit(session)
    assert page.setup.architecture.preset == "tiny-gpt2"


def test_what_was_toggled_in_the_model_panel_is_taken_over(
    page: BuildPanel, services: Services, session: FakeSession, qtbot: QtBot
) -> None:
    config = replace(PRESETS["tiny-llama"].config, n_layers=3)
    services.bus.build_requested.emit(config)
    part = page.setup.architecture
    assert part.combo.currentText() == "As toggled in the Model panel"
    assert "3 layers" in part.words.text()
    ready(page, qtbot)
    click(qtbot, page.start_button)
    qtbot.waitUntil(lambda: bool(session.requests), timeout=WAIT)
    assert session.requests[0].model.n_layers == 3
    services.bus.build_requested.emit(PRESETS["tiny-gpt2"].config)  # a run is going on
    assert page.setup.architecture.config.n_layers == 3
    finish(page, session, qtbot)
    assert page.setup.architecture.preset == "tiny-gpt2", "a config that is a preset's is that preset"


# ---- the settings --------------------------------------------------------------------------------------------------


def test_the_look_at_the_data_is_told_in_words(page: BuildPanel, session: FakeSession, qtbot: QtBot) -> None:
    report = page.setup.report
    assert "460,000 tokens of text in a vocabulary of 2,048" in report.figures.text()
    assert "3,400 windows of 128 tokens" in report.figures.text()
    assert "cat" in report.tokens.text()
    count = account(replace(PRESETS["tiny-llama"].config, vocab_size=2_048)).parameters
    assert f"{count:,} parameters with 2,048 tokens" in page.setup.architecture.size.text()


def test_the_data_are_read_anew_only_when_what_is_read_changes(page: BuildPanel, session: FakeSession, qtbot: QtBot) -> None:
    set_train(page, learning_rate=1e-3, max_minutes=2.0)
    assert page.setup.check.word == "checked", "the learning rate changes nothing of what is read"
    set_train(page, max_length=64)
    assert page.setup.check.word == "checking"
    ready(page, qtbot)
    assert [r.train.max_length for r in session.checks] == [128, 64]
    page.setup.tokenizer.form.set_value(TokenizerConfig(kind="bytes"))
    page.setup.tokenizer.form.changed.emit(page.setup.tokenizer.value)
    assert page.setup.vocabulary == 259
    assert not page.setup.tokenizer.form.rows["vocab_size"].isVisible()


def test_nothing_is_read_while_nobody_looks(
    services: Services, session: FakeSession, qtbot: QtBot, open_page: Callable[..., BuildPanel]
) -> None:
    page = BuildPanel(services)
    qtbot.addWidget(page)
    services.session = session
    services.bus.engine_ready.emit(session)
    assert page.setup.check.word == "none"
    with qtbot.waitExposed(page):
        page.show()
    ready(page, qtbot)
    assert len(session.checks) == 1


@pytest.mark.parametrize(
    ("what", "words"),
    [
        (lambda s: s.tokenizer.form.set_value(TokenizerConfig(kind="existing")), "Choose a tokenizer"),
        (lambda s: s.length.main.set_value(PretrainConfig(max_steps=0)), "Correct “Steps”"),
        (lambda s: s.architecture.show_config("gpt3-175b", PRESETS["gpt3-175b"].config), "Too large for this computer"),
        (lambda s: s.picker.show_sources((), ()), "Choose a text"),
        (lambda s: s.variant.switch.setChecked(True), "Choose what B changes"),
    ],
)
def test_start_says_what_is_missing(page: BuildPanel, what: Callable[[Any], None], words: str) -> None:
    what(page.setup)
    page.setup._on_changed()
    assert page.start_button.text() == words
    assert not page.start_button.isEnabled()
    assert page._services.actions["build.start"].reason


def test_data_that_cannot_be_used_say_why(open_page: Callable[..., BuildPanel], session: FakeSession, qtbot: QtBot) -> None:
    session.data_error = DataError("The data have 12 tokens.", hint="Add text.")
    page = open_page(session)
    qtbot.waitUntil(lambda: page.setup.check.word == "failed", timeout=WAIT)
    assert page.start_button.text() == "The data cannot be used"
    assert "12 tokens" in page.setup.report.message.text.text()
    session.data_error = None
    click(qtbot, page.setup.report.refresh)
    ready(page, qtbot)
    assert page.setup.report.message.isHidden()


def test_rows_that_were_left_out_are_named(open_page: Callable[..., BuildPanel], session: FakeSession, qtbot: QtBot) -> None:
    session.found = replace(GOOD, problems=(RowProblem("a.jsonl", 3, "It is no JSON.", "Mend it."),), notices=("Few tokens.",))
    page = open_page(session)
    ready(page, qtbot)
    assert page.setup.report.message.title.text() == "1 row was left out."
    assert "no JSON" in page.setup.report.message.text.text()
    assert page.setup.report.notes.text() == "Few tokens."


def test_dropped_files_are_the_data(page: BuildPanel, tmp_path: Path) -> None:
    text = tmp_path / "book.txt"
    text.write_text("Once upon a time.")
    mime = QMimeData()
    mime.setUrls([QUrl.fromLocalFile(str(text))])
    assert page.setup.dropped(mime) == [str(text)]
    page.setup.picker.take([str(text)])
    assert page.setup.request().data.sources == (str(text),)


def test_minutes_or_steps(page: BuildPanel, qtbot: QtBot) -> None:
    part = page.setup.length
    assert part.main.rows["max_minutes"].isVisible()
    assert not part.main.rows["max_steps"].isVisible()
    click(qtbot, part.budget.buttons()[1])
    assert part.train.max_minutes is None
    assert part.main.rows["max_steps"].isVisible()
    assert "1,500 steps read" in part.length.text()
    click(qtbot, part.budget.buttons()[0])
    assert part.train.max_minutes == remembered.MINUTES


def test_the_settings_come_back_after_a_restart(open_page: Callable[..., BuildPanel], session: FakeSession, qtbot: QtBot) -> None:
    page = open_page(session)
    page.setup.architecture.take("tiny-gpt2", PRESETS["tiny-gpt2"].config)
    set_train(page, max_minutes=2.0, probe_every=10)
    page.setup.variant.switch.setChecked(True)
    page.setup.variant.change("n_layers", 2)
    page.setup.picker.take(["/some/book.txt"])
    page.setup.remember()
    stored = remembered.load(page.setup.path)
    assert (stored.preset, stored.compare, dict(stored.changes)) == ("tiny-gpt2", True, {"n_layers": 2})
    assert stored.request.data == DataConfig(sources=("/some/book.txt",))
    assert (stored.request.train.max_minutes, stored.request.train.probe_every) == (2.0, 10)
    again = open_page(session)
    assert again.setup.pair_request().b.model.n_layers == 2
    assert again.setup.picker.sources == ("/some/book.txt",)


def test_a_damaged_file_of_settings_costs_the_settings_only(tmp_path: Path) -> None:
    path = tmp_path / "build.json"
    assert remembered.load(path) == remembered.Remembered()
    path.write_text("{")
    assert remembered.load(path).request == remembered.first_request()


# ---- the run -------------------------------------------------------------------------------------------------------


def test_a_run_shows_samples_newest_first_and_locks_the_settings(page: BuildPanel, session: FakeSession, qtbot: QtBot) -> None:
    set_train(page, sample_every=2, max_minutes=None, max_steps=60)
    click(qtbot, page.start_button)
    assert page.stage.timeline.empty.text().startswith("The first sample comes after step 2")
    run_steps(page, session, 4, qtbot)
    qtbot.waitUntil(lambda: page.track.eval_loss == 1.5, timeout=WAIT)
    cards = page.stage.timeline.cards
    assert [c.text.text() for c in cards] == ["Once upon a time 4", "Once upon a time 2"]
    assert cards[0].head.full_text.startswith("Step 4 · ")
    assert cards[0].head.full_text.endswith("loss 1.00")
    assert page.stack.currentWidget() is page._scrolls[1]
    assert page.run_card.word.full_text == "Training · step 4 of 60"
    assert not page.setup.architecture.isEnabled()
    assert page.start_button.isHidden()
    click(qtbot, page.pages.buttons()[0])
    assert page.start_button.isHidden(), "no second start while it runs"
    finish(page, session, qtbot)
    assert page.setup.architecture.isEnabled()


def test_a_run_that_is_as_long_as_a_time_guesses_its_steps(page: BuildPanel, session: FakeSession, qtbot: QtBot) -> None:
    click(qtbot, page.start_button)
    run_steps(page, session, 1, qtbot)
    page.run_card.refresh()
    assert page.run_card.word.full_text == "Training · step 1 of about 60"


def test_pause_and_resume(page: BuildPanel, session: FakeSession, qtbot: QtBot) -> None:
    click(qtbot, page.start_button)
    run_steps(page, session, 2, qtbot)
    click(qtbot, page.run_card.pause)
    assert page.run_card.word.full_text.startswith("Paused")
    click(qtbot, page.run_card.pause)
    run_steps(page, session, 1, qtbot)


@pytest.mark.parametrize("save", [True, False])
def test_stop_asks_in_place_and_a_stopped_run_can_go_on(page: BuildPanel, session: FakeSession, qtbot: QtBot, save: bool) -> None:
    click(qtbot, page.start_button)
    run_steps(page, session, 5, qtbot)
    click(qtbot, page.run_card.stop)
    choice = page.run_card.choice
    click(qtbot, choice.save if save else choice.drop)
    qtbot.waitUntil(lambda: page.run_card.job is None, timeout=WAIT)
    assert session.save_on_stop is save
    assert page.result.message.title.text().startswith("Stopped after 5 steps")
    assert page.result.generate.isVisible() is save
    assert page.result.resume.isVisible()
    click(qtbot, page.result.resume)
    qtbot.waitUntil(lambda: len(session.requests) == 2, timeout=WAIT)
    first, second = session.requests
    assert second == replace(first, resume=True)


def test_the_model_is_used_where_a_person_says(page: BuildPanel, services: Services, session: FakeSession, qtbot: QtBot) -> None:
    opened: list[Path] = []
    shown: list[str] = []
    services.bus.open_model.disconnect(services.models.open)
    services.bus.open_model.connect(opened.append)
    services.bus.show_panel.connect(shown.append)
    click(qtbot, page.start_button)
    finish(page, session, qtbot)
    assert page.result.message.title.text().startswith("Done: 60 steps")
    click(qtbot, page.result.generate)
    click(qtbot, page.result.tune)
    folder = session.requests[0].out
    assert (opened, shown) == ([folder, folder], ["chat", "finetune"])


def test_a_model_that_only_fills_in_is_not_asked_to_write(page: BuildPanel, session: FakeSession, qtbot: QtBot) -> None:
    page.setup.architecture.take("tiny-bert", PRESETS["tiny-bert"].config)
    ready(page, qtbot)
    click(qtbot, page.start_button)
    finish(page, session, qtbot)
    assert page.result.generate.isHidden()
    assert page.result.folder.isVisible()


def test_a_failure_says_why_and_what_is_kept(page: BuildPanel, session: FakeSession, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch) -> None:
    real = session._events

    def events(n: int, *rest: Any) -> Any:
        yield from real(n, *rest)
        if n == 5:
            raise DataError("The disk is full.", hint="Make room.")

    monkeypatch.setattr(session, "_events", events)
    click(qtbot, page.start_button)
    session.step.release(5)
    qtbot.waitUntil(lambda: page.run_card.job is None, timeout=WAIT)
    assert page.result.message.title.text().startswith("Failed after 5")
    assert "The disk is full." in page.result.message.text.text()
    assert "step 4" in page.result.message.hint.text()
    assert page.result.resume.isVisible()
    assert not page.result.generate.isVisible()


def test_after_a_run_lengths_are_estimated_and_say_so(page: BuildPanel, session: FakeSession, qtbot: QtBot) -> None:
    assert "estimated from" not in page.setup.architecture.time.text()
    click(qtbot, page.start_button)
    finish(page, session, qtbot)
    assert "per step (estimated from an earlier run)" in page.setup.architecture.time.text()
    assert "(estimated)" in page.setup.length.length.text()


# ---- words ---------------------------------------------------------------------------------------------------------


def test_lengths_in_words() -> None:
    steps = PretrainConfig(max_steps=100)
    assert length_words(steps, 0, None) == "32 × 128 = 4,096 tokens per step; 100 steps read 409.6 k tokens."
    assert "0.819 passes" in length_words(steps, 500_000, None)
    assert "by heart" not in length_words(steps, 500_000, None)
    assert "by heart" in length_words(steps, 50_000, None)
    assert "about 50 s (estimated)" in length_words(steps, 0, 0.5)
    assert "about 120 steps" in length_words(PretrainConfig(max_minutes=1.0), 0, 0.5)


def test_memory_is_compared_with_what_is_free() -> None:
    accounting = account(PRESETS["tiny-llama"].config)
    assert memory_problem(accounting, 1, 1e9) == ""
    assert "26.4 MB" in memory_problem(accounting, 2, 1e6)


# ---- everyone ------------------------------------------------------------------------------------------------------


def test_every_control_has_a_name(page: BuildPanel, session: FakeSession, qtbot: QtBot) -> None:
    from PySide6.QtGui import QAccessible

    page.setup.variant.switch.setChecked(True)
    page.setup.variant.change("norm", page.setup.model.norm.registry.choose("layernorm"))
    for kind in (QAbstractButton, QComboBox, QLineEdit, QAbstractSpinBox):
        for widget in page.findChildren(kind):
            if widget.focusPolicy() & Qt.FocusPolicy.TabFocus and not widget.objectName().startswith("qt_"):
                assert QAccessible.queryAccessibleInterface(widget).text(QAccessible.Text.Name), widget


@pytest.mark.parametrize("width", [520, 900])
def test_nothing_is_wider_than_the_page(open_page: Callable[..., BuildPanel], session: FakeSession, qtbot: QtBot, width: int) -> None:
    page = open_page(session, width)
    ready(page, qtbot)
    assert page.setup.columns.side_by_side is (width == 900)
    inside: QWidget = page._scrolls[0].widget()
    assert inside.minimumSizeHint().width() <= page._scrolls[0].viewport().width()
