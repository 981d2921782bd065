"""Mistral 7B, version 0.1."""

from __future__ import annotations

from workbench.model.presets.base import Preset
from workbench.model.presets.llama import llama

MEMBERS = (
    Preset(
        "mistral-7b", "Mistral 7B v0.1",
        "Each token attends to the last 4,096 only, and four query heads share each key/value head; later versions drop the window.",
        llama(32, 4096, 32, 8, 14336, max_positions=32768, sliding_window=4096), 7_241_732_096,
        family="Mistral", year=2023, source="arXiv:2310.06825",
    ),
)  # fmt: skip
