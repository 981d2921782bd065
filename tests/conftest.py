"""What every test gets: an offscreen Qt, an own data folder, quiet threads, and no thread, error log or setting left behind."""

from __future__ import annotations

import gc
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

# Before Qt and torch are imported: no screen is needed, and waiting OpenMP threads give their core back.
os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

ON_CI = os.environ.get("CI", "").lower() in ("1", "true")
USER_HOME = os.environ.get("WORKBENCH_HOME")  # where the starter model of this machine lies; tests write elsewhere
THREADS = 2  # of torch: the same on every machine, and never all cores of a small one
LEAVE_SECONDS = 2.0  # how long a stopped thread may take to end


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Cheap tests first: a broken rule is seen before a model is loaded."""
    items.sort(key=lambda item: any(item.get_closest_marker(name) for name in ("starter", "parity", "slow")))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skips of this folder's markers: a missing device or peer is named, and is an error where CI must have it."""
    if item.get_closest_marker("gpu"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("needs a CUDA device")
    if item.get_closest_marker("parity") and not ON_CI:
        pytest.importorskip("transformers", reason="parity needs transformers: pip install -e .[parity]")
        pytest.importorskip("peft", reason="parity needs peft: pip install -e .[parity]")


# ---- folders -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session", autouse=True)
def _no_test_writes_into_the_users_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WORKBENCH_HOME", str(tmp_path_factory.mktemp("home")))
        yield


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty data folder that is the workbench's home for this test."""
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("WORKBENCH_HOME", str(folder))
    return folder


@pytest.fixture(scope="session")
def starter_path() -> Path:
    """The starter model's GGUF: `WORKBENCH_STARTER_GGUF`, or what the user's library has installed."""
    given = os.environ.get("WORKBENCH_STARTER_GGUF")
    if given:
        return Path(given)
    from workbench.core.errors import WorkbenchError
    from workbench.library import Library, default_home

    try:
        return Library(Path(USER_HOME) if USER_HOME else default_home({})).resolve("starter")
    except WorkbenchError as error:
        if ON_CI:
            pytest.fail(f"CI must have the starter model: {error}")
        pytest.skip(f"the starter model is not installed: {error}")


@pytest.fixture
def starter_home(home: Path, starter_path: Path) -> Path:
    """`home` with the starter model installed in it (linked, not copied)."""
    from workbench.library import CATALOGUE, Library

    target = Library(home).path_of(CATALOGUE["starter"])
    target.parent.mkdir(parents=True, exist_ok=True)
    os.symlink(starter_path, target)
    return home


# ---- torch -------------------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _torch_as_it_was() -> Iterator[None]:
    """Tests share one torch: few threads, and the default dtype and grad mode found again as they were."""
    torch: Any = sys.modules.get("torch")
    if torch is not None and torch.get_num_threads() != THREADS:
        torch.set_num_threads(THREADS)
    yield
    torch = sys.modules.get("torch")
    if torch is not None:
        found = (torch.get_default_dtype(), torch.is_grad_enabled())
        torch.set_default_dtype(torch.float32)
        torch.set_grad_enabled(True)
        assert found == (torch.float32, True), f"the test left torch's default dtype and grad mode at {found}"


# ---- garbage -----------------------------------------------------------------------------------------------------

FULL_COLLECTION_EVERY = 40
_qt_tests = iter(range(1, 1_000_000))


@pytest.fixture(autouse=True)
def _garbage_is_collected_on_the_gui_thread(request: pytest.FixtureRequest) -> Iterator[None]:
    """Python's collector runs in whichever thread allocates. In a worker's it destroys widgets there, which deadlocks now and
    then with the GUI thread (the one waits for the interpreter, the other for Qt's lock); `ui.garbage` keeps the program from
    it, and this the tests."""
    if not {"qtbot", "qapp"} & set(request.fixturenames):
        yield
        return
    gc.disable()
    yield
    gc.collect(2 if next(_qt_tests) % FULL_COLLECTION_EVERY == 0 else 1)
    gc.enable()


# ---- nothing left behind -----------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _no_error_is_logged(request: pytest.FixtureRequest) -> Iterator[None]:
    """An error in the log fails the test; one that expects errors asks for `caplog` and looks at them."""
    if "caplog" in request.fixturenames:
        yield
        return
    records: list[logging.LogRecord] = []
    handler = logging.Handler(logging.ERROR)
    handler.emit = records.append  # type: ignore[method-assign]
    logging.getLogger().addHandler(handler)
    yield
    logging.getLogger().removeHandler(handler)
    assert not records, "errors were logged: " + "; ".join(r.getMessage() for r in records)


def _wait_until(condition: Callable[[], bool]) -> bool:
    until = time.monotonic() + LEAVE_SECONDS
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(0.01)
    return True


@pytest.fixture(autouse=True)
def _no_thread_is_left(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A test that leaves a Python thread, a QThread or a pooled Qt job running fails."""
    from PySide6.QtCore import QThread, QThreadPool

    started: list[QThread] = []
    plain_start = QThread.start

    def start(self: QThread, *args: Any) -> None:
        started.append(self)
        plain_start(self, *args)

    monkeypatch.setattr(QThread, "start", start)
    before = set(threading.enumerate())
    yield
    left = [t for t in threading.enumerate() if t not in before and not _is_library_thread(t)]
    for thread in left:
        thread.join(LEAVE_SECONDS)
    names = [t.name for t in left if t.is_alive()]
    names += [f"QThread {t.objectName()!r}" for t in started if not _wait_until(lambda t=t: not _is_running(t))]  # type: ignore[misc]
    assert not names, f"the test left threads running: {', '.join(names)}"
    assert QThreadPool.globalInstance().waitForDone(int(LEAVE_SECONDS * 1000)), "the test left jobs in Qt's thread pool"


def _is_library_thread(thread: threading.Thread) -> bool:
    """Threads that libraries keep for the life of the process, and shadows of threads Python did not start."""
    return isinstance(thread, threading._DummyThread) or type(thread).__module__.startswith("tqdm")


def _is_running(thread: Any) -> bool:
    import shiboken6

    return bool(shiboken6.isValid(thread) and thread.isRunning())
