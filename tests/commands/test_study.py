"""`study`: listed, done, written, and its options set from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from workbench.__main__ import main
from workbench.checkpoints import save_checkpoint
from workbench.model import ModelConfig, build_model
from workbench.tokenizers import ByteTokenizer


def test_the_list_names_every_study_with_its_options(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["study", "--list"]) == 0
    out = capsys.readouterr().out
    assert "norm-int8: Why INT8 skips the norms" in out
    assert "--set per_tensor=True" in out


def test_a_study_writes_its_table_and_says_its_verdict(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = build_model(ModelConfig(vocab_size=259, n_layers=1, d_model=16, n_heads=2, max_positions=64))
    save_checkpoint(model, ByteTokenizer(mask=False), None, tmp_path / "tiny")
    options = ["--set", "contrast=false", "--set", "tokens=32", "--set", "output=off"]
    verb = ["study", "norm-int8", "--model", str(tmp_path / "tiny"), *options, "--out", str(tmp_path / "out")]
    assert main([*verb, "--json"]) == 0
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert [Path(f).name for f in last["files"]] == ["table.csv", "norms.csv", "bytes.csv", "table.json", "figure.svg"]
    assert all(Path(f).is_file() for f in last["files"])
    assert len(last["table"]) == 1 + 2 + 3 + 3
    assert last["verdict"] == last["result"]["verdict"]
    assert main(verb) == 0
    assert last["verdict"] in capsys.readouterr().out


def test_what_cannot_be_done_is_said(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["study"]) == 2
    assert main(["study", "norm-int9"]) == 2
    assert main(["study", "norm-int8", "--model", "none", "--set", "contrast=no"]) != 0
    assert "no model to measure on" in capsys.readouterr().err
