"""Tiny models, tiny data, and a way to run a generator to its end."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import numpy as np
import torch

from workbench.adapters import LoraConfig, attach
from workbench.data import Dataset
from workbench.model import ModelConfig, Transformer, build_model


def dataset(count: int = 24, seed: int = 0, vocab: int = 40, lengths: tuple[int, int] = (5, 14)) -> Dataset:
    """Sequences whose second half is learnt; ids repeat a pattern, so there is something to learn."""
    rng = np.random.default_rng(seed)
    sequences = []
    for _ in range(count):
        n = int(rng.integers(*lengths))
        ids = (np.arange(n) * int(rng.integers(1, 4)) + int(rng.integers(vocab))) % vocab
        sequences.append((ids, [i >= n // 2 for i in range(n)]))
    return Dataset.of(sequences)


def make(adapted: bool = True, lora: LoraConfig | None = None, **changes: Any) -> Transformer:
    """A fresh tiny model, with an adapter called "default" when `adapted`; the same weights each time."""
    sizes = {"vocab_size": 40, "n_layers": 2, "d_model": 16, "n_heads": 4, "n_kv_heads": 2, "d_ff": 24, "max_positions": 32}
    model = build_model(ModelConfig(**{**sizes, **changes}), seed=1)
    with torch.no_grad():
        for parameter in model.parameters():  # at the usual start all logits are near zero, and nothing shows
            parameter.mul_(4 if parameter.dim() > 1 else 1)
    if adapted:
        attach(model, lora or LoraConfig(r=4, lora_alpha=8.0), seed=3)
    return model


def drain(events: Generator[Any, None, Any]) -> tuple[list[Any], Any]:
    """(all events, the returned value)."""
    seen = []
    while True:
        try:
            seen.append(next(events))
        except StopIteration as end:
            return seen, end.value


def losses(events: list[Any]) -> list[float]:
    return [e.metrics["loss"] for e in events if e.name == "step"]
