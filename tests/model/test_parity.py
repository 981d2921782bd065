"""The presets against transformers' own classes, on the meta device: nothing is allocated or fetched.

The settings are those of the published config.json files, written down here and not taken from our presets.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch

from workbench.model import PRESETS, build_model

pytestmark = pytest.mark.parity
Settings = dict[str, Any]


def gpt2(layers: int, width: int, heads: int) -> Settings:
    return {"kind": "GPT2", "vocab_size": 50257, "n_positions": 1024, "n_layer": layers, "n_embd": width, "n_head": heads}


def bert(layers: int, width: int, heads: int) -> Settings:
    return {
        "kind": "Bert", "vocab_size": 30522, "num_hidden_layers": layers, "hidden_size": width, "num_attention_heads": heads,
        "intermediate_size": 4 * width, "max_position_embeddings": 512, "type_vocab_size": 2,
    }  # fmt: skip


def neox(layers: int, width: int, heads: int, vocabulary: int = 50304) -> Settings:
    return {
        "kind": "GPTNeoX", "vocab_size": vocabulary, "num_hidden_layers": layers, "hidden_size": width, "num_attention_heads": heads,
        "intermediate_size": 4 * width, "tie_word_embeddings": False,
    }  # fmt: skip


def bloom(layers: int, width: int, heads: int) -> Settings:
    return {"kind": "Bloom", "vocab_size": 250880, "n_layer": layers, "hidden_size": width, "n_head": heads}


def llama(layers: int, width: int, heads: int, kv_heads: int, hidden: int, vocabulary: int = 32000, tied: bool = False) -> Settings:
    return {
        "kind": "Llama", "vocab_size": vocabulary, "num_hidden_layers": layers, "hidden_size": width, "intermediate_size": hidden,
        "num_attention_heads": heads, "num_key_value_heads": kv_heads, "tie_word_embeddings": tied,
    }  # fmt: skip


def like_llama(kind: str, *sizes: int, vocabulary: int, tied: bool = False, **more: Any) -> Settings:
    return {**llama(*sizes, vocabulary=vocabulary, tied=tied), "kind": kind, **more}


def falcon(layers: int, width: int, heads: int, **more: Any) -> Settings:
    plain = {"vocab_size": 65024, "num_hidden_layers": layers, "hidden_size": width, "num_attention_heads": heads, "bias": False}
    return {"kind": "Falcon", **plain, **more}


L3, Q, Q3 = 128256, 151936, {"vocabulary": 151936, "head_dim": 128}
PUBLISHED: dict[str, Settings] = {
    "gpt1": {"kind": "OpenAIGPT", "vocab_size": 40478, "n_positions": 512, "n_layer": 12, "n_embd": 768, "n_head": 12},
    "gpt2": gpt2(12, 768, 12), "gpt2-medium": gpt2(24, 1024, 16), "gpt2-large": gpt2(36, 1280, 20), "gpt2-xl": gpt2(48, 1600, 25),
    "bert-base": bert(12, 768, 12), "bert-large": bert(24, 1024, 16),
    "pythia-70m": neox(6, 512, 8), "pythia-160m": neox(12, 768, 12), "pythia-410m": neox(24, 1024, 16), "pythia-1b": neox(16, 2048, 8),
    "pythia-1.4b": neox(24, 2048, 16), "pythia-2.8b": neox(32, 2560, 32), "pythia-6.9b": neox(32, 4096, 32, 50432),
    "pythia-12b": neox(36, 5120, 40, 50688),
    "bloom-560m": bloom(24, 1024, 16), "bloom-7b1": bloom(30, 4096, 32),
    "llama1-7b": llama(32, 4096, 32, 32, 11008), "llama1-13b": llama(40, 5120, 40, 40, 13824),
    "llama1-33b": llama(60, 6656, 52, 52, 17920), "llama1-65b": llama(80, 8192, 64, 64, 22016),
    "llama2-7b": llama(32, 4096, 32, 32, 11008), "llama2-13b": llama(40, 5120, 40, 40, 13824),
    "llama2-70b": llama(80, 8192, 64, 8, 28672), "llama3-8b": llama(32, 4096, 32, 8, 14336, L3),
    "llama3-70b": llama(80, 8192, 64, 8, 28672, L3), "llama3.1-8b": llama(32, 4096, 32, 8, 14336, L3),
    "llama3.1-70b": llama(80, 8192, 64, 8, 28672, L3), "llama3.2-1b": llama(16, 2048, 32, 8, 8192, L3, tied=True),
    "llama3.2-3b": llama(28, 3072, 24, 8, 8192, L3, tied=True),
    "smollm2-135m": llama(30, 576, 9, 3, 1536, 49152, tied=True), "smollm2-360m": llama(32, 960, 15, 5, 2560, 49152, tied=True),
    "smollm2-1.7b": llama(24, 2048, 32, 32, 8192, 49152, tied=True),
    "smollm3-3b": like_llama("SmolLM3", 36, 2048, 16, 4, 11008, vocabulary=L3, tied=True),
    "mistral-7b": like_llama("Mistral", 32, 4096, 32, 8, 14336, vocabulary=32000),
    "qwen2.5-0.5b": like_llama("Qwen2", 24, 896, 14, 2, 4864, vocabulary=Q, tied=True),
    "qwen2.5-1.5b": like_llama("Qwen2", 28, 1536, 12, 2, 8960, vocabulary=Q, tied=True),
    "qwen2.5-7b": like_llama("Qwen2", 28, 3584, 28, 4, 18944, vocabulary=152064),
    "qwen3-0.6b": like_llama("Qwen3", 28, 1024, 16, 8, 3072, tied=True, **Q3),
    "qwen3-1.7b": like_llama("Qwen3", 28, 2048, 16, 8, 6144, tied=True, **Q3),
    "qwen3-4b": like_llama("Qwen3", 36, 2560, 32, 8, 9728, tied=True, **Q3),
    "qwen3-8b": like_llama("Qwen3", 36, 4096, 32, 8, 12288, **Q3),
    "falcon-rw-1b": falcon(24, 2048, 32, vocab_size=50304, alibi=True, bias=True, multi_query=False, parallel_attn=False),
    "falcon-7b": falcon(32, 4544, 71, multi_query=True, parallel_attn=True, new_decoder_architecture=False),
    "falcon-40b": falcon(60, 8192, 128, num_kv_heads=8, new_decoder_architecture=True),
    "phi-2": like_llama("Phi", 32, 2560, 32, 32, 10240, vocabulary=51200, partial_rotary_factor=0.4),
    "olmo2-1b": like_llama("Olmo2", 16, 2048, 16, 16, 8192, vocabulary=100352),
    "olmo2-7b": like_llama("Olmo2", 32, 4096, 32, 32, 11008, vocabulary=100352),
    "gemma2-2b": like_llama("Gemma2", 26, 2304, 8, 4, 9216, vocabulary=256000, tied=True, head_dim=256),
    "gemma2-9b": like_llama("Gemma2", 42, 3584, 16, 8, 14336, vocabulary=256000, tied=True, head_dim=256),
    "gemma2-27b": like_llama("Gemma2", 46, 4608, 32, 16, 36864, vocabulary=256000, tied=True, head_dim=128),
}  # fmt: skip
CLASSLESS = ("Transformer", "Tiny")
"""Families without a class in transformers; GPT-3 has none either. Their counts have closed formulas in test_accounting."""
FULL = ("gpt2", "bert-base", "pythia-70m", "llama3.2-1b", "falcon-7b", "gemma2-2b", "olmo2-1b")
"""Built with all their layers: each layer of a family holds the same tensors, so that counting two builds is counting all."""


def theirs(settings: Settings) -> Any:
    import transformers

    given = {name: value for name, value in settings.items() if name != "kind"}
    kind = settings["kind"]
    config = getattr(transformers, f"{kind}Config")(**{"pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 0, **given})
    heads = {"Bert": "BertForMaskedLM", "GPT2": "GPT2LMHeadModel", "OpenAIGPT": "OpenAIGPTLMHeadModel"}
    with torch.device("meta"):
        model = getattr(transformers, heads.get(kind, f"{kind}ForCausalLM"))(config)
    model.tie_weights()
    return model


def count(settings: Settings) -> int:
    return sum(p.numel() for p in theirs(settings).parameters())


def depth_name(settings: Settings) -> str:
    return "n_layer" if "n_layer" in settings else "num_hidden_layers"


@pytest.mark.parametrize("name", list(PUBLISHED))
def test_a_preset_has_as_many_parameters_as_transformers_model(name: str) -> None:
    settings, depth = PUBLISHED[name], depth_name(PUBLISHED[name])
    assert settings[depth] == PRESETS[name].config.n_layers
    one, two = (count({**settings, depth: layers}) for layers in (1, 2))
    assert one + (settings[depth] - 1) * (two - one) == PRESETS[name].parameters


@pytest.mark.parametrize("name", FULL)
def test_every_layer_holds_the_same_tensors(name: str) -> None:
    assert count(PUBLISHED[name]) == PRESETS[name].parameters


def test_every_preset_with_a_class_in_transformers_is_compared() -> None:
    assert {n for n, p in PRESETS.items() if p.family not in CLASSLESS and not n.startswith("gpt3")} == set(PUBLISHED)


@pytest.mark.parametrize("name", ["gpt2", "smollm2-135m"])
def test_untied_too(name: str) -> None:
    config = dataclasses.replace(PRESETS[name].config, tie_embeddings=False)
    ours = build_model(config, device="meta", init=False)
    assert count({**PUBLISHED[name], "tie_word_embeddings": False}) == sum(p.numel() for p in ours.parameters())
