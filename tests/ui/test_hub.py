"""Models of this machine and of the hub: what a person sees and presses, against a hub that runs here."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PySide6.QtCore import QPoint, QRect, Qt
from PySide6.QtWidgets import QPushButton, QWidget
from pytestqt.qtbot import QtBot

from tests.library.hub_server import HubServer, Repo, hub_on_this_machine
from ui.hub.bits import words_of
from ui.hub.controller import Download, HubController
from ui.hub.rows import NARROW, ResultRow
from ui.hub.view import ModelsView
from ui.services import Services
from workbench.appraisal import Appraisal
from workbench.checkpoints import save_checkpoint
from workbench.hub import Hub
from workbench.hub.fetching import _request_name
from workbench.model import ModelConfig, build_model

LLAMA = json.dumps({"model_type": "llama"}).encode()
WEIGHTS = bytes(range(256)) * 4000  # 1 MB


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    with hub_on_this_machine(monkeypatch) as made:
        made.repos["acme/small"] = Repo(
            {"config.json": LLAMA, "model.safetensors": WEIGHTS}, downloads=1200, likes=1,
            info={"safetensors": {"parameters": {"BF16": 1000}, "total": 1000}},
        )  # fmt: skip
        made.repos["acme/small-GGUF"] = Repo({"a.Q4_0.gguf": b"GGUF" * 900, "b.Q8_0.gguf": b"GGUF" * 1800}, downloads=30)
        made.repos["acme/small-pickle"] = Repo({"config.json": LLAMA, "pytorch_model.bin": b"x"}, downloads=9)
        yield made


@pytest.fixture
def hub(services: Services, server: HubServer, qtbot: QtBot) -> HubController:
    """The window's controller, asking that hub."""
    services.models.library.hub = Hub(server.endpoint)
    controller: HubController = services.models.hub
    return controller


@pytest.fixture
def view(services: Services, hub: HubController, qtbot: QtBot) -> ModelsView:
    made = ModelsView(services)
    qtbot.addWidget(made)
    made.resize(800, 600)
    with qtbot.waitExposed(made):
        made.show()
    return made


def checkpoint(folder: Path) -> Path:
    config = ModelConfig(vocab_size=32, n_layers=1, d_model=16, n_heads=2, d_ff=24, max_positions=64)
    save_checkpoint(build_model(config, seed=1), None, None, folder, format="workbench")
    return folder


def idle(services: Services, qtbot: QtBot) -> None:
    qtbot.waitUntil(lambda: not services.jobs.jobs, timeout=5000)


def search(view: ModelsView, text: str, qtbot: QtBot) -> None:
    view.field.setText(text)
    qtbot.keyClick(view.field, Qt.Key.Key_Return)
    qtbot.waitUntil(lambda: view._hub.search.word in ("Done", "Failed"), timeout=5000)
    qtbot.waitUntil(lambda: len(view.results) == len(view._hub.search.results), timeout=5000)


def row_of(view: ModelsView, id: str) -> ResultRow:
    return next(row for row in view.results if row.model.id == id)


def press(button: QPushButton, qtbot: QtBot) -> None:
    qtbot.waitUntil(lambda: button.isVisible() and button.isEnabled())
    qtbot.mouseClick(button, Qt.MouseButton.LeftButton)


class TestSearch:
    def test_nothing_is_asked_before_enter(self, view: ModelsView, server: HubServer, qtbot: QtBot) -> None:
        view.field.setText("small")
        assert server.asked == []
        assert "Nothing is asked" in view.news.text()

    def test_results_say_what_the_hub_knows_and_whether_it_fits(self, view: ModelsView, qtbot: QtBot) -> None:
        search(view, "small", qtbot)
        assert [row.model.id for row in view.results] == ["acme/small", "acme/small-GGUF", "acme/small-pickle"]
        small, quants, pickle = view.results
        assert small.facts.text() == (
            "llama · 1 k parameters · 2.0 kB · safetensors · 1.2 k downloads · 1 like · updated 2026-03-04"
        )  # fmt: skip
        assert small.badge.text.text() == "fits · about 4.0 kB estimated"
        assert "without a cache" in small.badge.toolTip()
        assert quants.badge.text.text() == "size not known"
        assert (quants.get_button.isHidden(), quants.files_button.isHidden()) == (True, False)
        assert pickle.badge.text.text() == "cannot be opened"
        assert "pytorch_model.bin" in pickle.facts.text()
        assert (pickle.get_button.isHidden(), pickle.files_button.isHidden()) == (True, True)
        assert view.there.badge.text() == "3"
        assert not view.news.isVisible()

    def test_no_result_is_said(self, view: ModelsView, qtbot: QtBot) -> None:
        search(view, "zzz", qtbot)
        assert view.news.text() == "The hub has no model with “zzz” in its name."
        assert view.results == []

    def test_offline_is_said_in_place_and_the_next_try_works(
        self, view: ModelsView, services: Services, server: HubServer, qtbot: QtBot
    ) -> None:
        messages: list[Any] = []
        services.notify.posted.connect(messages.append)
        services.models.library.hub = Hub("http://127.0.0.1:9")
        search(view, "small", qtbot)
        assert "cannot be reached" in view.news.text()
        assert "Check the network" in view.news.text()
        assert messages == []
        services.models.library.hub = Hub(server.endpoint)
        press(view.again_button, qtbot)
        qtbot.waitUntil(lambda: len(view.results) == 3, timeout=5000)
        assert not view.again_button.isVisible()

    def test_escape_gives_a_search_up(self, view: ModelsView, hub: HubController, services: Services, qtbot: QtBot) -> None:
        hub.find("small")
        assert view.busy.isVisible()
        qtbot.keyClick(view, Qt.Key.Key_Escape)
        assert hub.search.word == ""
        assert not view.busy.isVisible()
        idle(services, qtbot)
        assert view.results == []

    def test_only_the_last_search_counts(self, view: ModelsView, hub: HubController, services: Services, qtbot: QtBot) -> None:
        hub.find("zzz")
        hub.find("pickle")
        qtbot.waitUntil(lambda: [row.model.id for row in view.results] == ["acme/small-pickle"], timeout=5000)
        idle(services, qtbot)
        assert hub.search.text == "pickle"

    def test_with_the_engine_unknown_architectures_are_told_apart(
        self, view: ModelsView, services: Services, server: HubServer, fake_session: Any, qtbot: QtBot
    ) -> None:
        server.repos["acme/odd"] = Repo({"config.json": b'{"model_type": "mamba"}', "model.safetensors": WEIGHTS})
        services.session = fake_session
        search(view, "odd", qtbot)
        assert "its architecture mamba is not known here" in row_of(view, "acme/odd").facts.text()


class TestDownload:
    def test_one_press_brings_it_and_it_is_listed(self, view: ModelsView, hub: HubController, services: Services, qtbot: QtBot) -> None:
        search(view, "small", qtbot)
        row = row_of(view, "acme/small")
        seen: list[Download] = []
        hub.downloads_changed.connect(seen.append)
        press(row.get_button, qtbot)
        assert not row.get_button.isVisible()
        assert row.line is not None
        assert row.line.isVisible()
        qtbot.waitUntil(lambda: row.get_button.text() == "Load", timeout=5000)
        assert not row.line.isVisible()
        assert seen[-1].path == services.models.library.models_folder / "acme" / "small"
        qtbot.waitUntil(lambda: [r.name.full_text for r in view.rows] == ["acme/small"], timeout=5000)
        opened: list[Any] = []
        services.models.open = opened.append
        press(row.get_button, qtbot)
        assert opened == ["acme/small"]

    def test_a_stop_keeps_what_came_and_resume_brings_the_rest(
        self, view: ModelsView, hub: HubController, services: Services, server: HubServer, qtbot: QtBot
    ) -> None:
        messages: list[Any] = []
        services.notify.posted.connect(messages.append)
        search(view, "small", qtbot)
        row = row_of(view, "acme/small")
        server.hold_after = 400_000
        press(row.get_button, qtbot)
        qtbot.waitUntil(server.holding.is_set, timeout=5000)
        assert row.line is not None
        line = row.line
        qtbot.waitUntil(lambda: "of 1.0 MB" in line.words.text(), timeout=5000)
        assert line.words.text().startswith("Downloading · ")
        press(line.stop_button, qtbot)
        idle(services, qtbot)
        assert line.words.text().startswith("Unfinished · ")
        assert hub.downloads["acme/small"].done > 300_000
        assert messages == []
        server.hold_after = None
        server.go_on.set()
        server.asked.clear()
        press(line.resume_button, qtbot)
        qtbot.waitUntil(lambda: row.get_button.text() == "Load", timeout=5000)
        assert server.ranges()[0].startswith("bytes=")

    def test_what_an_earlier_window_left_is_offered_and_can_be_thrown_away(
        self, view: ModelsView, hub: HubController, services: Services, qtbot: QtBot
    ) -> None:
        folder = services.models.library.places.downloads / "acme--other"
        folder.mkdir(parents=True)
        note = {"kind": "workbench download", "version": 1, "spec": "acme/other", "total": 1000, "keys": ["x"]}
        (folder / _request_name("acme/other")).write_text(json.dumps(note))
        (folder / "x.part").write_bytes(bytes(250))
        view.hide()
        view.show()
        assert view.moving.isVisible()
        assert view.lines["acme/other"].words.text() == "Unfinished · 250 B of 1.0 kB"
        press(view.lines["acme/other"].discard_button, qtbot)
        assert not folder.exists()
        assert not view.moving.isVisible()

    def test_files_fold_out_with_sizes_and_come_one_after_the_other(
        self, view: ModelsView, hub: HubController, services: Services, qtbot: QtBot
    ) -> None:
        search(view, "gguf", qtbot)
        row = row_of(view, "acme/small-GGUF")
        press(row.files_button, qtbot)
        qtbot.waitUntil(lambda: len(row.offers) == 2, timeout=5000)
        assert [o.label.full_text for o in row.offers.values()] == ["a.Q4_0.gguf  ·  3.6 kB", "b.Q8_0.gguf  ·  7.2 kB"]
        for line in row.offers.values():
            press(line.button, qtbot)
        assert sorted(d.word for d in hub.of_repo("acme/small-GGUF")) == ["Downloading", "Waiting"]
        qtbot.waitUntil(lambda: [o.button.text() for o in row.offers.values()] == ["Load", "Load"], timeout=5000)
        assert sorted(m.name for m in services.models.entries()) == ["acme/small-GGUF:a.Q4_0.gguf", "acme/small-GGUF:b.Q8_0.gguf"]

    def test_a_waiting_one_can_be_stopped(self, hub: HubController, services: Services, server: HubServer, qtbot: QtBot) -> None:
        server.hold_after = 0
        hub.download("acme/small-GGUF:a.Q4_0.gguf")
        hub.download("acme/small-GGUF:b.Q8_0.gguf")
        qtbot.waitUntil(server.holding.is_set, timeout=5000)
        hub.stop("acme/small-GGUF:b.Q8_0.gguf")
        hub.stop("acme/small-GGUF:a.Q4_0.gguf")
        idle(services, qtbot)
        assert {d.word for d in hub.downloads.values()} == {"Unfinished"}

    @pytest.mark.parametrize("watched", [True, False])
    def test_a_refusal_is_said_once_where_it_is_seen(
        self, hub: HubController, services: Services, server: HubServer, qtbot: QtBot, watched: bool
    ) -> None:
        messages: list[Any] = []
        services.notify.posted.connect(messages.append)
        server.repos["acme/gated"] = Repo({"config.json": LLAMA, "model.safetensors": WEIGHTS}, gated=True, token="good")
        hub.watched = watched
        hub.download("acme/gated")
        qtbot.waitUntil(lambda: hub.downloads["acme/gated"].word == "Failed", timeout=5000)
        idle(services, qtbot)
        assert "gated by its owner" in words_of(hub.downloads["acme/gated"])
        assert len(messages) == (0 if watched else 1)

    def test_files_that_cannot_be_asked_for_say_why(self, view: ModelsView, services: Services, server: HubServer, qtbot: QtBot) -> None:
        search(view, "gguf", qtbot)
        row = row_of(view, "acme/small-GGUF")
        server.status = 503
        press(row.files_button, qtbot)
        qtbot.waitUntil(lambda: "problem of its own" in row.news.text(), timeout=5000)
        server.status = None
        press(row.files_button, qtbot)
        press(row.files_button, qtbot)
        qtbot.waitUntil(lambda: len(row.offers) == 2, timeout=5000)


class TestOnThisMachine:
    def test_rows_say_what_a_model_is_once_the_engine_is_there(
        self, view: ModelsView, services: Services, fake_session: Any, qtbot: QtBot
    ) -> None:
        models = services.models.library.models_folder
        checkpoint(models / "mine")
        (models / "odd").mkdir()
        (models / "odd" / "config.json").write_text('{"model_type": "mamba"}')
        (models / "odd" / "model.safetensors").write_bytes(bytes(100))
        services.models.models_changed.emit()
        qtbot.waitUntil(lambda: len(view.rows) == 2)
        mine, odd = view.rows
        assert mine.badge.text.text().startswith("fits · about ")
        assert "its size on disk" in mine.badge.toolTip()
        services.session = fake_session
        services.bus.engine_ready.emit(fake_session)
        qtbot.waitUntil(lambda: odd.badge.text.text() == "cannot be opened", timeout=10000)
        assert "'mamba'" in odd.facts.text()
        assert not odd.load_button.isEnabled()
        assert mine.facts.text().startswith("workbench · ")
        assert "context 64 · no chat template" in mine.facts.text()
        assert "and a cache of 64 tokens" in mine.badge.toolTip()
        assert view.mine.badge.text().startswith("2 · ")
        idle(services, qtbot)

    def test_the_field_filters_and_says_when_nothing_is_left(self, view: ModelsView, services: Services, qtbot: QtBot) -> None:
        for name in ("one", "two"):
            checkpoint(services.models.library.models_folder / name)
        view.refresh()
        view.field.setText("ON")
        assert [row.isHidden() for row in view.rows] == [False, True]
        view.field.setText("three")
        assert view.empty.text() == "None of the 2 models here has “three” in its name."
        assert not view.starter_button.isVisible()

    def test_an_empty_library_offers_the_starter(self, view: ModelsView, qtbot: QtBot) -> None:
        assert view.empty.text() == "No model on this machine yet."
        assert view.starter_button.isVisible()

    def test_a_model_is_removed_on_the_second_press_and_lies_in_the_trash(self, view: ModelsView, services: Services, qtbot: QtBot) -> None:
        path = checkpoint(services.models.library.models_folder / "mine")
        view.refresh()
        (row,) = view.rows
        press(row.remove_button, qtbot)
        press(row.no_button, qtbot)
        assert path.is_dir()
        press(row.remove_button, qtbot)
        press(row.yes_button, qtbot)
        assert not path.exists()
        assert [p.name.endswith("-mine") for p in services.models.library.trash_folder.iterdir()] == [True]
        qtbot.waitUntil(lambda: view.rows == [])

    def test_the_model_in_use_stays(self, view: ModelsView, services: Services, fake_session: Any, qtbot: QtBot) -> None:
        path = checkpoint(services.models.library.models_folder / "mine")
        view.refresh()
        fake_session.model = SimpleNamespace(name="mine", path=path)
        services.session = fake_session
        view._show_states()
        (row,) = view.rows
        assert row.badge.text.text() == "in use"
        assert not row.load_button.isEnabled()
        assert not row.remove_button.isEnabled()
        assert row.remove_button.toolTip() == "Unload it first."

    def test_models_that_lie_elsewhere_are_not_the_librarys_to_remove(
        self, view: ModelsView, services: Services, tmp_path: Path, qtbot: QtBot
    ) -> None:
        services.models.library.remember(checkpoint(tmp_path / "elsewhere"))
        view.refresh()
        (row,) = view.rows
        assert row.remove_button.isHidden()
        assert "opened lately" in row.facts.text()

    def test_a_model_that_does_not_fit_is_told_by_word(self, view: ModelsView, services: Services, qtbot: QtBot) -> None:
        path = checkpoint(services.models.library.models_folder / "mine")
        services.models.hub.appraisals[path] = Appraisal("llama", 10**14, 10, 64, "float32", True)
        view.refresh()
        assert view.rows[0].badge.text.text().startswith("too large · ")
        assert "too large" in view.rows[0].badge.accessibleName()


def test_a_narrow_row_cuts_nothing_off(view: ModelsView, services: Services, qtbot: QtBot) -> None:
    checkpoint(services.models.library.models_folder / "a-model-with-quite-a-long-name")
    view.refresh()
    search(view, "small", qtbot)
    view.field.clear()
    for width in (NARROW - 180, NARROW + 300):
        view.resize(width, 600)
        qtbot.waitUntil(lambda: all(_uncut(row) for row in (*view.rows, *view.results)))


def _uncut(row: QWidget) -> bool:
    """Every button of a row is as wide as its words ask, and inside the row."""
    buttons = [b for b in row.findChildren(QPushButton) if b.isVisible()]
    inside = all(row.rect().contains(QRect(b.mapTo(row, QPoint(0, 0)), b.size())) for b in buttons)
    return inside and all(b.width() >= b.sizeHint().width() for b in buttons)


@pytest.mark.parametrize(
    ("download", "words"),
    [
        (Download("a/b", "Downloading", 5e6, 1e7, 2e6, 2.5), "Downloading · 5.0 MB of 10.0 MB · 2.0 MB/s · about 2.5 s left"),
        (Download("a/b", "Downloading", message="Checking a/b"), "Checking a/b"),
        (Download("a/b", "Stopping", 5e6, 1e7, 2e6, 2.5), "Stopping · 5.0 MB of 10.0 MB"),
        (Download("a/b", "Waiting"), "Waiting"),
        (Download("a/b", "Failed", message="The disk is full.", hint="Free some space."), "The disk is full. Free some space."),
    ],
)
def test_a_download_is_told_in_one_line(download: Download, words: str) -> None:
    assert words_of(download) == words
