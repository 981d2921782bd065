"""config.json as their makers published it: the architecture, the ties and the number of parameters are the preset's."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from workbench.checkpoints.families import HF_ALIASES, HF_FAMILIES
from workbench.checkpoints.families.settings import Settings
from workbench.core.fields import from_dict
from workbench.model import PRESETS, ModelConfig, account
from workbench.model.differences import differences


def read(kind: str, given: dict[str, Any]) -> ModelConfig:
    family = HF_FAMILIES[HF_ALIASES.get(kind, kind)].make()
    settings = Settings({"model_type": kind, **given}, "config.json")
    tied = settings.flag("tie_word_embeddings", default=family.tied_by_default)
    return from_dict(ModelConfig, {**family.read(settings), "tie_embeddings": tied})


def worked_out(config: ModelConfig) -> ModelConfig:
    """With what may be left open filled in."""
    return replace(
        config, n_kv_heads=config.kv_heads, head_dim=config.head_width, d_ff=config.hidden, final_norm=config.has_final_norm,
        attention_scale=config.score_scale, init="gpt2",
    )  # fmt: skip


PUBLISHED: dict[str, tuple[str, str, dict[str, Any]]] = {
    "Falcon-RW 1B": (
        "falcon-rw-1b", "falcon",
        {
            "alibi": True, "bias": True, "hidden_size": 2048, "layer_norm_epsilon": 1e-5, "multi_query": False,
            "new_decoder_architecture": False, "num_attention_heads": 32, "num_hidden_layers": 24, "parallel_attn": False,
            "vocab_size": 50304, "apply_residual_connection_post_layernorm": False,
        },
    ),
    "Falcon 7B": (
        "falcon-7b", "falcon",
        {
            "alibi": False, "bias": False, "hidden_size": 4544, "layer_norm_epsilon": 1e-5, "multi_query": True,
            "new_decoder_architecture": False, "num_attention_heads": 71, "num_hidden_layers": 32, "num_kv_heads": 71,
            "parallel_attn": True, "vocab_size": 65024, "torch_dtype": "bfloat16",
        },
    ),
    "Falcon 7B, first": (
        "falcon-7b", "RefinedWebModel",
        {
            "alibi": False, "bias": False, "hidden_size": 4544, "multi_query": True, "n_head": 71, "n_layer": 32, "parallel_attn": True,
            "vocab_size": 65024,
        },
    ),
    "Falcon 40B": (
        "falcon-40b", "falcon",
        {
            "alibi": False, "bias": False, "hidden_size": 8192, "new_decoder_architecture": True, "num_attention_heads": 128,
            "num_hidden_layers": 60, "num_kv_heads": 8, "parallel_attn": True, "vocab_size": 65024,
        },
    ),
    "Falcon 40B, first": (
        "falcon-40b", "RefinedWeb",
        {
            "alibi": False, "bias": False, "hidden_size": 8192, "n_head": 128, "n_head_kv": 8, "n_layer": 60, "parallel_attn": True,
            "vocab_size": 65024,
        },
    ),
    "Pythia 70M": (
        "pythia-70m", "gpt_neox",
        {
            "vocab_size": 50304, "num_hidden_layers": 6, "hidden_size": 512, "num_attention_heads": 8, "intermediate_size": 2048,
            "hidden_act": "gelu", "layer_norm_eps": 1e-5, "max_position_embeddings": 2048, "rotary_emb_base": 10000,
            "rotary_pct": 0.25, "tie_word_embeddings": False, "use_parallel_residual": True,
        },
    ),
    "Phi-2": (
        "phi-2", "phi",
        {
            "hidden_act": "gelu_new", "hidden_size": 2560, "intermediate_size": 10240, "layer_norm_eps": 1e-5,
            "max_position_embeddings": 2048, "num_attention_heads": 32, "num_hidden_layers": 32, "num_key_value_heads": 32,
            "partial_rotary_factor": 0.4, "qk_layernorm": False, "rope_scaling": None, "rope_theta": 10000.0,
            "tie_word_embeddings": False, "vocab_size": 51200,
        },
    ),
    "Gemma-2 2B": (
        "gemma2-2b", "gemma2",
        {
            "attention_bias": False, "attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0, "head_dim": 256,
            "hidden_act": "gelu_pytorch_tanh", "hidden_activation": "gelu_pytorch_tanh", "hidden_size": 2304, "intermediate_size": 9216,
            "max_position_embeddings": 8192, "num_attention_heads": 8, "num_hidden_layers": 26, "num_key_value_heads": 4,
            "query_pre_attn_scalar": 256, "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "sliding_window": 4096, "vocab_size": 256000,
        },
    ),
    "OLMo-2 7B": (
        "olmo2-7b", "olmo2",
        {
            "hidden_act": "silu", "hidden_size": 4096, "intermediate_size": 11008, "max_position_embeddings": 4096,
            "num_attention_heads": 32, "num_hidden_layers": 32, "num_key_value_heads": 32, "rms_norm_eps": 1e-6,
            "rope_theta": 500000, "tie_word_embeddings": False, "vocab_size": 100352,
        },
    ),
    "Llama 3.1 8B": (
        "llama3.1-8b", "llama",
        {
            "vocab_size": 128256, "num_hidden_layers": 32, "hidden_size": 4096, "num_attention_heads": 32, "num_key_value_heads": 8,
            "intermediate_size": 14336, "max_position_embeddings": 131072, "rms_norm_eps": 1e-5,
            "rope_theta": 500000.0, "tie_word_embeddings": False,
            "rope_scaling": {
                "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192,
                "rope_type": "llama3",
            },
        },
    ),
    "BERT base": (
        "bert-base", "bert",
        {
            "hidden_act": "gelu", "hidden_size": 768, "intermediate_size": 3072, "layer_norm_eps": 1e-12, "max_position_embeddings": 512,
            "num_attention_heads": 12, "num_hidden_layers": 12, "position_embedding_type": "absolute", "type_vocab_size": 2,
            "vocab_size": 30522,
        },
    ),
    "BLOOM 560M": (
        "bloom-560m", "bloom",
        {
            "apply_residual_connection_post_layernorm": False, "hidden_size": 1024, "layer_norm_epsilon": 1e-5, "n_head": 16, "n_layer": 24,
            "offset_alibi": 100, "pretraining_tp": 1, "seq_length": 2048, "vocab_size": 250880,
        },
    ),
    "GPT-1": (
        "gpt1", "openai-gpt",
        {
            "afn": "gelu", "layer_norm_epsilon": 1e-5, "n_ctx": 512, "n_embd": 768, "n_head": 12, "n_layer": 12, "n_positions": 512,
            "vocab_size": 40478,
        },
    ),
    "SmolLM3 3B": (
        "smollm3-3b", "smollm3",
        {
            "attention_bias": False, "hidden_act": "silu", "hidden_size": 2048, "intermediate_size": 11008,
            "max_position_embeddings": 65536, "no_rope_layer_interval": 4, "num_attention_heads": 16, "num_hidden_layers": 36,
            "num_key_value_heads": 4, "rms_norm_eps": 1e-6, "rope_theta": 5000000.0, "tie_word_embeddings": True,
            "use_sliding_window": False, "sliding_window": None, "vocab_size": 128256,
            "no_rope_layers": [1, 1, 1, 0] * 9, "layer_types": ["full_attention"] * 36,
        },
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_configuration_is_the_preset(name: str) -> None:
    preset, kind, given = PUBLISHED[name]
    found, expected = read(kind, given), PRESETS[preset].config
    assert found.problems() == []
    assert account(found).parameters == account(expected).parameters
    assert [(d.field, d.a, d.b) for d in differences(worked_out(found), worked_out(expected))] == []
