"""A run on disk: manifest, metrics, one writer at a time."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from workbench.core.errors import BusyError, FileError
from workbench.core.events import Phase
from workbench.runs import fresh_folder, is_held, list_runs, open_run, read_metrics, writing
from workbench.training import StepEvent


def step(number: int, loss: float) -> StepEvent:
    return StepEvent(step=number, of=3, tokens=9, trained_tokens=4, seconds=0.1, eta_seconds=1.0, metrics={"loss": loss})


def test_a_run_tells_what_was_asked_and_measured(tmp_path: Path) -> None:
    with writing(tmp_path / "a", {"lora": {"r": 4}}, {"name": "tiny"}, resume=False) as run:
        assert open_run(tmp_path / "a").status == "running"
        run.record(Phase(word="Training"))
        run.record(step(1, 2.5))
        run.record(step(2, 2.25))
        run.update(status="done")
    info = open_run(tmp_path / "a")
    assert (info.status, info.steps, info.of, info.loss) == ("done", 2, 3, 2.25)
    assert info.manifest["request"] == {"lora": {"r": 4}}
    assert info.manifest["versions"]["torch"]
    assert [e["metrics"]["loss"] for e in read_metrics(tmp_path / "a")] == [2.5, 2.25]
    json.dumps(info.to_json())


def test_a_failure_is_recorded_and_goes_on(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no luck"), writing(tmp_path / "a", {}, {}, resume=False):
        raise ValueError("no luck")
    info = open_run(tmp_path / "a")
    assert (info.status, info.message) == ("failed", "no luck")


def test_a_run_nobody_holds_any_more_was_interrupted(tmp_path: Path) -> None:
    with writing(tmp_path / "a", {}, {}, resume=False):
        assert is_held(tmp_path / "a")
    assert open_run(tmp_path / "a").status == "interrupted"  # left without a word


def test_a_second_writer_is_refused(tmp_path: Path) -> None:
    with (
        writing(tmp_path / "a", {}, {}, resume=False) as run,
        pytest.raises(BusyError, match="another run"),
        writing(tmp_path / "a", {}, {}, resume=True),
    ):
        raise AssertionError("both hold the folder")
    assert run.manifest["status"] == "running"


def test_a_fresh_run_does_not_land_on_an_old_one(tmp_path: Path) -> None:
    with writing(tmp_path / "a", {}, {}, resume=False):
        pass
    with pytest.raises(FileError, match="already holds a run"), writing(tmp_path / "a", {}, {}, resume=False):
        raise AssertionError("it was let in")


def test_a_cut_last_line_is_passed_over(tmp_path: Path) -> None:
    with writing(tmp_path / "a", {}, {}, resume=False) as run:
        run.record(step(1, 2.0))
    with open(tmp_path / "a" / "metrics.jsonl", "a", encoding="utf-8") as file:
        file.write('{"event": "step", "st')
    assert len(list(read_metrics(tmp_path / "a"))) == 1


def test_a_resumed_run_records_its_repeated_steps_once(tmp_path: Path) -> None:
    """Killed after step 3 with a checkpoint at 1, in the middle of a line: steps 2 and 3 are done again."""
    with writing(tmp_path / "a", {}, {}, resume=False) as run:
        for number in (1, 2, 3):
            run.record(step(number, 10.0 + number))
    with open(tmp_path / "a" / "metrics.jsonl", "a", encoding="utf-8") as file:
        file.write('{"event": "step", "st')
    with writing(tmp_path / "a", {}, {}, resume=True) as run:
        assert len(list(read_metrics(tmp_path / "a"))) == 3, "nothing is forgotten before the run really goes on"
        run.record(step(2, 20.0))
        run.record(step(3, 30.0))
    assert [(e["step"], e["metrics"]["loss"]) for e in read_metrics(tmp_path / "a")] == [(1, 11.0), (2, 20.0), (3, 30.0)]


def test_a_list_is_newest_first_and_skips_what_is_damaged(tmp_path: Path) -> None:
    for name in ("a", "b"):
        with writing(tmp_path / name, {}, {}, resume=False):
            pass
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "run.json").write_text("not json")
    assert [r.name for r in list_runs(tmp_path)] == ["b", "a"]


def test_fresh_folders_never_collide(tmp_path: Path) -> None:
    first = fresh_folder(tmp_path, "lora")
    first.mkdir()
    assert fresh_folder(tmp_path, "lora") != first
