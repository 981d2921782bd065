"""`pretrain` as a script calls it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from workbench.__main__ import main

SMALL = ["--set", "n_layers=1", "--set", "d_model=16", "--set", "n_heads=2", "--set", "n_kv_heads=2", "--set", "d_ff=24"]
SMALL += ["--tokenizer", "bytes", "--dtype", "float32"]
SHORT = ["--max-steps", "4", "--max-length", "16", "--per-device-train-batch-size", "4", "--sample-every", "2", "--sample-tokens", "4"]


@pytest.fixture
def text(tmp_path: Path) -> str:
    path = tmp_path / "text.txt"
    path.write_text("The cat is on the mat. " * 60)
    return str(path)


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_train_use_resume_and_list(text: str, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "run")
    assert main(["pretrain", text, "--preset", "tiny-llama", *SMALL, *SHORT, "--out", out, "--json"]) == 0
    events = lines(capsys)
    assert [e["step"] for e in events if e["event"] == "step"] == [1, 2, 3, 4]
    assert [e["step"] for e in events if e["event"] == "sample"] == [2, 4]
    done = events[-1]
    assert (done["event"], done["reason"], done["steps"]) == ("done", "done", 4)
    assert done["model"] == f"{out}/model"
    assert done["final"]["loss"] > 0
    for verb in (["generate", out, "--prompt", "The", "--max-new-tokens", "2"], ["inspect", out], ["score", out, text], ["runs"]):
        assert main([*verb, "--json"]) == 0, verb
    capsys.readouterr()
    assert main(["pretrain", "--resume", "--out", out, "--json"]) == 0, "what was asked is in the run"
    assert lines(capsys)[-1]["steps"] == 4
    assert main(["pretrain", "--resume", "--out", out, "--learning-rate", "1", "--json"]) == 1
    assert "learning_rate" in capsys.readouterr().err


def test_a_pair(text: str, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = str(tmp_path / "pair")
    toggles = ["--pair", "norm=layernorm", "--pair", "tie_embeddings=false"]
    assert main(["pretrain", text, *SMALL, *SHORT, *toggles, "--out", out, "--json"]) == 0
    events = lines(capsys)
    assert [(e["run"], e["step"]) for e in events if e["event"] == "step"] == [(run, n) for n in range(1, 5) for run in "AB"]
    assert {"loss_a", "loss_b", "loss_difference"} <= set(events[-1]["final"])
    assert set(events[-1]["runs"]) == {"A", "B"}
    assert main(["pretrain", "--resume", "--out", out, "--json"]) == 0
    assert main(["generate", f"{out}/B", "--prompt", "The", "--max-new-tokens", "2", "--json"]) == 0


def test_people_read_lines_and_samples(text: str, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pretrain", text, *SMALL, *SHORT, "--eval-steps", "2", "--out", str(tmp_path / "run")]) == 0
    out = capsys.readouterr().out
    assert "[sample 2]" in out
    assert "eval 4/4  eval_loss" in out
    assert "done after 4 steps; model:" in out


def test_steps_or_minutes(text: str, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pretrain", text, *SMALL, *SHORT, "--max-minutes", "0.01", "--out", str(tmp_path / "run"), "--json"]) == 0
    assert lines(capsys)[-1]["steps"] > 4
    assert main(["pretrain", "--resume", "--out", str(tmp_path / "run"), "--max-steps", "9", "--json"]) == 1
    assert "max_" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["--preset", "nonsense"], 2, "nonsense"),
        (["--set", "n_heads=7"], 2, "7 heads"),
        (["--pair", "nonsense=1"], 2, "nonsense"),
        (["--resume"], 2, "--out"),
        (["--tokenizer", "existing"], 2, "No model is named"),
        (["--tokenizer-of", "no-such-model"], 1, "no-such-model"),
    ],
)
def test_what_cannot_be_started(
    text: str, home: Path, arguments: list[str], status: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["pretrain", text, *arguments]) == status
    assert words in capsys.readouterr().err


def test_a_run_without_model_says_how_to_finish_it(text: str, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    main(["pretrain", text, *SMALL, *SHORT, "--out", str(out), "--json"])
    (out / "model" / "workbench.json").unlink()
    capsys.readouterr()
    assert main(["generate", str(out), "--prompt", "The"]) == 1
    assert "no finished model" in capsys.readouterr().err
