"""Configurations with values of any type: understood or refused, and one damaged model never hides the others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from workbench.appraisal import appraise
from workbench.checkpoints import inspect_checkpoint, save_checkpoint
from workbench.core.errors import FileError, ModelError, WorkbenchError
from workbench.model import ModelConfig, build_model

VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 7, 10**30, 10**400, -(10**400), 1.5, "x", "", [], [1], ["a"], {}, {"kind": "x"}, {"kind": ["a"]}, {"kind": []},
    {"kind": "rope", "base": 10**400}, {"kind": "rope", "scaling": {"kind": {}}}, {"kind": "rmsnorm", "eps": []},
)  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    config = ModelConfig(vocab_size=32, n_layers=1, d_model=16, n_heads=4, d_ff=24, max_positions=16)
    save_checkpoint(build_model(config, seed=1), None, None, tmp_path / "m")
    return tmp_path / "m"


def test_our_own_configuration_with_any_value_is_understood_or_refused(folder: Path) -> None:
    plain = json.loads((folder / "workbench.json").read_text())
    refused = 0
    for key in plain["model"]:
        for value in VALUES:
            (folder / "workbench.json").write_text(json.dumps({**plain, "model": {**plain["model"], key: value}}))
            try:
                inspect_checkpoint(folder)
            except (FileError, ModelError) as error:
                refused += bool(error.hint)
    assert refused > 400


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"norm": {"kind": ["a"]}}, r"There is no norm \['a'\]"),
        ({"qk_norm": []}, r"cannot be \[\]"),
        ({"attention_scale": 10**400}, "is inf"),
    ],
)
def test_what_has_no_hash_or_no_float_is_named(folder: Path, settings: dict[str, Any], says: str) -> None:
    plain = json.loads((folder / "workbench.json").read_text())
    (folder / "workbench.json").write_text(json.dumps({**plain, "model": {**plain["model"], **settings}}))
    with pytest.raises(WorkbenchError, match=says):
        inspect_checkpoint(folder)
    assert appraise(folder).problem


@pytest.mark.parametrize(
    "text",
    [
        '{"model_type": "llama", "vocab_size": ' + "9" * 5000 + "}",
        '{"model_type": "llama", "hidden_size": "a"}',
        '{"model_type": "llama", "rope_scaling": {"rope_type": ["a"]}}',
        '{"model_type": ["a"]}',
    ],
    ids=["digits", "text", "list", "kind"],
)
def test_a_damaged_folder_is_a_line_of_the_list(folder: Path, text: str) -> None:
    (folder / "workbench.json").unlink()
    (folder / "config.json").write_text(text)
    assert appraise(folder).problem
