"""A run's state on disk: trained parameters, optimizer, and where in the data it is. Never pickled.

Each checkpoint is a folder that appears whole, by one rename; the newest whole one is where a run goes on.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from workbench.checkpoints.safetensors_file import Outgoing, write_safetensors
from workbench.core.errors import FileError
from workbench.core.store import atomic_folder, read_json, write_json

_KIND, _VERSION = "workbench training state", 1
_FOLDER = re.compile(r"checkpoint-(\d+)")
_MOMENTS = ("exp_avg", "exp_avg_sq", "step")
_SINCE = ("parameters", "base")
"""Parts of the plan that the first checkpoints lack; those are held to the others."""


_DAMAGED = "Delete it; the run goes on from the one before."


@dataclass
class TrainState:
    """`step` updates are in `parameters`; `final` holds the last value of each metric. `plan` is what the run was started
    with, so that a resume with other settings is refused instead of silently differing. `spent` are the seconds of a run
    whose budget is time. `best` is what `training.best.Best` knows of the evaluations so far."""

    step: int
    parameters: dict[str, Tensor]
    optimizer: dict[str, Tensor]
    final: dict[str, float]
    plan: dict[str, Any]
    spent: float = 0.0
    best: dict[str, float] = field(default_factory=dict)


def optimizer_tensors(optimizer: torch.optim.Optimizer, parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """AdamW's moments and step counts under "name/moment"; empty before the first update."""
    found = {}
    for name, parameter in parameters.items():
        for moment, value in optimizer.state.get(parameter, {}).items():
            found[f"{name}/{moment}"] = value
    return found


def restore_optimizer(optimizer: torch.optim.Optimizer, parameters: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> None:
    """Put back what `optimizer_tensors` gave, bit for bit. Raises `FileError` when a part of it is missing."""
    for name, parameter in parameters.items():
        saved = {m: tensors[f"{name}/{m}"] for m in _MOMENTS if f"{name}/{m}" in tensors}
        if saved:
            for moment in _MOMENTS:
                _require(f"{name}/{moment}", tensors, parameter if moment != "step" else torch.empty(()))
            # The step count stays on the CPU unless the fused optimizer put it beside the parameter.
            optimizer.state[parameter] = {m: v.to(parameter.device) for m, v in saved.items()}


@torch.no_grad()
def restore_parameters(parameters: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> None:
    """Copy the saved values in. Raises `FileError` when one is missing or of another shape, and then changes nothing."""
    for name, parameter in parameters.items():
        _require(name, tensors, parameter)
    for name, parameter in parameters.items():
        parameter.copy_(tensors[name])


def _require(name: str, tensors: Mapping[str, Tensor], like: Tensor) -> None:
    found = tuple(tensors[name].shape) if name in tensors else "missing"
    if found != tuple(like.shape):
        raise FileError(f"The checkpoint does not fit: {name} is {found}, not {tuple(like.shape)}.", hint=_DAMAGED)


def save_state(folder: Path, state: TrainState, export: Callable[[Path], object] | None, keep: int) -> Path:
    """Write `checkpoint-<step>` below `folder`, with the adapter that `export` puts into it, and delete all but the newest
    `keep`. Raises `FileError` when the disk is full; what was there before stays."""
    target = folder / f"checkpoint-{state.step:06d}"
    with atomic_folder(target) as part:
        write_tensors(part / "parameters.safetensors", state.parameters)
        write_tensors(part / "optimizer.safetensors", state.optimizer)
        data = {"step": state.step, "final": state.final, "plan": state.plan, "spent": state.spent, "best": state.best}
        write_json(part / "state.json", data, kind=_KIND, version=_VERSION)
        if export is not None:
            export(part / "adapter")
    for old in checkpoints(folder)[:-keep]:
        shutil.rmtree(old, ignore_errors=True)
    return target


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """One file on disk for good, without a second copy in memory."""
    for _ in write_safetensors(path, [Outgoing(name, tuple(t.shape), t.dtype, t.detach) for name, t in tensors.items()]):
        pass


def checkpoints(folder: Path) -> list[Path]:
    """Whole checkpoints below `folder`, oldest first."""
    found = [(int(m.group(1)), p) for p in folder.glob("checkpoint-*") if (m := _FOLDER.fullmatch(p.name))]
    return [p for _, p in sorted(found) if (p / "state.json").is_file()]


def newest_checkpoint(folder: Path) -> Path:
    """Where a run goes on. Raises `FileError` when there is none."""
    found = checkpoints(folder)
    if not found:
        raise FileError(f"{folder} holds no checkpoint to go on from.", hint="Start the run anew, without resume.")
    return found[-1]


def load_state(path: Path) -> TrainState:
    """Read one checkpoint. Raises `FileError` when a file is missing or damaged."""
    data = read_json(path / "state.json", kind=_KIND, version=_VERSION)
    try:
        parameters, optimizer = load_file(path / "parameters.safetensors"), load_file(path / "optimizer.safetensors")
    except (OSError, SafetensorError) as error:
        raise FileError(f"{path.name} is damaged ({error}).", hint=_DAMAGED) from error
    data.setdefault("spent", 0.0)  # the first checkpoints lack these
    data.setdefault("best", {})
    wanted: dict[str, Any] = {"step": int, "final": dict, "plan": dict, "spent": int | float, "best": dict}
    strange = [key for key, kind in wanted.items() if not isinstance(data.get(key), kind)]
    if not strange and data["step"] > 0 and not optimizer:
        strange = ["optimizer"]
    if strange:
        raise FileError(f"{path.name} is damaged (no {strange[0]}).", hint=_DAMAGED)
    return TrainState(data["step"], parameters, optimizer, data["final"], data["plan"], float(data["spent"]), data["best"])


def same_plan(saved: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
    """Raise `FileError` naming the first setting in which a resumed run differs from the one that was stopped."""
    for key in asked:
        if saved.get(key) != asked[key] and (key in saved or key not in _SINCE):
            raise FileError(
                f"The run was started with {key} = {saved.get(key)!r}, not {asked[key]!r}, so it cannot go on exactly.",
                hint="Resume with the same settings and data, or start a new run.",
            )
