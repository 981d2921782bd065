"""What a named architecture is."""

from __future__ import annotations

from dataclasses import dataclass

from workbench.model.config import ModelConfig


@dataclass(frozen=True)
class Preset:
    """A named architecture. `help` says in one sentence what is special about it; `parameters` is the exact count, tied
    matrices counted once; `family` groups presets in lists, `year` is that of the paper or release."""

    name: str
    label: str
    help: str
    config: ModelConfig
    parameters: int
    family: str
    year: int
    source: str
