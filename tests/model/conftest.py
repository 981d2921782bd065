"""Tiny models of any architecture, with weights large enough that every part matters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from workbench.model import ModelConfig, Transformer, build_model

VOCABULARY = 61


def tiny_config(**changes: Any) -> ModelConfig:
    sizes: dict[str, Any] = {"vocab_size": VOCABULARY, "n_layers": 2, "d_model": 16, "n_heads": 4, "d_ff": 24, "max_positions": 24}
    return ModelConfig(**{**sizes, **changes})


def tiny_model(dtype: torch.dtype = torch.float32, **changes: Any) -> Transformer:
    """Not as initialised: norm gains, biases and positions are random too."""
    model = build_model(tiny_config(**changes), dtype=dtype)
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            drawn = torch.randn(parameter.shape, generator=generator) * 0.3
            parameter.copy_(drawn + 1 if parameter.dim() == 1 and name.endswith("weight") else drawn)
    return model


@pytest.fixture
def config() -> Callable[..., ModelConfig]:
    return tiny_config


@pytest.fixture
def tiny() -> Callable[..., Transformer]:
    return tiny_model


@pytest.fixture
def ids() -> Tensor:
    return torch.randint(VOCABULARY, (2, 13), generator=torch.Generator().manual_seed(1))
