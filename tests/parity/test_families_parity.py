"""Every family and layout of Hugging Face's folders: read, its logits are transformers'; written, transformers' are ours."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.parity.twins import (
    SIZES,
    TOLERANCE,
    assert_equal_everywhere,
    assert_equal_padded,
    chunked,
    classes,
    logits,
    random_twin,
    some_ids,
)
from workbench.checkpoints import load_checkpoint, save_checkpoint
from workbench.core.errors import ModelError
from workbench.model import PRESETS, ModelConfig, build_model

pytestmark = pytest.mark.parity

FALCON = {key: value for key, value in SIZES.items() if key != "intermediate_size"}
TINY = {"n_layer": 3, "n_head": 4, "vocab_size": 101}
GROUPED = {**SIZES, "num_key_value_heads": 2}
HALF = {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5}
SCALED = {"rope_theta": 1e4, "factor": 4.0}
SHORT = {**SCALED, "original_max_position_embeddings": 16}
WIDE = {**GROUPED, "head_dim": 16}

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "falcon-rw": ("Falcon", {**FALCON, "multi_query": False, "parallel_attn": False, "alibi": True, "bias": True}),
    "falcon-rw, rope": ("Falcon", {**FALCON, "multi_query": False, "parallel_attn": False, "bias": True}),
    "falcon-rw, parallel": ("Falcon", {**FALCON, "multi_query": False, "alibi": True, "ffn_hidden_size": 40}),
    "falcon-rw, 3 heads": (
        "Falcon", {**FALCON, "hidden_size": 24, "num_attention_heads": 3, "multi_query": False, "parallel_attn": False, "alibi": True}
    ),
    "falcon-7b": ("Falcon", {**FALCON, "num_kv_heads": 4}),
    "falcon-7b, sequential": ("Falcon", {**FALCON, "parallel_attn": False}),
    "falcon-40b": ("Falcon", {**FALCON, "new_decoder_architecture": True, "num_kv_heads": 2, "bias": True}),
    "falcon-11b": (
        "Falcon",
        {**FALCON, "new_decoder_architecture": True, "num_kv_heads": 2, "num_ln_in_parallel_attn": 1, "tie_word_embeddings": False},
    ),
    "gpt_neox": ("GPTNeoX", {**SIZES, "rope_parameters": HALF}),
    "gpt_neox, sequential, tied": ("GPTNeoX", {**SIZES, "use_parallel_residual": False, "tie_word_embeddings": True}),
    "gpt_neox, no attention biases": ("GPTNeoX", {**SIZES, "attention_bias": False, "hidden_act": "gelu_new"}),
    "phi": ("Phi", SIZES),
    "phi, grouped, normed heads": ("Phi", {**GROUPED, "qk_layernorm": True, "rope_parameters": {**HALF, "partial_rotary_factor": 0.25}}),
    "gemma2": ("Gemma2", {**WIDE, "sliding_window": 6, "query_pre_attn_scalar": 24, "attn_logit_softcapping": 5.0}),
    "gemma2, plain": (
        "Gemma2",
        {
            **WIDE, "sliding_window": 6, "attn_logit_softcapping": None, "final_logit_softcapping": None, "attention_bias": True,
            "layer_types": ["sliding_attention", "sliding_attention", "full_attention"], "tie_word_embeddings": False,
        },
    ),
    "olmo2": ("Olmo2", GROUPED),
    "olmo2, biases, tied": ("Olmo2", {**SIZES, "attention_bias": True, "tie_word_embeddings": True}),
    "smollm3": ("SmolLM3", {**GROUPED, "no_rope_layer_interval": 2}),
    "smollm3, windows": (
        "SmolLM3",
        {
            **GROUPED, "no_rope_layers": [1, 1, 1], "use_sliding_window": True, "sliding_window": 5,
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
        },
    ),
    "qwen2, windows in some blocks": (
        "Qwen2",
        {
            **GROUPED, "use_sliding_window": True, "sliding_window": 6,
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
        },
    ),
    "linear": ("Llama", {**GROUPED, "rope_parameters": {**SCALED, "rope_type": "linear"}}),
    "yarn": ("Llama", {**GROUPED, "rope_parameters": {**SHORT, "rope_type": "yarn"}}),
    "yarn, own ramp": (
        "Llama",
        {
            **GROUPED,
            "rope_parameters": {
                **SHORT, "rope_type": "yarn", "attention_factor": 1.2, "beta_fast": 2.0, "beta_slow": 0.1, "truncate": False
            },
        },
    ),
    "yarn, mscale": ("Qwen3", {**WIDE, "rope_parameters": {**SHORT, "rope_type": "yarn", "mscale": 0.7, "mscale_all_dim": 0.3}}),
    "yarn, half": ("GPTNeoX", {**SIZES, "rope_parameters": {**HALF, **SHORT, "rope_type": "yarn"}}),
    "llama3": (
        "Llama", {**GROUPED, "rope_parameters": {**SHORT, "rope_type": "llama3", "low_freq_factor": 1.0, "high_freq_factor": 4.0}}
    ),
    "bloom": ("Bloom", {**TINY, "hidden_size": 32}),
    "gpt1": ("OpenAIGPT", {**TINY, "n_embd": 32, "n_positions": 64}),
    "gpt1, relu, untied": ("OpenAIGPT", {**TINY, "n_embd": 32, "n_positions": 64, "afn": "relu", "tie_word_embeddings": False}),
    "bert": ("Bert", SIZES),
    "bert, untied": ("Bert", {**SIZES, "tie_word_embeddings": False, "type_vocab_size": 3}),
}  # fmt: skip
UNUSED = {"bert, untied": {"cls.predictions.bias"}}
"""Parameters that the class has but does not use, so that we neither read nor write them."""
DYNAMIC = {**GROUPED, "max_position_embeddings": 16, "rope_parameters": {**SCALED, "rope_type": "dynamic"}}


def theirs(name: str) -> Any:
    kind, settings = CASES[name]
    return random_twin(kind, settings, gain=0.0 if kind == "Gemma2" else 1.0)


@pytest.mark.parametrize("name", CASES)
def test_what_transformers_saved_gives_its_logits(name: str, tmp_path: Path) -> None:
    model, ids = theirs(name), some_ids()
    model.save_pretrained(tmp_path / "m")
    ours = load_checkpoint(tmp_path / "m").model
    assert_equal_everywhere(ours, logits(model, ids), ids)
    if ours.config.causal:
        assert_equal_padded(ours, model, ids, left=5)
    else:
        assert_equal_padded(ours, model, ids, right=5)


@pytest.mark.parametrize("name", ["falcon-40b", "gpt_neox", "gemma2", "bert, untied"])
def test_in_shards(name: str, tmp_path: Path) -> None:
    model, ids = theirs(name), some_ids()
    model.save_pretrained(tmp_path / "m", max_shard_size="20KB")
    assert (tmp_path / "m" / "model.safetensors.index.json").exists()
    assert_equal_everywhere(load_checkpoint(tmp_path / "m").model, logits(model, ids), ids)


@pytest.mark.parametrize("name", CASES)
def test_what_we_save_gives_the_same_logits_there(name: str, tmp_path: Path) -> None:
    model, ids = theirs(name), some_ids()
    model.save_pretrained(tmp_path / "m")
    loaded = load_checkpoint(tmp_path / "m")
    report = save_checkpoint(loaded.model, None, None, tmp_path / "out", format="hf")  # the family is found from the architecture
    assert report.family == loaded.source.family
    assert report.max_abs_logit_difference == 0
    again, info = classes(CASES[name][0])[1].from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not info["unexpected_keys"]
    assert not info["mismatched_keys"]
    assert set(info["missing_keys"]) <= UNUSED.get(name, set())
    assert type(again) is type(model)
    assert all(torch.equal(value, again.state_dict()[key]) for key, value in model.state_dict().items() if key not in UNUSED.get(name, ()))
    assert torch.equal(logits(again.eval(), ids), logits(model, ids))


# ---- scaling that depends on the length, or has no name there ---------------------------------------------------------


def test_dynamic_scaling_past_the_context(tmp_path: Path) -> None:
    """Keys cached before the context was passed keep their angles, there and here."""
    model, ids = random_twin("Llama", DYNAMIC), some_ids()
    model.save_pretrained(tmp_path / "m")
    loaded = load_checkpoint(tmp_path / "m")
    with torch.no_grad():
        assert (loaded.model(ids) - logits(model, ids)).abs().max() <= TOLERANCE
    for size in (1, 5):
        cache, steps = None, []
        model.save_pretrained(tmp_path / "fresh")  # the class remembers the longest text it saw
        fresh = classes("Llama")[1].from_pretrained(tmp_path / "fresh").eval()
        for part in ids.split(size, 1):
            with torch.no_grad():
                out = fresh(part, past_key_values=cache, use_cache=True)
            cache = out.past_key_values
            steps.append(out.logits)
        assert (chunked(loaded.model, ids, size) - torch.cat(steps, 1)).abs().max() <= TOLERANCE
    save_checkpoint(loaded.model, None, None, tmp_path / "out", format="hf")
    again = classes("Llama")[1].from_pretrained(tmp_path / "out").eval()
    assert torch.equal(logits(again, ids), logits(model, ids))


def test_ntk_scaling_is_written_as_a_larger_base(tmp_path: Path) -> None:
    scaled = {"kind": "rope", "rotary_fraction": 0.5, "scaling": {"kind": "ntk", "factor": 8.0}}
    more: dict[str, Any] = dict(norm="layernorm", residual="parallel", mlp="gelu", attention_bias=True, attention_out_bias=True)
    config = ModelConfig(vocab_size=101, n_layers=2, d_model=32, n_heads=2, max_positions=64, position=scaled, mlp_bias=True, **more)
    model, ids = build_model(config, seed=1), some_ids()
    report = save_checkpoint(model, None, None, tmp_path / "out", format="hf")
    assert (report.family, report.max_abs_logit_difference) == ("gpt_neox", 0)
    again = classes("GPTNeoX")[1].from_pretrained(tmp_path / "out").eval()
    assert again.config.rope_parameters["rope_theta"] == pytest.approx(1e4 * 8 ** (8 / 6))
    with torch.no_grad():
        assert (model(ids) - logits(again, ids)).abs().max() <= TOLERANCE


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gemmas_embeddings_are_scaled_in_their_own_type(dtype: torch.dtype, tmp_path: Path) -> None:
    model, ids = theirs("gemma2"), some_ids()
    model.save_pretrained(tmp_path / "m")
    ours = load_checkpoint(tmp_path / "m", dtype=dtype).model
    seen: list[torch.Tensor] = []
    ours.blocks[0].register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    with torch.no_grad():
        ours(ids)
        assert torch.equal(seen[0], model.to(dtype).model.embed_tokens(ids))


# ---- older files -----------------------------------------------------------------------------------------------------


def rewrite(folder: Path, **changes: Any) -> None:
    """config.json with `changes`; None takes a key out."""
    file = folder / "config.json"
    settings = {**json.loads(file.read_text()), **changes}
    settings["torch_dtype"] = settings.pop("dtype")
    file.write_text(json.dumps({key: value for key, value in settings.items() if value is not None}))


NO_FALCON = dict.fromkeys(("rope_parameters", "num_hidden_layers", "num_attention_heads", "num_kv_heads", "new_decoder_architecture"))
OLDER: dict[str, dict[str, Any]] = {
    "falcon-rw": {**NO_FALCON, "model_type": "RefinedWebModel", "n_layer": 3, "n_head": 4, "ffn_hidden_size": None},
    "falcon-7b": {**NO_FALCON, "model_type": "RefinedWebModel", "n_layer": 3, "n_head": 4},
    "falcon-40b": {**NO_FALCON, "model_type": "RefinedWeb", "n_layer": 3, "n_head": 4, "n_head_kv": 2, "num_ln_in_parallel_attn": None},
    "gpt_neox": {"rope_parameters": None, "rotary_pct": 0.5, "rotary_emb_base": 10000},
    "phi, grouped, normed heads": {"rope_parameters": None, "rope_theta": 10000.0, "partial_rotary_factor": 0.25},
    "gemma2": {"rope_parameters": None, "rope_theta": 10000.0, "layer_types": None, "hidden_act": "gelu_pytorch_tanh"},
    "smollm3": {"rope_parameters": None, "no_rope_layer_interval": None, "layer_types": None},
    "linear": {"rope_parameters": None, "rope_theta": 10000.0, "rope_scaling": {"type": "linear", "factor": 4.0}},
    "yarn": {
        "rope_parameters": None, "rope_theta": 10000.0,
        "rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16},
    },
    "llama3": {
        "rope_parameters": None, "rope_theta": 10000.0,
        "rope_scaling": {
            "rope_type": "llama3", "factor": 4.0, "original_max_position_embeddings": 16, "low_freq_factor": 1.0, "high_freq_factor": 4.0
        },
    },
}  # fmt: skip


@pytest.mark.parametrize("name", OLDER)
def test_configurations_of_older_versions_mean_the_same(name: str, tmp_path: Path) -> None:
    model, ids = theirs(name), some_ids()
    model.save_pretrained(tmp_path / "m")
    rewrite(tmp_path / "m", **OLDER[name])
    loaded = load_checkpoint(tmp_path / "m")
    assert (loaded.model(ids) - logits(model, ids)).abs().max() <= TOLERANCE


def test_berts_first_files(tmp_path: Path) -> None:
    """Norms by the paper's letters, the head's bias twice, and the parts that judge pairs of sentences."""
    from safetensors.torch import load_file, save_file

    model, ids = theirs("bert"), some_ids()
    model.save_pretrained(tmp_path / "m")
    file = tmp_path / "m" / "model.safetensors"
    tensors = load_file(file)
    renamed = {
        key.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): value
        for key, value in tensors.items()
    }
    assert len(set(renamed) - set(tensors)) == 16
    more = {
        "cls.predictions.decoder.bias": tensors["cls.predictions.bias"].clone(),
        "cls.predictions.decoder.weight": tensors["bert.embeddings.word_embeddings.weight"].clone(),
        "bert.pooler.dense.weight": torch.ones(32, 32),
        "bert.pooler.dense.bias": torch.ones(32),
        "cls.seq_relationship.weight": torch.ones(2, 32),
        "cls.seq_relationship.bias": torch.ones(2),
        "bert.embeddings.position_ids": torch.arange(64)[None].float(),
    }
    save_file({**renamed, **more}, file)
    loaded = load_checkpoint(tmp_path / "m")
    assert loaded.config.tie_embeddings
    assert_equal_everywhere(loaded.model, logits(model, ids), ids)


# ---- built here ------------------------------------------------------------------------------------------------------

NOT_THERE = {"tiny-transformer-2017", "tiny-nope", "tiny-deepnorm"}
"""Ideas that no class of transformers has as a language model."""


@pytest.mark.parametrize("name", [name for name in PRESETS if name.startswith("tiny-")])
def test_a_model_built_here_is_the_same_there(name: str, tmp_path: Path) -> None:
    config = replace(PRESETS[name].config, n_layers=3)
    model = build_model(config, seed=1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(2)), alpha=0.1)
    if name in NOT_THERE:
        with pytest.raises(ModelError, match="cannot express this model's"):
            save_checkpoint(model, None, None, tmp_path / "out", format="hf")
        return
    assert save_checkpoint(model, None, None, tmp_path / "out", format="hf").max_abs_logit_difference == 0
    kind = "Llama" if config.causal else "Bert"
    there = classes(kind)[1].from_pretrained(tmp_path / "out").eval()
    ids = some_ids(config.vocab_size)
    with torch.no_grad():
        assert (model(ids) - logits(there, ids)).abs().max() <= TOLERANCE
