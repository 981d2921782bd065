"""Tiny models of both families, a scripted model that says what it is told, and byte tokens."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace

import pytest
import torch

from workbench.model import ModelConfig, Transformer, build_model
from workbench.tokenizers import ByteTokenizer, Tokenizer

FAMILIES = {
    "gpt2": {
        "position": "learned", "norm": "layernorm", "mlp": "gelu_tanh",
        "attention_bias": True, "attention_out_bias": True, "mlp_bias": True,
    },
    "llama": {"position": "rope", "norm": "rmsnorm", "mlp": "swiglu", "n_kv_heads": 2},
}  # fmt: skip


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    return ByteTokenizer()


def tiny(family: str, vocabulary: int = 300, context: int = 96) -> Transformer:
    """Random weights large enough that the likeliest token changes from step to step."""
    config = ModelConfig(
        n_layers=2, d_model=32, n_heads=4, d_ff=48, vocab_size=vocabulary, max_positions=context, tie_embeddings=False, **FAMILIES[family]
    )  # type: ignore[arg-type]
    model = build_model(config, seed=3)
    with torch.no_grad():
        generator = torch.Generator().manual_seed(5)
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return model


@pytest.fixture(scope="session")
def models() -> dict[str, Transformer]:
    return {family: tiny(family) for family in FAMILIES}


@pytest.fixture(scope="session")
def long_models() -> dict[str, Transformer]:
    """The same with room for a conversation in bytes."""
    return {family: tiny(family, vocabulary=259, context=192) for family in FAMILIES}


@pytest.fixture(params=list(FAMILIES))
def model(request: pytest.FixtureRequest, models: dict[str, Transformer]) -> Transformer:
    return models[request.param]


class Scripted:
    """Looks like a `Transformer` without a cache; after a prompt of `prompt` tokens it says `script`, whatever it reads."""

    device, dtype = torch.device("cpu"), torch.float32

    def __init__(self, script: Sequence[int], prompt: int = 1, context: int = 1000) -> None:
        self.config = SimpleNamespace(max_positions=context, causal=True)
        self.script, self.prompt = list(script), prompt

    def hidden(self, ids: torch.Tensor, cache: None = None) -> torch.Tensor:
        said = ids.shape[1] - self.prompt
        return torch.full((1, ids.shape[1], 1), float(self.script[said] if said < len(self.script) else 0))

    def head(self, hidden: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.one_hot(hidden[..., 0].long(), 400).float() * 20


@pytest.fixture
def scripted() -> type[Scripted]:
    return Scripted
