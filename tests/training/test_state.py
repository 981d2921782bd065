"""Checkpoints: whole or not there, and each way to be damaged has its sentence."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from workbench.core.errors import FileError
from workbench.training import state as state_module
from workbench.training.state import (
    TrainState,
    checkpoints,
    load_state,
    newest_checkpoint,
    optimizer_tensors,
    restore_optimizer,
    restore_parameters,
    same_plan,
    save_state,
)


def state(step: int) -> TrainState:
    return TrainState(step, {"a": torch.full((2, 3), float(step))}, {"a/step": torch.tensor(3.0)}, {"loss": 0.5}, {"seed": 1})


def test_comes_back_bit_for_bit(tmp_path: Path) -> None:
    path = save_state(tmp_path, state(7), None, keep=2)
    found = load_state(path)
    assert (found.step, found.final, found.plan) == (7, {"loss": 0.5}, {"seed": 1})
    assert torch.equal(found.parameters["a"], state(7).parameters["a"])
    assert torch.equal(found.optimizer["a/step"], torch.tensor(3.0))
    assert {p.suffix for p in path.iterdir()} == {".safetensors", ".json"}, "nothing is pickled"


def test_an_optimizer_goes_on_as_if_never_stopped() -> None:
    def setting() -> tuple[dict[str, torch.Tensor], torch.optim.Optimizer]:
        parameter = torch.nn.Parameter(torch.arange(6.0).view(2, 3))
        return {"p": parameter}, torch.optim.AdamW([parameter], lr=0.1, fused=True)

    def update(parameters: dict[str, torch.Tensor], optimizer: torch.optim.Optimizer, number: int) -> None:
        parameters["p"].grad = torch.full((2, 3), float(number)) - parameters["p"].detach()
        optimizer.step()

    straight, one = setting()
    for number in range(4):
        update(straight, one, number)
    first, two = setting()
    for number in range(2):
        update(first, two, number)
    second, three = setting()
    with torch.no_grad():
        second["p"].copy_(first["p"])
    restore_optimizer(three, second, {k: v.clone() for k, v in optimizer_tensors(two, first).items()})
    for number in range(2, 4):
        update(second, three, number)
    assert torch.equal(second["p"], straight["p"])


def test_the_newest_is_found_by_number(tmp_path: Path) -> None:
    for step in (9, 10, 100):
        save_state(tmp_path, state(step), None, keep=10)
    (tmp_path / "checkpoint-000999").mkdir()  # begun by hand, holds nothing
    (tmp_path / "checkpoint-last").mkdir()
    assert [p.name for p in checkpoints(tmp_path)] == ["checkpoint-000009", "checkpoint-000010", "checkpoint-000100"]
    assert newest_checkpoint(tmp_path).name == "checkpoint-000100"


@pytest.mark.parametrize("stage", ["tensors", "export", "disk"])
def test_a_save_that_fails_loses_nothing_older(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str) -> None:
    save_state(tmp_path, state(1), None, keep=1)

    def export(path: Path) -> None:
        if stage == "export":
            raise KeyboardInterrupt

    def full(path: Path, tensors: Any) -> Iterator[int]:
        path.write_bytes(b"half")
        if stage == "disk":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        raise KeyboardInterrupt
        yield 0

    if stage != "export":
        monkeypatch.setattr(state_module, "write_safetensors", full)
    expected: Any = FileError if stage == "disk" else KeyboardInterrupt
    with pytest.raises(expected, match="disk is full" if stage == "disk" else None):
        save_state(tmp_path, state(2), export, keep=1)
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint-000001"]
    assert load_state(newest_checkpoint(tmp_path)).step == 1


@pytest.mark.parametrize("file", ["parameters.safetensors", "optimizer.safetensors", "state.json"])
@pytest.mark.parametrize("damage", ["cut", "missing"])
def test_a_damaged_one_is_named(tmp_path: Path, file: str, damage: str) -> None:
    path = save_state(tmp_path, state(1), None, keep=1)
    content = (path / file).read_bytes()
    (path / file).unlink()
    if damage == "cut":
        (path / file).write_bytes(content[: len(content) // 2])
    with pytest.raises(FileError) as caught:
        load_state(path)
    assert caught.value.hint


def test_a_plan_that_differs_names_the_setting() -> None:
    same_plan({"seed": 1, "r": 4}, {"seed": 1})
    with pytest.raises(FileError, match="seed = 1, not 2"):
        same_plan({"seed": 1}, {"seed": 2})


def test_a_plan_from_before_a_part_was_known_is_held_to_the_rest() -> None:
    same_plan({"seed": 1}, {"seed": 1, "base": "x"})
    with pytest.raises(FileError, match="base = 'y', not 'x'"):
        same_plan({"seed": 1, "base": "y"}, {"seed": 1, "base": "x"})


@pytest.mark.parametrize("shapes", [{}, {"a": (2, 3)}, {"a": (2, 3), "b": (1,)}], ids=["none", "one", "shape"])
def test_missing_and_misshapen_tensors_are_named(shapes: dict[str, tuple[int, ...]]) -> None:
    tensors = {name: torch.ones(shape) for name, shape in shapes.items()}
    parameters = {name: torch.zeros(2, 3) for name in ("a", "b")}
    with pytest.raises(FileError, match=r"The checkpoint does not fit: [ab] is"):
        restore_parameters(parameters, tensors)
    assert not any(p.any() for p in parameters.values()), "half of it was put back"


def test_a_half_optimizer_is_named() -> None:
    parameter = torch.nn.Parameter(torch.zeros(2))
    optimizer = torch.optim.AdamW([parameter])
    with pytest.raises(FileError, match=r"p/exp_avg_sq is missing"):
        restore_optimizer(optimizer, {"p": parameter}, {"p/exp_avg": torch.zeros(2), "p/step": torch.tensor(1.0)})


@pytest.mark.parametrize("change", [{"step": None}, {"final": []}, {"plan": "x"}])
def test_a_state_of_wrong_types_is_damaged(tmp_path: Path, change: dict[str, Any]) -> None:
    path = save_state(tmp_path, state(1), None, keep=1)
    data = json.loads((path / "state.json").read_text())
    (path / "state.json").write_text(json.dumps({**data, **change}))
    with pytest.raises(FileError, match=f"damaged .no {next(iter(change))}"):
        load_state(path)
