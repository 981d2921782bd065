"""Which state of a run did best on the held-out examples, and when to give up waiting for a better one."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from workbench.core.errors import FileError
from workbench.core.store import atomic_folder, write_json
from workbench.training.state import write_tensors

BEST = "best"
"""Inside a run's folder: `adapter/` in PEFT's format, or `parameters.safetensors` where all weights are trained; `best.json`."""
_KIND, _VERSION = "workbench best state", 1
_PARAMETERS = "parameters.safetensors"


@dataclass
class Best:
    """`loss` was the lowest so far, after `step` updates; `since` evaluations did not beat it."""

    step: int = 0
    loss: float = math.inf
    since: int = 0

    def judge(self, step: int, loss: float) -> bool:
        """Take note of an evaluation; True when it is the best so far."""
        if loss < self.loss:
            self.step, self.loss, self.since = step, loss, 0
            return True
        self.since += 1
        return False

    @property
    def known(self) -> bool:
        """Whether anything was evaluated."""
        return math.isfinite(self.loss)

    def to_dict(self) -> dict[str, float]:
        return asdict(self) if self.known else {}

    @staticmethod
    def from_dict(data: Mapping[str, float]) -> Best:
        """The inverse of `to_dict`; {} is a run without evaluations."""
        return Best(int(data["step"]), float(data["loss"]), int(data["since"])) if data else Best()


def save_best(folder: Path, best: Best, parameters: Mapping[str, Tensor] | None, export: Callable[[Path], object] | None) -> Path:
    """Write `best/` below the run's folder in place of the one before, as a whole or not at all. Raises `FileError` when the disk is
    full; the one before stays then."""
    target = folder / BEST
    with atomic_folder(target) as part:
        if parameters is not None:
            write_tensors(part / _PARAMETERS, parameters)
        write_json(part / "best.json", {"step": best.step, "eval_loss": best.loss}, kind=_KIND, version=_VERSION)
        if export is not None:
            export(part / "adapter")
    return target


def best_parameters(folder: Path) -> dict[str, Tensor]:
    """What `save_best` wrote of the parameters. Raises `FileError` when it is missing or damaged."""
    path = folder / BEST / _PARAMETERS
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise FileError(f"The best state is damaged ({error}).", hint="The last one is beside it, in the newest checkpoint.") from error
