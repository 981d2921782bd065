"""The starter model twice: ours, and transformers' on the very same weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from workbench.checkpoints import Loaded, load_checkpoint
from workbench.model import Transformer

_OURS_TO_THEIRS = {
    "embedding.": "model.embed_tokens.",
    "blocks.": "model.layers.",
    "final_norm.": "model.norm.",
    ".attention.": ".self_attn.",
    ".residual.attention_norm.": ".input_layernorm.",
    ".residual.mlp_norm.": ".post_attention_layernorm.",
}


def as_transformers_llama(model: Transformer) -> Any:
    """transformers' Llama sharing `model`'s weights; written by hand so that it does not rest on our own export."""
    transformers = pytest.importorskip("transformers", reason="parity needs transformers")
    c = model.config
    theirs = transformers.LlamaConfig(
        vocab_size=c.vocab_size, hidden_size=c.d_model, intermediate_size=c.hidden, num_hidden_layers=c.n_layers,
        num_attention_heads=c.n_heads, num_key_value_heads=c.kv_heads, head_dim=c.head_width, max_position_embeddings=c.max_positions,
        rms_norm_eps=c.norm.options.eps, rope_parameters={"rope_type": "default", "rope_theta": c.position.options.base},
        tie_word_embeddings=c.tie_embeddings, bos_token_id=1, eos_token_id=2, pad_token_id=2,
    )  # fmt: skip
    with torch.device("meta"):
        twin = transformers.LlamaForCausalLM(theirs)
    weights = {}
    for name, tensor in model.state_dict().items():
        for ours, other in _OURS_TO_THEIRS.items():
            name = name.replace(ours, other)
        weights[name] = tensor
    twin.load_state_dict(weights, strict=True, assign=True)
    twin.tie_weights()
    twin.model.rotary_emb = type(twin.model.rotary_emb)(theirs)  # its table is no weight
    return twin.eval()


@pytest.fixture(scope="session")
def starter(starter_path: Path) -> Loaded:
    return load_checkpoint(starter_path)


@pytest.fixture(scope="session")
def starter_twin(starter: Loaded) -> Any:
    return as_transformers_llama(starter.model)
