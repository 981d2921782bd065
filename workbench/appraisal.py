"""What the models on this machine are, from their headers: architecture, parameters, cache per token, or why they cannot be opened."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import psutil
import torch

from workbench.checkpoints import inspect_checkpoint
from workbench.checkpoints.families import GGUF_FAMILIES, HF_ALIASES, HF_FAMILIES
from workbench.core.control import Control
from workbench.core.errors import WorkbenchError
from workbench.core.events import Progress
from workbench.model.accounting import account


@dataclass(frozen=True)
class Appraisal:
    """One model. `kv_values_per_token` are keys and values of a token in all layers; `problem` is why it cannot be opened, ""
    when it can, and then all else is known."""

    architecture: str = ""
    parameters: int = 0
    kv_values_per_token: int = 0
    context: int = 0
    dtype: str = ""
    chat: bool = False
    problem: str = ""


def appraise(path: Path) -> Appraisal:
    """Look at one model; no weight is read. Takes some 20 ms, a GGUF with its vocabulary 100 ms; remembered until it changes."""
    return _appraise(path, *_stamp(path))


def appraise_all(paths: Iterable[Path], control: Control | None = None) -> Generator[Progress, None, dict[Path, Appraisal]]:
    """`appraise` for many; a stop returns what is known by then."""
    wanted = list(paths)
    found: dict[Path, Appraisal] = {}
    for n, path in enumerate(wanted):
        if control is not None and control.stopping:
            break
        yield Progress(message=f"Looking at {path.name}", done=n, total=len(wanted))
        found[path] = appraise(path)
    return found


def known_architecture(name: str, *, gguf: bool) -> bool:
    """Whether models that call themselves so can be opened."""
    return name in GGUF_FAMILIES if gguf else HF_ALIASES.get(name, name) in HF_FAMILIES


def free_memory(device: torch.device | str = "cpu") -> float:
    """Bytes free where models are loaded to: the GPU's, else this computer's."""
    where = torch.device(device)
    return float(torch.cuda.mem_get_info(where)[0]) if where.type == "cuda" else float(psutil.virtual_memory().available)


def _stamp(path: Path) -> tuple[tuple[str, int, int], ...]:
    """Changes whenever a file of the model does."""
    stamps = []
    for file in sorted(path.glob("*")) if path.is_dir() else [path]:
        try:
            stat = file.stat()
        except OSError:  # going away
            continue
        stamps.append((file.name, stat.st_size, stat.st_mtime_ns))
    return tuple(stamps)


@lru_cache(maxsize=256)
def _appraise(path: Path, *stamp: tuple[str, int, int]) -> Appraisal:
    try:
        header = inspect_checkpoint(path)
        counted = account(header.config)
    except WorkbenchError as error:
        return Appraisal(problem=error.message)
    config = header.config
    return Appraisal(
        architecture=header.source.family,
        parameters=counted.parameters,
        kv_values_per_token=counted.kv_bytes_per_token(1),
        context=config.max_positions,
        dtype=str(header.dtype).removeprefix("torch."),
        chat=header.chat_template is not None,
    )
