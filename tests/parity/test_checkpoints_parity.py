"""Checkpoints written by transformers give transformers' logits here, and those written here give ours there."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from gguf.constants import GGMLQuantizationType
from gguf.quants import dequantize

from tests.parity.twins import SIZES, assert_equal_everywhere, assert_equal_padded, logits, random_twin, some_ids
from workbench.caches import KVCache
from workbench.checkpoints import Loaded, load_checkpoint, save_checkpoint
from workbench.model import ModelConfig, build_model

pytestmark = pytest.mark.parity

SMALL_GPT2: dict[str, Any] = dict(n_layer=3, n_embd=32, n_head=4, vocab_size=101, n_positions=64)
PLAIN_ROPE = {"rope_type": "default", "rope_theta": 1e5}

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt2": ("GPT2", SMALL_GPT2),
    "gpt2 untied, relu, narrow": ("GPT2", {**SMALL_GPT2, "n_inner": 40, "activation_function": "relu", "tie_word_embeddings": False}),
    "llama tied": ("Llama", {**SIZES, "tie_word_embeddings": True, "rope_parameters": PLAIN_ROPE}),
    "llama untied, grouped": ("Llama", {**SIZES, "num_key_value_heads": 2, "tie_word_embeddings": False}),
    "llama one kv head, wide heads": ("Llama", {**SIZES, "num_key_value_heads": 1, "head_dim": 16}),
    "llama biases": ("Llama", {**SIZES, "num_key_value_heads": 2, "attention_bias": True, "mlp_bias": True}),
    "llama biases, gelu": (
        "Llama", {**SIZES, "num_key_value_heads": 2, "attention_bias": True, "mlp_bias": True, "hidden_act": "gelu", "rms_norm_eps": 1e-3}
    ),
    "mistral window": ("Mistral", {**SIZES, "num_key_value_heads": 2, "sliding_window": 6}),
    "mistral": ("Mistral", {**SIZES, "num_key_value_heads": 2, "sliding_window": None}),
    "qwen2": ("Qwen2", {**SIZES, "num_key_value_heads": 2, "tie_word_embeddings": True}),
    "qwen2 window": ("Qwen2", {**SIZES, "num_key_value_heads": 2, "use_sliding_window": True, "sliding_window": 6, "max_window_layers": 0}),
    "qwen3": ("Qwen3", {**SIZES, "num_key_value_heads": 2, "head_dim": 16}),
}  # fmt: skip


def theirs(name: str) -> Any:
    return random_twin(*CASES[name])


@pytest.mark.parametrize("shards", ["whole", "shards"])
@pytest.mark.parametrize("name", CASES)
def test_what_transformers_saved_gives_its_logits(name: str, shards: str, tmp_path: Path) -> None:
    model, ids = theirs(name), some_ids()
    model.save_pretrained(tmp_path / "m", max_shard_size="20KB" if shards == "shards" else "1GB")
    assert (tmp_path / "m" / "model.safetensors.index.json").exists() == (shards == "shards")
    loaded = load_checkpoint(tmp_path / "m")
    assert_equal_everywhere(loaded.model, logits(model, ids), ids)


def old_spelling(folder: Path) -> None:
    """config.json as transformers 4 wrote it."""
    settings = json.loads((folder / "config.json").read_text())
    rope = settings.pop("rope_parameters", {})
    settings |= {"rope_theta": rope.get("rope_theta", 10000.0), "rope_scaling": None, "torch_dtype": settings.pop("dtype")}
    (folder / "config.json").write_text(json.dumps(settings))


def test_configurations_of_transformers_4_mean_the_same(tmp_path: Path) -> None:
    model, ids = theirs("llama tied"), some_ids()
    model.save_pretrained(tmp_path / "m")
    old_spelling(tmp_path / "m")
    assert_equal_everywhere(load_checkpoint(tmp_path / "m").model, logits(model, ids), ids)


def test_a_base_model_without_its_outermost_name(tmp_path: Path) -> None:
    """As the first GPT-2 files on the hub: keys without `transformer.`, and the causal mask among them."""
    from safetensors.torch import load_file, save_file

    model, ids = theirs("gpt2"), some_ids()
    model.save_pretrained(tmp_path / "m")
    file = tmp_path / "m" / "model.safetensors"
    tensors = {key.removeprefix("transformer."): value for key, value in load_file(file).items()}
    save_file({**tensors, "h.0.attn.bias": torch.ones(1, 1, 64, 64).tril()}, file)
    assert_equal_everywhere(load_checkpoint(tmp_path / "m").model, logits(model, ids), ids)


def test_left_padding_changes_nothing(tmp_path: Path) -> None:
    model, ids = theirs("llama untied, grouped"), some_ids()
    model.save_pretrained(tmp_path / "m")
    ours = load_checkpoint(tmp_path / "m").model
    assert_equal_padded(ours, model, ids, left=5)


# ---- written here ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
def test_what_we_save_gives_the_same_logits_there(name: str, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    model, ids = theirs(name), some_ids()
    model.save_pretrained(tmp_path / "m")
    loaded = load_checkpoint(tmp_path / "m")
    report = save_checkpoint(loaded.model, None, None, tmp_path / "out", format="hf", family=loaded.source.family)
    assert report.max_abs_logit_difference == 0
    again, info = AutoModelForCausalLM.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert type(again) is type(model)
    assert torch.equal(logits(again.eval(), ids), logits(model, ids))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_transformers_reads_our_half_precision(dtype: torch.dtype, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    model = build_model(ModelConfig(vocab_size=101, n_layers=2, d_model=32, n_heads=4, d_ff=48, max_positions=64), seed=1).to(dtype)
    save_checkpoint(model, None, None, tmp_path / "out", format="hf")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert again.dtype == dtype
    assert torch.equal(again.model.embed_tokens.weight, model.embedding.weight)


# ---- GGUF --------------------------------------------------------------------------------------------------------

_GGUF_NAMES = {
    "model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output", "model.layers.": "blk.",
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm", "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
}  # fmt: skip


def as_gguf(model: Any, architecture: str, path: Path) -> Path:
    """A float32 GGUF as llama.cpp's converter writes it: q and k of the architecture llama permuted, others not."""
    c = model.config
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_block_count(c.num_hidden_layers)
    writer.add_context_length(c.max_position_embeddings)
    writer.add_embedding_length(c.hidden_size)
    writer.add_feed_forward_length(c.intermediate_size)
    writer.add_head_count(c.num_attention_heads)
    writer.add_head_count_kv(c.num_key_value_heads)
    writer.add_layer_norm_rms_eps(c.rms_norm_eps)
    writer.add_rope_freq_base(c.rope_parameters["rope_theta"])
    if getattr(c, "head_dim", None):
        writer.add_key_length(c.head_dim)
        writer.add_value_length(c.head_dim)
    state = dict(model.named_parameters())
    for name, tensor in state.items():
        array = tensor.detach().numpy()
        for projection, heads in (("q_proj", c.num_attention_heads), ("k_proj", c.num_key_value_heads)):
            if architecture == "llama" and projection in name:
                array = array.reshape(heads, 2, array.shape[0] // heads // 2, *array.shape[1:]).swapaxes(1, 2).reshape(array.shape)
        for long, short in _GGUF_NAMES.items():
            name = name.replace(long, short)
        writer.add_tensor(name, np.ascontiguousarray(array))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize(
    ("name", "architecture"),
    [
        ("llama tied", "llama"),
        ("llama untied, grouped", "llama"),
        ("llama one kv head, wide heads", "llama"),
        ("llama biases", "llama"),
        ("mistral", "llama"),
        ("qwen2", "qwen2"),
        ("qwen3", "qwen3"),
    ],
)
def test_a_gguf_as_llama_cpp_writes_it(name: str, architecture: str, tmp_path: Path) -> None:
    model, ids = theirs(name), some_ids()
    loaded = load_checkpoint(as_gguf(model, architecture, tmp_path / "m.gguf"))
    assert loaded.source.family == architecture
    assert_equal_everywhere(loaded.model, logits(model, ids), ids)


# ---- the starter model -------------------------------------------------------------------------------------------

TEXT = (
    "A transformer reads a text as a row of tokens. Each block lets every token look back at the ones before it, weighs what it "
    "finds, and writes the result into a stream that the next block reads. In 2017 this replaced recurrence; by 2024 models of "
    "135 million parameters ran on a laptop."
)
QUESTION = "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n"


def half_rows(array: np.ndarray[Any, Any], heads: int) -> np.ndarray[Any, Any]:
    """q or k rows from llama.cpp's order back to Hugging Face's (facts of the format, not our code)."""
    return array.reshape(heads, array.shape[0] // heads // 2, 2, *array.shape[1:]).swapaxes(1, 2).reshape(array.shape)


@pytest.fixture(scope="module")
def starter_of_transformers(starter_path: Path) -> Any:
    """transformers' Llama from the file's tensors, read and decoded by the `gguf` package."""
    from transformers import LlamaConfig, LlamaForCausalLM

    reader = gguf.GGUFReader(starter_path)

    def value(key: str) -> Any:
        return reader.fields[f"llama.{key}"].contents()

    config = LlamaConfig(
        vocab_size=value("vocab_size"), hidden_size=value("embedding_length"), intermediate_size=value("feed_forward_length"),
        num_hidden_layers=value("block_count"), num_attention_heads=value("attention.head_count"),
        num_key_value_heads=value("attention.head_count_kv"), max_position_embeddings=value("context_length"),
        rms_norm_eps=value("attention.layer_norm_rms_epsilon"), tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": value("rope.freq_base")},
    )  # fmt: skip
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
    long_names = {short: long for long, short in _GGUF_NAMES.items()}
    state = {}
    for tensor in reader.tensors:
        array = dequantize(np.asarray(tensor.data), GGMLQuantizationType(tensor.tensor_type))
        *place, leaf, weight = tensor.name.split(".")
        array = half_rows(array, heads[leaf]) if leaf in heads else array
        prefix = f"model.layers.{place[1]}." if place else ""
        state[f"{prefix}{long_names[leaf]}.{weight}"] = torch.from_numpy(np.array(array))
    with torch.device("meta"):
        model = LlamaForCausalLM(config)
    missing = model.load_state_dict(state, strict=False, assign=True)
    assert missing.missing_keys == ["lm_head.weight"]
    assert not missing.unexpected_keys
    model.tie_weights()
    model.model.rotary_emb = type(model.model.rotary_emb)(config)
    return model.eval()


@pytest.mark.starter
@pytest.mark.slow
def test_the_starters_logits(starter: Loaded, starter_of_transformers: Any) -> None:
    assert starter.tokenizer is not None
    ids = torch.tensor([starter.tokenizer.encode(TEXT)])
    assert_equal_everywhere(starter.model, logits(starter_of_transformers, ids), ids)


@pytest.mark.starter
@pytest.mark.slow
def test_the_starters_greedy_text(starter: Loaded, starter_of_transformers: Any) -> None:
    assert starter.tokenizer is not None
    prompt = torch.tensor([starter.tokenizer.encode(QUESTION, special=True)])
    with torch.no_grad():
        said = greedily(lambda ids, cache: (starter.model(ids, cache=cache), cache), prompt, KVCache.for_model(starter.model, capacity=256))
        expected = greedily(their_step(starter_of_transformers), prompt, None)
    assert said == expected
    assert "Paris" in starter.tokenizer.decode(said[:12])


def their_step(model: Any) -> Callable[[torch.Tensor, Any], tuple[torch.Tensor, Any]]:
    def step(ids: torch.Tensor, cache: Any) -> tuple[torch.Tensor, Any]:
        out = model(ids, past_key_values=cache, use_cache=True)
        return out.logits, out.past_key_values

    return step


def greedily(step: Callable[[torch.Tensor, Any], tuple[torch.Tensor, Any]], ids: torch.Tensor, cache: Any) -> list[int]:
    """128 likeliest tokens, one by one."""
    said: list[int] = []
    for _ in range(128):
        scores, cache = step(ids, cache)
        ids = scores[:, -1:].argmax(-1)
        said.append(int(ids))
    return said
