"""The program as a whole: order of the start, what the command line asks for, and every way it may end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PySide6.QtGui import QImage
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from ui.__main__ import parser
from ui.app import Launch, Program
from ui.crash import LAST, LOG_FILE, CrashGuard
from ui.settings import Settings
from workbench.core.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]
WITH_FAKE_SESSION = """
import sys
from pathlib import Path
from types import SimpleNamespace
from ui import app
session = SimpleNamespace(compute=SimpleNamespace(label="CPU", reason="float32"))
{more}
sys.exit(app.run(app.Launch(home=Path(sys.argv[1]), screenshot={screenshot}), lambda settings: session))
"""


@pytest.fixture
def program(qapp: QApplication, qtbot: QtBot, tmp_path: Path, fake_panels: None, fake_session: Any) -> Iterator[Program]:
    made = Program(qapp, Launch(home=tmp_path, model=Path("some.gguf"), theme="dark"), lambda settings: fake_session)
    qtbot.addWidget(made.window)
    yield made
    made.window.closing.without_asking()
    made.services.jobs.shutdown()
    qtbot.waitUntil(lambda: not made.services.jobs.jobs)


class TestStart:
    def test_window_then_panels_then_engine_then_model(self, program: Program, qtbot: QtBot, fake_session: Any) -> None:
        order: list[str] = []
        program.window.painted.connect(lambda: order.append("painted"))
        program.services.bus.job_started.connect(lambda job: order.append(f"engine, with {len(program.window.panels) > 0} panels"))
        program.services.bus.engine_ready.connect(lambda session: order.append("ready"))
        with qtbot.waitSignal(program.services.bus.open_model, timeout=5000) as opened:
            program.start()
        assert order[:3] == ["painted", "engine, with True panels", "ready"]
        assert opened.args == [Path("some.gguf")]
        assert program.services.engine is fake_session

    def test_the_theme_flag_is_not_remembered(self, program: Program) -> None:
        assert program.services.theme.dark
        assert program.services.settings.value.theme == "system"

    def test_the_engine_is_refused_until_it_is_there(self, program: Program) -> None:
        with pytest.raises(Exception, match="still loading"):
            _ = program.services.engine

    def test_an_engine_that_does_not_load_is_said_and_the_window_lives(self, program: Program, qtbot: QtBot) -> None:
        def broken(settings: Settings) -> Any:
            raise ConfigError("There is no device 'cuda'.", hint="Choose cpu.")

        program._make_session = broken
        with qtbot.waitSignal(program.services.bus.engine_failed, timeout=5000), qtbot.waitSignal(program.services.notify.posted) as shown:
            program.start()
        assert "There is no device" in shown.args[0].text
        assert program.window.status.device.text() == "The engine did not load"
        assert program.exit_code == 1

    def test_a_broken_installation_points_to_the_doctor(self, program: Program, qtbot: QtBot) -> None:
        def broken(settings: Settings) -> Any:
            raise ImportError("No module named 'torch'")

        program._make_session = broken
        with qtbot.waitSignal(program.services.notify.posted, timeout=5000) as shown:
            program.start()
        assert "No module named 'torch'" in shown.args[0].text
        assert "doctor" in shown.args[0].hint

    def test_damaged_settings_are_said(self, qapp: QApplication, tmp_path: Path, fake_panels: None, qtbot: QtBot) -> None:
        (tmp_path / "config").mkdir()
        (tmp_path / "config" / "preferences.json").write_text("nonsense")
        program = Program(qapp, Launch(home=tmp_path), lambda settings: None)
        qtbot.addWidget(program.window)
        with qtbot.waitSignal(program.services.notify.posted) as shown:
            program.start()
        assert "defaults are used" in shown.args[0].text
        program.services.jobs.shutdown()
        qtbot.waitUntil(lambda: not program.services.jobs.jobs)


def test_the_flags_are_understood() -> None:
    given = parser().parse_args(["--home", "h", "--model", "m.gguf", "--theme", "dark", "--screenshot", "s"])
    assert (given.home, given.model, given.theme, given.screenshot) == (Path("h"), Path("m.gguf"), "dark", Path("s"))
    with pytest.raises(SystemExit):
        parser().parse_args(["--theme", "pink"])


def _run(code: str, *arguments: object, **environ: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(ROOT), "QT_QPA_PLATFORM": "offscreen", **environ}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, env={k: v for k, v in env.items() if v}, capture_output=True, text=True, timeout=60, check=False)


def test_without_a_display_it_says_so_instead_of_aborting(tmp_path: Path) -> None:
    if not sys.platform.startswith("linux"):
        pytest.skip("only Linux needs a display server")
    code = "import sys; from ui.__main__ import main; sys.exit(main([]))"
    ended = _run(code, QT_QPA_PLATFORM="", DISPLAY="", WAYLAND_DISPLAY="", HOME=str(tmp_path))
    assert ended.returncode == 2
    assert "display" in ended.stderr.lower() or "librar" in ended.stderr.lower()
    assert "Traceback" not in ended.stderr


@pytest.mark.slow
class TestWholeProcess:
    def test_pictures_are_taken_and_nothing_is_left_behind(self, tmp_path: Path) -> None:
        code = WITH_FAKE_SESSION.format(more="", screenshot="Path(sys.argv[1]) / 'shots'")
        ended = _run(code, tmp_path)
        assert ended.returncode == 0, ended.stderr
        light, dark = (QImage(str(tmp_path / "shots" / f"window-{m}.png")) for m in ("light", "dark"))
        assert light.size() == dark.size()
        assert (light.width(), light.height()) == (1440, 900)
        assert light.pixelColor(700, 150).lightness() > 200 > 80 > dark.pixelColor(700, 150).lightness()
        assert sorted(p.name for p in (tmp_path / "logs").iterdir()) == [LOG_FILE]
        assert (tmp_path / "config" / "window.json").exists()
        assert "Traceback" not in ended.stderr

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_a_signal_saves_and_closes(self, tmp_path: Path, number: signal.Signals) -> None:
        more = (
            "import os\n"
            "old = app.Program._on_engine\n"
            "def ready(self, s):\n    old(self, s)\n"
            "    def train(control):\n"
            "        from workbench.core.events import Phase\n"
            "        yield Phase(word='Training')\n"
            f"        os.kill(os.getpid(), {int(number)})\n"
            "        control._stop.wait(20)\n"
            "        Path(sys.argv[1], 'saved').write_text(str(control.save_on_stop))\n"
            "    self.services.jobs.start('run', train, 'train')\n"
            "app.Program._on_engine = ready\n"
        )
        ended = _run(WITH_FAKE_SESSION.format(more=more, screenshot="None"), tmp_path)
        assert ended.returncode == 0, ended.stderr
        assert (tmp_path / "saved").read_text() == "True"

    def test_a_crash_is_told_on_the_next_start(self, tmp_path: Path) -> None:
        more = "import faulthandler; app.Program._on_engine = lambda self, s: faulthandler._sigabrt()"
        assert _run(WITH_FAKE_SESSION.format(more=more, screenshot="None"), tmp_path).returncode != 0
        code = WITH_FAKE_SESSION.format(more="", screenshot="Path(sys.argv[1]) / 'shots'")
        assert _run(code, tmp_path).returncode == 0
        assert "ended unexpectedly last time" in (tmp_path / "logs" / LOG_FILE).read_text()
        assert "Fatal Python error: Aborted" in (tmp_path / "logs" / LAST).read_text()


class TestCrashGuard:
    @pytest.fixture(autouse=True)
    def _keep_pytests_own(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("faulthandler.enable", lambda *args, **kwargs: None)
        monkeypatch.setattr("faulthandler.disable", lambda: None)

    def test_a_clean_end_leaves_nothing(self, tmp_path: Path) -> None:
        guard = CrashGuard(tmp_path)
        assert guard.found is None
        guard.close()
        guard.close()
        assert list(tmp_path.iterdir()) == []

    def test_a_trace_of_a_dead_process_is_found_once(self, tmp_path: Path) -> None:
        (tmp_path / "crash-999999999.log").write_text("Fatal Python error")
        guard = CrashGuard(tmp_path)
        assert guard.found == "Fatal Python error"
        guard.close()
        again = CrashGuard(tmp_path)
        assert again.found is None
        again.close()
        assert (tmp_path / LAST).read_text() == "Fatal Python error"

    def test_a_process_that_was_killed_leaves_an_empty_trace(self, tmp_path: Path) -> None:
        (tmp_path / "crash-999999999.log").touch()
        guard = CrashGuard(tmp_path)
        assert guard.found == ""
        guard.close()

    def test_another_window_that_is_open_is_no_crash(self, tmp_path: Path) -> None:
        (tmp_path / f"crash-{os.getppid()}.log").touch()
        guard = CrashGuard(tmp_path)
        assert guard.found is None
        guard.close()


class TestCollector:
    def test_cycles_are_collected_on_the_gui_thread_only(self, qtbot: QtBot) -> None:
        import gc
        import threading
        import weakref

        from ui.garbage import Collector

        class Node:
            pass

        before = gc.isenabled()
        collector = Collector()
        try:
            assert not gc.isenabled()
            node: Any = Node()
            node.itself = node
            thread_of_death: list[str] = []
            weakref.finalize(node, lambda: thread_of_death.append(threading.current_thread().name))
            del node
            worker = threading.Thread(target=lambda: [[] for _ in range(100_000)])
            worker.start()
            worker.join()
            assert thread_of_death == []
            keep = [[] for _ in range(3000)]  # enough new objects that a collection is due
            collector.check()
            assert thread_of_death == ["MainThread"]
            assert len(keep) == 3000
        finally:
            collector.close()
        assert gc.isenabled() == before
