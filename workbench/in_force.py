"""What a session remembers of the model in force: its adapter, and how to go back from a conversion or a quantization."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from workbench.checkpoints import Loaded
from workbench.core.errors import BusyError
from workbench.model.convert import ConversionReport
from workbench.quantization import QuantizationConfig
from workbench.requests import AdapterState, ModelSummary


@dataclass(frozen=True)
class InForce:
    """An adapter that is attached for the chat: the name it is attached under (never used twice), and what its files looked
    like when they were read."""

    name: str
    state: AdapterState
    stamp: tuple[tuple[str, int, int], ...]


@dataclass(frozen=True)
class Before:
    """What was in force before a conversion."""

    loaded: Loaded
    summary: ModelSummary
    in_force: InForce | None
    conversion: Conversion | None
    quantization: Quantization | None


@dataclass(frozen=True)
class Conversion:
    """The conversion in force; `before` is None when there was no memory to keep it."""

    report: ConversionReport
    before: Before | None


@dataclass(frozen=True)
class Quantization:
    """How the weights were quantized after loading; `original` is the model in full precision where no file holds it."""

    config: QuantizationConfig
    original: Loaded | None


def stamp_of(folder: Path) -> tuple[tuple[str, int, int], ...]:
    """Names, sizes and times of a folder's files; empty when it cannot be listed, which the loader then explains."""
    try:
        return tuple(sorted((f.name, f.stat().st_size, f.stat().st_mtime_ns) for f in folder.iterdir() if f.is_file()))
    except OSError:
        return ()


def busy(what: str) -> BusyError:
    return BusyError(f"Cannot {what}: a chat or a training run is using the current one.", hint="Stop it, or wait until it is done.")
