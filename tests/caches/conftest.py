"""Tiny models of both families for the cache to serve."""

from __future__ import annotations

import pytest
import torch

from workbench.model import ModelConfig, Transformer, build_model

FAMILIES = {
    "gpt2": {"position": "learned", "norm": "layernorm", "mlp": "gelu_tanh", "attention_bias": True, "mlp_bias": True},
    "llama": {"position": "rope", "n_kv_heads": 2},
}


def tiny(family: str) -> Transformer:
    model = build_model(ModelConfig(vocab_size=61, n_layers=2, d_model=32, n_heads=4, max_positions=32, **FAMILIES[family]))  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return model.requires_grad_(False)


@pytest.fixture(scope="session")
def models() -> dict[str, Transformer]:
    return {family: tiny(family) for family in FAMILIES}


@pytest.fixture(params=list(FAMILIES))
def model(request: pytest.FixtureRequest, models: dict[str, Transformer]) -> Transformer:
    return models[request.param]


@pytest.fixture
def ids() -> torch.Tensor:
    return torch.randint(61, (2, 13), generator=torch.Generator().manual_seed(1))
