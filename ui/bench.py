"""The window's own figures: how soon it is there, and how late its event loop runs while the engine works.

python -m ui.bench [--home FOLDER] [--model MODEL]      prints one JSON object; `python -m workbench bench ui` calls this
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

_STARTED = time.perf_counter()
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
if not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

import psutil  # noqa: E402  (the environment is set before Qt is imported)
from PySide6.QtCore import QCoreApplication, QEvent, QEventLoop, QObject, Qt, QTimer  # noqa: E402

from ui.app import Launch, Program, make_application  # noqa: E402

TICK_MS: Final = 10
SPAN_SECONDS: Final = 10.0
QUANTILES: Final = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "max": 1.0}


class Lateness(QObject):
    """A precise 10-ms timer in the GUI thread: how much later than due each tick comes, and what the thread itself costs."""

    def __init__(self) -> None:
        super().__init__()
        self._timer = QTimer(self, timerType=Qt.TimerType.PreciseTimer, interval=TICK_MS)
        self._timer.timeout.connect(self._tick)
        self._late: list[float] = []
        self._last = 0.0

    def _tick(self) -> None:
        now = time.perf_counter()
        self._late.append(max(0.0, 1000 * (now - self._last) - TICK_MS))
        self._last = now

    def over(self, seconds: float, name: str) -> dict[str, Any]:
        """Watch for so long; milliseconds late, and the GUI thread's share of the time."""
        self._late, self._last = [], time.perf_counter()
        cpu, began = time.thread_time(), time.perf_counter()
        stolen = _stolen()
        self._timer.start()
        spin(seconds)
        self._timer.stop()
        share = (time.thread_time() - cpu) / (time.perf_counter() - began)
        late = sorted(self._late)
        cuts = {f"late_{label}_ms": round(late[int(part * (len(late) - 1))], 1) for label, part in QUANTILES.items()}
        taken = round(100 * (_stolen() - stolen) / seconds, 1)
        return {"figure": name, **cuts, "gui_thread_percent": round(100 * share, 1), "stolen_percent": taken}


def _stolen() -> float:
    """Seconds the hypervisor took from this machine's processors so far, per processor."""
    times: Any = psutil.cpu_times()
    return float(getattr(times, "steal", 0.0)) / (psutil.cpu_count() or 1)


def spin(seconds: float) -> None:
    loop = QEventLoop()
    QTimer.singleShot(round(1000 * seconds), loop.quit)
    loop.exec()


def spin_until(condition: Callable[[], object], seconds: float) -> None:
    """Run the event loop until the condition holds; `TimeoutError` when it does not."""
    until = time.perf_counter() + seconds
    while not condition():
        if time.perf_counter() > until:
            raise TimeoutError("the window did not get there in time")
        spin(0.02)


def measure(program: Program, model: str, borrow: Callable[[], None]) -> list[dict[str, Any]]:
    """All figures, in the order in which a person would meet them. `borrow` brings the models to a program that started without any."""
    painted: list[float] = []
    # Ahead of the program's own slot, which builds the panels behind the first paint.
    program.window.painted.disconnect(program._after_first_paint)
    program.window.painted.connect(lambda: painted.append(time.perf_counter()))
    program.window.painted.connect(program._after_first_paint)
    program.start()
    spin_until(lambda: painted and program.window.panels, 30)
    rows: list[dict[str, Any]] = [
        {"figure": "process start to first paint", "seconds": round(painted[0] - _STARTED, 2)},
        {"figure": "process start to all panels", "seconds": round(time.perf_counter() - _STARTED, 2)},
    ]
    spin_until(lambda: program.services.session is not None, 120)
    services = program.services
    rows.append({"figure": "process start to engine ready", "seconds": round(time.perf_counter() - _STARTED, 2)})
    spin_until(lambda: not services.jobs.jobs, 120)
    memory = round(psutil.Process().memory_info().rss / 2**20)
    rows.append({"figure": "memory with the engine, no model", "mebibytes": memory})
    borrow()
    services.bus.open_model.emit(services.session.library.resolve(model))
    spin_until(lambda: services.session.model is not None and not services.jobs.jobs, 120)
    spin(1.0)
    late = Lateness()
    rows.append(late.over(SPAN_SECONDS, "event loop, idle"))
    rows.append(_while(program, late, "chat", _chat, "event loop, generating"))
    rows.append(_while(program, late, "train", _train, "event loop, training"))
    rows.append(_repricing(services.session))
    rows.append(_toggling(program))
    return rows


def _while(program: Program, late: Lateness, lane: str, start: Callable[[Program], None], name: str) -> dict[str, Any]:
    """Lateness while a job of that lane runs; the job is stopped afterwards."""
    start(program)
    jobs = program.services.jobs
    seen: list[Any] = []
    program.services.bus.events.connect(seen.extend)
    spin_until(lambda: any(e.name in ("token", "step") for e in seen), 120)
    found = late.over(SPAN_SECONDS, name)
    for job in [j for j in jobs.jobs if j.lane == lane]:
        job.stop(save=False)
    spin_until(lambda: not jobs.jobs, 60)
    return found


def _chat(program: Program) -> None:
    panel: Any = program.window.panels["chat"]
    panel.controller.set_generation(replace(panel.controller.generation, max_new_tokens=1000, do_sample=True))
    panel.controller.send("Write a very long story about a lighthouse keeper and the sea.")


def _train(program: Program) -> None:
    panel: Any = program.window.panels["finetune"]
    spin_until(panel.start_button.isEnabled, 60)
    panel.start()


def _repricing(session: Any) -> dict[str, Any]:
    """What one toggle of the architecture costs before it is drawn."""
    config, times = session.model.config, []
    for number in range(20):
        started = time.perf_counter()
        session.account(replace(config, tie_embeddings=number % 2 == 0, n_kv_heads=3 if number % 3 else 9))
        times.append(1000 * (time.perf_counter() - started))
    return {"figure": "a toggle re-prices", "milliseconds": round(statistics.median(times), 2)}


def _toggling(program: Program) -> dict[str, Any]:
    """One toggle in the Model panel: priced, planned against the loaded model, laid out, and diagram and table painted."""
    editor: Any = program.window.panels["architecture"].editor
    config, wall, own = editor.home.config, [], []
    changes = ({"residual": "post"}, {"tie_embeddings": not config.tie_embeddings}, {"norm": "layernorm"}, {"position": "alibi"}, {})
    for number in range(20):
        started, cpu = time.perf_counter(), time.thread_time()
        editor.form.take(replace(config, **changes[number % len(changes)]))
        QCoreApplication.sendPostedEvents(None, QEvent.Type.LayoutRequest)
        editor.diagram.repaint()
        editor.table.viewport().repaint()
        wall.append(1000 * (time.perf_counter() - started))
        own.append(1000 * (time.thread_time() - cpu))
    editor.reset()
    found = {"milliseconds": round(statistics.median(wall), 1), "max_ms": round(max(wall), 1)}
    return {"figure": "a toggle is priced, planned and drawn", **found, "gui_thread_ms": round(statistics.median(own), 1)}


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure the window.")
    parser.add_argument("--home", type=Path, help="Data folder that has the model.")
    parser.add_argument("--model", default="starter")
    args = parser.parse_args()
    app = make_application()
    with tempfile.TemporaryDirectory() as scratch:
        home = Path(scratch)
        program = Program(app, Launch(home=home, theme="light"))
        try:
            rows = measure(program, args.model, partial(_borrow_models, args.home, home))
        finally:
            program.window.closing.without_asking()
            program.window.close()
            program.services.jobs.shutdown(save=False)
            spin_until(lambda: not program.services.jobs.jobs, 60)
    print(json.dumps({"rows": rows}))
    return 0


def _borrow_models(source: Path | None, home: Path) -> None:
    """The user's models in a home of its own, so that measuring leaves no chats, runs or settings behind."""
    from workbench.library import Library

    models = Library(source).models_folder
    if models.is_dir():
        (home / "models").symlink_to(models, target_is_directory=True)


if __name__ == "__main__":
    sys.exit(main())
