"""What foreign configurations are understood to mean, and which are refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from workbench.checkpoints.families import GGUF_FAMILIES, HF_FAMILIES
from workbench.checkpoints.families.settings import Settings
from workbench.checkpoints.tensors import TensorInfo
from workbench.core.errors import ModelError
from workbench.core.fields import from_dict
from workbench.model import PRESETS, ModelConfig, account

GPT2 = {"vocab_size": 50257, "n_layer": 12, "n_embd": 768, "n_head": 12, "n_positions": 1024}
LLAMA = {
    "vocab_size": 49152, "num_hidden_layers": 30, "hidden_size": 576, "num_attention_heads": 9, "num_key_value_heads": 3,
    "intermediate_size": 1536, "max_position_embeddings": 8192, "rms_norm_eps": 1e-5,
}  # fmt: skip


def hf(kind: str, base: dict[str, Any], **changes: Any) -> ModelConfig:
    family = HF_FAMILIES[kind].make()
    return from_dict(ModelConfig, {**family.read(Settings({**base, **changes}, "config.json")), "tie_embeddings": True})


def test_gpt2_is_the_preset() -> None:
    expected = PRESETS["gpt2"].config
    found = hf("gpt2", GPT2, layer_norm_epsilon=1e-5, activation_function="gelu_new", n_inner=None)
    assert (found.position, found.norm, found.mlp) == (expected.position, expected.norm, expected.mlp)
    assert (found.hidden, found.kv_heads, found.head_width) == (3072, 12, 64)
    assert found.attention_bias
    assert found.attention_out_bias
    assert found.mlp_bias
    assert hf("gpt2", GPT2, n_inner=100).hidden == 100
    assert hf("gpt2", GPT2, activation_function="relu").mlp.kind == "relu"


@pytest.mark.parametrize(
    "spelling",
    [
        {"rope_theta": 1e5},
        {"rope_theta": 1e5, "rope_scaling": None},
        {"rope_theta": 1e5, "rope_scaling": {"type": "default"}},
        {"rope_parameters": {"rope_type": "default", "rope_theta": 1e5}},
        {"rope_parameters": {"rope_type": "default", "rope_theta": 1e5}, "rope_theta": 1e4},  # both: the newer is meant
        {"rope_parameters": {"rope_theta": 100_000}, "rope_scaling": {"rope_type": "default"}},
    ],
)
def test_every_spelling_of_the_rope_base(spelling: dict[str, Any]) -> None:
    position = hf("llama", LLAMA, **spelling).position
    assert position.kind == "rope"
    assert (position.options.base, position.options.style) == (1e5, "half")


def test_the_rope_base_of_a_silent_file_is_10000() -> None:
    assert hf("llama", LLAMA).position.options.base == 10000.0


@pytest.mark.parametrize("where", ["top", "rope_parameters"])
def test_partial_rotation(where: str) -> None:
    given = {"partial_rotary_factor": 0.25} if where == "top" else {"rope_parameters": {"rope_theta": 1e4, "partial_rotary_factor": 0.25}}
    assert hf("phi", LLAMA, **given).position.options.rotary_fraction == 0.25


def test_llama_details() -> None:
    plain = hf("llama", LLAMA)
    assert (plain.kv_heads, plain.head_width, plain.hidden, plain.mlp.kind, plain.norm.options.eps) == (3, 64, 1536, "swiglu", 1e-5)
    assert not plain.attention_bias
    biased = hf("llama", LLAMA, attention_bias=True, mlp_bias=True)
    assert biased.attention_bias
    assert biased.attention_out_bias
    assert biased.mlp_bias
    assert hf("llama", {k: v for k, v in LLAMA.items() if k != "num_key_value_heads"}).kv_heads == 9
    assert hf("llama", {k: v for k, v in LLAMA.items() if k != "rms_norm_eps"}).norm.options.eps == 1e-6


@pytest.mark.parametrize(("given", "window"), [({}, 4096), ({"sliding_window": None}, None), ({"sliding_window": 7}, 7)])
def test_mistrals_window(given: dict[str, Any], window: int | None) -> None:
    assert hf("mistral", LLAMA, **given).sliding_window == window


@pytest.mark.parametrize(
    ("given", "window"),
    [
        ({"sliding_window": 7}, None),
        ({"sliding_window": 7, "use_sliding_window": True}, None),  # from block 28 on, says the class; this one has 20
        ({"sliding_window": 7, "use_sliding_window": True, "max_window_layers": 0}, 7),
        ({"sliding_window": 7, "use_sliding_window": True, "layer_types": ["sliding_attention"] * 20}, 7),
        ({"sliding_window": 7, "use_sliding_window": True, "layer_types": ["full_attention"] * 20}, None),
    ],
)
def test_qwens_window(given: dict[str, Any], window: int | None) -> None:
    found = hf("qwen2", {**LLAMA, "num_hidden_layers": 20}, **given)
    assert found.sliding_window == window
    assert found.attention_bias
    assert not found.attention_out_bias


def test_qwen3_normalises_heads_of_its_own_width() -> None:
    found = hf("qwen3", LLAMA)
    assert found.qk_norm == "head"
    assert found.head_width == 128


@pytest.mark.parametrize(
    ("kind", "base", "given", "says"),
    [
        ("gpt2", GPT2, {"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx is True"),
        ("gpt2", GPT2, {"scale_attn_weights": False}, "scale_attn_weights is False"),
        ("gpt2", GPT2, {"add_cross_attention": True}, "add_cross_attention is True"),
        ("gpt2", GPT2, {"activation_function": "tanh"}, "activation_function is 'tanh'"),
        ("gpt2", GPT2, {"n_layer": "twelve"}, "n_layer must be a whole number, not 'twelve'"),
        ("gpt2", GPT2, {"n_layer": None}, "does not say n_layer"),
        ("llama", LLAMA, {"hidden_act": "relu2"}, "hidden_act is 'relu2'"),
        ("llama", LLAMA, {"hidden_act": ["silu"]}, "hidden_act is ['silu']"),
        ("llama", LLAMA, {"rope_parameters": {"full_attention": {}, "sliding_attention": {}}}, "differ between layers"),
        ("llama", LLAMA, {"rope_parameters": 3}, "rope_parameters must be a table, not 3"),
        ("llama", LLAMA, {"rope_theta": "1e4"}, "rope_theta must be a finite number, not '1e4'"),
        ("llama", LLAMA, {"rope_theta": float("nan")}, "rope_theta must be a finite number"),
        ("llama", LLAMA, {"attention_bias": "yes"}, "attention_bias must be true or false, not 'yes'"),
        ("qwen2", LLAMA, {"use_sliding_window": True, "max_window_layers": 10, "sliding_window": 8}, "20 of 30 blocks have"),
    ],
)
def test_what_cannot_be_run_is_refused_by_name(kind: str, base: dict[str, Any], given: dict[str, Any], says: str) -> None:
    with pytest.raises(ModelError) as caught:
        hf(kind, base, **given)
    assert says in caught.value.message
    assert caught.value.hint


GGUF = {
    "block_count": 30, "context_length": 8192, "embedding_length": 576, "feed_forward_length": 1536, "attention.head_count": 9,
    "attention.head_count_kv": 3, "attention.layer_norm_rms_epsilon": 1e-5, "rope.freq_base": 1e5, "rope.dimension_count": 64,
}  # fmt: skip
EMBEDDING = {"token_embd.weight": TensorInfo((49152, 576), torch.float32, 0)}


def of_gguf(tensors: tuple[str, ...] = (), **changes: Any) -> ModelConfig:
    values = {f"llama.{key}": value for key, value in {**GGUF, **changes}.items()}
    infos = {**EMBEDDING, **dict.fromkeys(tensors, EMBEDDING["token_embd.weight"])}
    fields = GGUF_FAMILIES["llama"].make().read(Settings(values, "x.gguf", infos, "llama."))
    return from_dict(ModelConfig, {**fields, "tie_embeddings": True})


def test_a_gguf_is_the_starters_preset() -> None:
    found = of_gguf()
    assert account(found).parameters == account(PRESETS["smollm2-135m"].config).parameters == 134_515_008
    assert found.vocab_size == 49152  # from the embedding, where the key is missing
    assert found.position.options.base == 1e5


def test_what_a_gguf_leaves_out() -> None:
    found = of_gguf(**{"attention.head_count_kv": None, "rope.freq_base": None, "rope.dimension_count": None})
    assert found.kv_heads == 9
    assert found.position.options.base == 10000.0
    assert found.position.options.rotary_fraction == 1.0


def test_numbers_per_block_are_one_number_when_equal() -> None:
    assert of_gguf(**{"attention.head_count_kv": [3] * 30}).kv_heads == 3
    with pytest.raises(ModelError, match="head_count_kv must be a whole number"):
        of_gguf(**{"attention.head_count_kv": [3] * 29 + [9]})


def test_biases_and_head_norms_are_seen_from_the_tensors() -> None:
    found = of_gguf(("blk.0.attn_q.bias", "blk.0.attn_q_norm.weight"))
    assert found.attention_bias
    assert found.qk_norm == "head"
    assert not found.attention_out_bias


def test_half_rotated_heads_and_wide_heads() -> None:
    found = of_gguf(**{"attention.key_length": 128, "attention.value_length": 128})
    assert found.head_width == 128
    assert found.position.options.rotary_fraction == 0.5


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"expert_count": 8}, "llama.expert_count is 8"),
        ({"rope.scaling.type": "longrope"}, "rope.scaling.type is 'longrope'"),
        ({"attention.value_length": 32}, "keys and values differ in width"),
        ({"block_count": None}, "does not say llama.block_count"),
    ],
)
def test_ggufs_that_cannot_be_run(given: dict[str, Any], says: str) -> None:
    with pytest.raises(ModelError) as caught:
        of_gguf(**given)
    assert says in caught.value.message


def test_no_heads_are_a_problem_not_a_crash() -> None:
    assert of_gguf(**{"attention.head_count": 0, "attention.head_count_kv": 0}).problems()


def test_a_gguf_without_an_embedding_is_no_text_model() -> None:
    with pytest.raises(ModelError, match=r"has no token_embd\.weight"):
        GGUF_FAMILIES["llama"].make().read(Settings({}, "x.gguf", {}, "llama."))
