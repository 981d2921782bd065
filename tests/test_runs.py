"""A run on disk: manifest, metrics, one writer at a time."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from workbench.core.errors import BusyError, FileError
from workbench.core.events import Phase
from workbench.runs import Run, fresh_folder, is_held, list_runs, open_run, read_metrics, writing
from workbench.training import StepEvent


def step(number: int, loss: float) -> StepEvent:
    return StepEvent(step=number, of=3, tokens=9, trained_tokens=4, seconds=0.1, eta_seconds=1.0, metrics={"loss": loss})


def checkpoint(folder: Path, name: str = "checkpoint-000001") -> None:
    (folder / name).mkdir(parents=True)
    (folder / name / "state.json").write_text("{}")


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
        checkpoint(tmp_path / "a")
    with pytest.raises(FileError, match="already holds a run"), writing(tmp_path / "a", {}, {}, resume=False):
        raise AssertionError("it was let in")
    (tmp_path / "b" / "adapter").mkdir(parents=True)
    with pytest.raises(FileError, match="already holds an adapter"), writing(tmp_path / "b", {}, {}, resume=False):
        raise AssertionError("it was let in")


def test_a_folder_whose_run_made_nothing_is_used_again(tmp_path: Path) -> None:
    with writing(tmp_path / "a", {"n": 1}, {}, resume=False) as run:
        run.record(step(1, 2.0))
    with writing(tmp_path / "a", {"n": 2}, {}, resume=False) as run:
        run.record(step(1, 3.0))
    assert open_run(tmp_path / "a").manifest["request"] == {"n": 2}
    assert [e["metrics"]["loss"] for e in read_metrics(tmp_path / "a")] == [3.0]


def test_a_resume_of_nothing_creates_nothing(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="no checkpoint"), writing(tmp_path / "new", {}, {}, resume=True):
        raise AssertionError("it was let in")
    assert not (tmp_path / "new").exists()


def test_a_refused_resume_keeps_the_record(tmp_path: Path) -> None:
    with writing(tmp_path / "a", {"n": 1}, {"name": "one"}, resume=False) as run:
        run.record(step(1, 2.0))
        run.update(status="done", final={"loss": 2.0})
    before = (tmp_path / "a" / "run.json").read_bytes()

    def refused(run: Run) -> None:
        run.update(data={"rows": 5})
        run.record(Phase(word="Loading"))
        raise FileError("other settings")

    with pytest.raises(FileError, match="other settings"), writing(tmp_path / "a", {"n": 2}, {"name": "two"}, resume=True) as run:
        refused(run)
    assert (tmp_path / "a" / "run.json").read_bytes() == before
    with writing(tmp_path / "a", {"n": 2}, {"name": "two"}, resume=True) as run:
        run.update(data={"rows": 5})
        run.record(Phase(word="Training"))
        info = open_run(tmp_path / "a")
    assert (info.status, info.manifest["request"], info.manifest["data"]) == ("running", {"n": 2}, {"rows": 5})


@pytest.mark.parametrize("error", [GeneratorExit, KeyboardInterrupt])
def test_who_leaves_stops_the_run(tmp_path: Path, error: type[BaseException]) -> None:
    with pytest.raises(error), writing(tmp_path / "a", {}, {}, resume=False):
        raise error
    info = open_run(tmp_path / "a")
    assert (info.status, info.message) == ("stopped", "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_while_recording_has_a_sentence(tmp_path: Path) -> None:
    with writing(tmp_path / "a", {}, {}, resume=False):
        pass
    (tmp_path / "a" / "metrics.jsonl").unlink()
    (tmp_path / "a" / "metrics.jsonl").symlink_to("/dev/full")

    def go_on(run: Run) -> None:
        run._repeats = False  # the step is new: nothing recorded gives way to it
        run.record(Phase(word="Training"))
        run.record(step(1, 1.0))

    with pytest.raises(FileError, match="disk is full"), writing(tmp_path / "a", {}, {}, resume=True) as run:
        go_on(run)
    (tmp_path / "a" / "metrics.jsonl").unlink()
    assert "disk is full" in open_run(tmp_path / "a").message


def test_what_a_crash_left_is_put_right_before_writing(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    checkpoint(folder, ".checkpoint-000003.old")
    (folder / ".adapter.abcd1234.part").mkdir()
    with writing(folder, {}, {}, resume=True):
        assert sorted(p.name for p in folder.iterdir() if p.is_dir()) == ["checkpoint-000003"]


@pytest.mark.parametrize("line", ["[]", "7", "null", '{"event": "step", "step": "x"}', '{"event": "step", "metrics": []}', "9" * 5000])
def test_a_line_that_is_no_event_is_passed_over(tmp_path: Path, line: str) -> None:
    with writing(tmp_path / "a", {}, {}, resume=False) as run:
        run.record(step(1, 2.0))
    with open(tmp_path / "a" / "metrics.jsonl", "ab") as file:
        file.write(line.encode() + b"\n\xff\xfe\n")
    assert [(r.steps, r.loss) for r in list_runs(tmp_path)] == [(1, 2.0)]


@pytest.mark.parametrize("wrong", [{"created": "yesterday"}, {"created": None}, {"status": 3}, {"request": []}])
def test_a_manifest_of_wrong_types_is_named_and_left_out(tmp_path: Path, wrong: dict[str, object]) -> None:
    for name in ("a", "b"):
        with writing(tmp_path / name, {}, {}, resume=False):
            pass
    path = tmp_path / "a" / "run.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **wrong}))
    with pytest.raises(FileError, match=f"damaged: {next(iter(wrong))} is"):
        open_run(tmp_path / "a")
    assert [r.name for r in list_runs(tmp_path)] == ["b"]


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
