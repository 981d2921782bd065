"""Models small enough that a test takes milliseconds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from workbench.adapters import adapters_of
from workbench.model import ModelConfig, Transformer, build_model


def tiny(**changes: Any) -> Transformer:
    """Two blocks of width 32 with grouped heads; random weights."""
    sizes: dict[str, Any] = dict(vocab_size=61, n_layers=2, d_model=32, n_heads=4, n_kv_heads=2, d_ff=48, max_positions=64)
    return build_model(ModelConfig(**{**sizes, **changes}), seed=3)


def stir(model: Transformer, name: str = "default", seed: int = 5) -> None:
    """Give B values, as training would."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for adapter in adapters_of(model, name).values():
            adapter.B.normal_(0, 0.1, generator=generator)


@pytest.fixture
def model() -> Transformer:
    return tiny()


@pytest.fixture
def make_model() -> Callable[..., Transformer]:
    return tiny


@pytest.fixture
def trained() -> Callable[..., None]:
    """Makes an attached adapter one that changes the output."""
    return stir


@pytest.fixture
def ids() -> torch.Tensor:
    return torch.randint(0, 61, (2, 9), generator=torch.Generator().manual_seed(1))
