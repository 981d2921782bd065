"""The presets against transformers' own classes, on the meta device: nothing is allocated or fetched."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from workbench.model import PRESETS, ModelConfig, build_model

pytestmark = pytest.mark.parity


def theirs(config: ModelConfig, tied: bool) -> Any:
    import transformers

    c = config
    if c.position.kind == "learned":
        made: Any = transformers.GPT2Config(
            vocab_size=c.vocab_size, n_positions=c.max_positions, n_embd=c.d_model, n_layer=c.n_layers, n_head=c.n_heads,
            tie_word_embeddings=tied,
        )  # fmt: skip
        kind: Any = transformers.GPT2LMHeadModel
    else:
        made = transformers.LlamaConfig(
            vocab_size=c.vocab_size, hidden_size=c.d_model, intermediate_size=c.hidden, num_hidden_layers=c.n_layers,
            num_attention_heads=c.n_heads, num_key_value_heads=c.kv_heads, max_position_embeddings=c.max_positions,
            tie_word_embeddings=tied,
        )  # fmt: skip
        kind = transformers.LlamaForCausalLM
    with torch.device("meta"):
        model = kind(made)
    model.tie_weights()
    return model


@pytest.mark.parametrize("name", list(PRESETS))
def test_a_preset_has_as_many_parameters_as_transformers_model(name: str) -> None:
    preset = PRESETS[name]
    assert sum(p.numel() for p in theirs(preset.config, tied=True).parameters()) == preset.parameters


@pytest.mark.parametrize("name", ["gpt2", "smollm2-135m"])
def test_untied_too(name: str) -> None:
    import dataclasses

    config = dataclasses.replace(PRESETS[name].config, tie_embeddings=False)
    ours = build_model(config, device="meta", init=False)
    assert sum(p.numel() for p in theirs(config, tied=False).parameters()) == sum(p.numel() for p in ours.parameters())
