"""config.json of every family, in old and new spellings: which architecture it means, and what is refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from workbench.checkpoints import load_checkpoint, save_checkpoint
from workbench.checkpoints.families import HF_FAMILIES
from workbench.checkpoints.families.layers import every
from workbench.checkpoints.families.settings import Settings
from workbench.checkpoints.load import parameters_of
from workbench.checkpoints.table import match, outgoing
from workbench.core.errors import ConfigError, ModelError
from workbench.core.fields import from_dict
from workbench.model import ModelConfig, build_model

FALCON: dict[str, Any] = {"vocab_size": 65024, "hidden_size": 64, "num_hidden_layers": 4, "num_attention_heads": 8}
LLAMA: dict[str, Any] = {
    "vocab_size": 128256, "num_hidden_layers": 32, "hidden_size": 4096, "num_attention_heads": 32, "num_key_value_heads": 8,
    "intermediate_size": 14336, "max_position_embeddings": 131072, "rms_norm_eps": 1e-5,
}  # fmt: skip
NEOX: dict[str, Any] = {
    "vocab_size": 50304,
    "num_hidden_layers": 6,
    "hidden_size": 512,
    "num_attention_heads": 8,
    "intermediate_size": 2048,
}
PHI: dict[str, Any] = {**NEOX, "vocab_size": 51200}
BERT: dict[str, Any] = {**NEOX, "vocab_size": 30522}
GPT: dict[str, Any] = {"vocab_size": 100, "n_layer": 4, "n_head": 4}
GEMMA: dict[str, Any] = {**NEOX, "num_key_value_heads": 4, "head_dim": 256}


def read(kind: str, given: dict[str, Any], **changes: Any) -> ModelConfig:
    family = HF_FAMILIES[kind].make()
    return from_dict(ModelConfig, {**family.read(Settings({**given, **changes}, "config.json")), "tie_embeddings": True})


# ---- Falcon ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "heads", "residual"),
    [
        ({}, 1, {"kind": "parallel", "shared_norm": True}),
        ({"num_kv_heads": 8}, 1, {"kind": "parallel", "shared_norm": True}),  # multi_query rules, as in Falcon-7B's file
        ({"multi_query": False}, 8, {"kind": "parallel", "shared_norm": True}),
        ({"multi_query": False, "parallel_attn": False}, 8, "pre"),
        ({"parallel_attn": False}, 1, "pre"),
        ({"new_decoder_architecture": True, "num_kv_heads": 2}, 2, {"kind": "parallel", "shared_norm": False}),
        ({"new_decoder_architecture": True, "num_kv_heads": 2, "multi_query": True}, 2, {"kind": "parallel", "shared_norm": False}),
        ({"new_decoder_architecture": True}, 8, {"kind": "parallel", "shared_norm": False}),
        (
            {"new_decoder_architecture": True, "num_kv_heads": 2, "num_ln_in_parallel_attn": 1}, 2,
            {"kind": "parallel", "shared_norm": True},
        ),
    ],
)  # fmt: skip
def test_falcons_layouts(given: dict[str, Any], heads: int, residual: Any) -> None:
    found = read("falcon", FALCON, **given)
    assert found.kv_heads == heads
    assert found.residual == ModelConfig(residual=residual).residual
    assert found.position.kind == "rope"
    assert found.hidden == 256


def test_falcons_linear_biases_are_divided_and_rounded() -> None:
    options = read("falcon", FALCON, alibi=True).position.options
    assert options.divided
    assert options.rounded


LAYOUTS: dict[str, dict[str, Any]] = {
    "falcon, one kv head": dict(n_kv_heads=1, residual={"kind": "parallel", "shared_norm": True}),
    "falcon, grouped": dict(n_kv_heads=2, residual={"kind": "parallel", "shared_norm": False}),
    "falcon, one norm": dict(n_kv_heads=2, residual={"kind": "parallel", "shared_norm": True}),
    "falcon, all kv heads": dict(n_kv_heads=4, residual="pre", tie_embeddings=False),
    "gpt_neox": dict(residual="pre", attention_bias=True, attention_out_bias=True, mlp_bias=True),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_fused_rows_go_to_their_places_and_back(name: str) -> None:
    family = HF_FAMILIES[name.split(",")[0]].make()
    config = ModelConfig(vocab_size=32, n_layers=2, d_model=16, n_heads=4, max_positions=16, norm="layernorm", mlp="gelu", **LAYOUTS[name])
    parameters = parameters_of(build_model(config, seed=1))
    for parameter in parameters.values():
        parameter.normal_()
    for tensor in outgoing(family.table, config, parameters):
        whole = tensor.make()
        (move,) = match(family.table, [tensor.name], family.prefix).moves
        taken = move.take.rows(config, [parameters[to].shape[0] for to in move.to])
        for to, rows in zip(move.to, taken, strict=True):
            assert torch.equal(whole if rows is None else whole[torch.from_numpy(rows)], parameters[to]), to
        numbers = sorted(int(row) for rows in taken if rows is not None for row in rows)
        assert numbers in ([], list(range(whole.shape[0])))


# ---- windows and unturned blocks -------------------------------------------------------------------------------------


def test_regular_patterns() -> None:
    assert every([1, 3, 5], 6) == 2
    assert every([1, 3, 5], 7) == 2
    assert every([1, 3], 6) is None
    assert every([0, 1, 2], 3) == 1
    assert every([], 3) is None
    assert every([3], 4) == 4
    assert every([0], 2) is None


@pytest.mark.parametrize(
    ("kind", "given", "window", "full"),
    [
        ("gemma2", {}, 4096, 2),
        ("gemma2", {"sliding_window": 7}, 7, 2),
        ("gemma2", {"sliding_window": None}, None, None),
        ("gemma2", {"layer_types": ["sliding_attention"] * 6}, 4096, None),
        ("gemma2", {"layer_types": ["full_attention"] * 6}, None, None),
        ("gemma2", {"layer_types": (["sliding_attention"] * 2 + ["full_attention"]) * 2}, 4096, 3),
        ("mistral", {"sliding_window": 7, "layer_types": ["sliding_attention", "full_attention"] * 3}, 7, 2),
        ("qwen2", {"use_sliding_window": True, "sliding_window": 7, "layer_types": ["sliding_attention", "full_attention"] * 3}, 7, 2),
        ("qwen2", {"use_sliding_window": True, "sliding_window": None}, None, None),
        ("smollm3", {"use_sliding_window": True, "sliding_window": 7, "layer_types": ["sliding_attention"] * 6}, 7, None),
        ("smollm3", {"use_sliding_window": False, "sliding_window": 7, "layer_types": ["sliding_attention"] * 6}, None, None),
    ],
)
def test_which_blocks_have_a_window(kind: str, given: dict[str, Any], window: int | None, full: int | None) -> None:
    found = read(kind, GEMMA, **given)
    assert (found.sliding_window, found.full_attention_every) == (window, full)


@pytest.mark.parametrize(
    ("given", "n"),
    [
        ({}, 4),
        ({"no_rope_layer_interval": 2}, 2),
        ({"no_rope_layers": [1, 0, 1, 0, 1, 0], "no_rope_layer_interval": 4}, 2),
        ({"no_rope_layers": [1] * 6}, None),
        ({"no_rope_layers": [0] * 8}, 1),
    ],
)
def test_which_blocks_do_not_turn(given: dict[str, Any], n: int | None) -> None:
    assert read("smollm3", GEMMA, **given).nope_every == n


# ---- details ---------------------------------------------------------------------------------------------------------


def test_what_silent_files_mean() -> None:
    neox = read("gpt_neox", NEOX)
    assert (neox.position.options.base, neox.position.options.rotary_fraction, neox.residual.kind) == (10000.0, 0.25, "parallel")
    assert not neox.residual.options.shared_norm
    phi = read("phi", PHI)
    assert (phi.position.options.rotary_fraction, phi.qk_norm, phi.head_bias, phi.mlp.kind) == (0.5, "off", True, "gelu_tanh")
    gemma = read("gemma2", GEMMA)
    assert (gemma.attention_softcap, gemma.logit_softcap, gemma.score_scale) == (50.0, 30.0, 1 / 16)
    assert gemma.norm.options.unit_offset
    assert read("gemma2", GEMMA, attn_logit_softcapping=None, final_logit_softcapping=None).attention_softcap is None
    assert read("smollm3", GEMMA).position.options.base == 2e6
    assert read("bert", BERT).norm.options.eps == 1e-12
    assert not read("bert", BERT).causal


@pytest.mark.parametrize(
    ("given", "base", "fraction"),
    [
        ({"rotary_pct": 1.0, "rotary_emb_base": 500}, 500.0, 1.0),
        ({"rotary_pct": 0.5, "rope_theta": 500}, 500.0, 0.5),
        ({"rotary_pct": 0.5, "rope_parameters": {"rope_theta": 9.0, "partial_rotary_factor": 1.0}}, 9.0, 1.0),
        ({"rope_parameters": {"rope_type": "default", "rope_theta": 9.0}}, 9.0, 0.25),
    ],
)
def test_every_spelling_of_neoxs_rotation(given: dict[str, Any], base: float, fraction: float) -> None:
    options = read("gpt_neox", NEOX, **given).position.options
    assert (options.base, options.rotary_fraction) == (base, fraction)


# ---- scaling ---------------------------------------------------------------------------------------------------------

YARN = {"factor": 4.0, "original_max_position_embeddings": 32768}
LLAMA3 = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}


@pytest.mark.parametrize("kind_key", ["type", "rope_type"])
@pytest.mark.parametrize("table_key", ["rope_scaling", "rope_parameters"])
@pytest.mark.parametrize(
    ("kind", "given", "options"),
    [
        ("linear", {"factor": 2.0}, {"factor": 2.0}),
        ("dynamic", {"factor": 2.0}, {"factor": 2.0, "original": None}),
        ("yarn", YARN, {"factor": 4.0, "original": 32768, "beta_fast": 32.0, "beta_slow": 1.0, "attention_factor": None, "truncate": True}),
        ("yarn", {"factor": 4.0}, {"original": 131072}),  # the class takes the model's own context then
        ("yarn", {"factor": None, "original_max_position_embeddings": 16384}, {"factor": 8.0, "original": 16384}),
        ("yarn", {**YARN, "attention_factor": 1.5, "truncate": False}, {"attention_factor": 1.5, "truncate": False}),
        ("yarn", {**YARN, "mscale": 1.0, "mscale_all_dim": 1.0}, {"attention_factor": 1.0}),
        ("yarn", {**YARN, "mscale": 1.0}, {"attention_factor": None}),
        ("llama3", LLAMA3, {"factor": 8.0, "low": 1.0, "high": 4.0, "original": 8192}),
    ],
)
def test_every_spelling_of_scaling(kind_key: str, table_key: str, kind: str, given: dict[str, Any], options: dict[str, Any]) -> None:
    scaling = read("llama", LLAMA, **{table_key: {kind_key: kind, "rope_theta": 5e5, **given}}).position.options.scaling
    assert scaling.kind == kind
    assert {name: getattr(scaling.options, name) for name in options} == options


def test_the_context_before_scaling_at_the_top_level_rules() -> None:
    given = {"rope_scaling": {"rope_type": "yarn", **YARN}, "original_max_position_embeddings": 4096}
    assert read("llama", LLAMA, **given).position.options.scaling.options.original == 4096


@pytest.mark.parametrize("kind", ["linear", "dynamic", "yarn", "llama3"])
@pytest.mark.parametrize("family", ["llama", "qwen3", "gpt_neox", "olmo2", "falcon"])
def test_scaling_is_written_in_both_spellings(family: str, kind: str) -> None:
    entry = HF_FAMILIES[family].make()
    assert entry.write is not None
    plain = ModelConfig(max_positions=4096, position={"kind": "rope", "scaling": {"kind": kind, "factor": 2.0}})
    written = entry.write(plain)
    newer = {key: value for key, value in written.items() if key != "rope_scaling"}
    older = {key: value for key, value in written.items() if key != "rope_parameters"}
    both = [entry.read(Settings(values, "config.json"))["position"] for values in (written, newer, older)]
    assert both[0] == both[1] == both[2]
    assert both[0]["scaling"]["kind"] == kind


# ---- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "base", "given", "says"),
    [
        ("llama", LLAMA, {"rope_scaling": {"rope_type": "longrope", "short_factor": [1.0]}}, "the rope_type 'longrope' is not supported"),
        ("llama", LLAMA, {"rope_scaling": {"type": "su"}}, "the rope_type 'su' is not supported"),
        ("llama", LLAMA, {"rope_scaling": {"type": "linear"}}, "does not say factor"),
        ("llama", LLAMA, {"rope_scaling": {"type": "linear", "factor": "2"}}, "factor must be a finite number, not '2'"),
        ("llama", LLAMA, {"rope_parameters": {"rope_type": "llama3", "factor": 8.0}}, "does not say low_freq_factor"),
        ("llama", LLAMA, {"partial_rotary_factor": 0.5}, "partial_rotary_factor is 0.5"),
        ("gpt_neox", NEOX, {"rotary_pct": 0.05}, "0.05 of a head of 64 dimensions"),
        ("gpt_neox", NEOX, {"hidden_act": "silu"}, "hidden_act is 'silu'"),
        ("gemma2", GEMMA, {"use_bidirectional_attention": True}, "use_bidirectional_attention is True"),
        ("gemma2", GEMMA, {"query_pre_attn_scalar": 0}, "query_pre_attn_scalar must be a positive number"),
        ("gemma2", GEMMA, {"layer_types": ["chunked_attention"] * 6}, "the layer type 'chunked_attention' is not supported"),
        ("gemma2", GEMMA, {"layer_types": ["full_attention"] * 5}, "layer_types must be a list of 6 kinds"),
        ("gemma2", GEMMA, {"layer_types": ["full_attention"] + ["sliding_attention"] * 5}, "5 of 6 blocks have a sliding window"),
        ("mistral", GEMMA, {"layer_types": ["full_attention"] * 2 + ["sliding_attention"] * 4}, "4 of 6 blocks have a sliding window"),
        ("smollm3", GEMMA, {"no_rope_layers": [0, 1, 1, 1, 1, 1]}, "1 of 6 blocks use no RoPE"),
        ("smollm3", GEMMA, {"no_rope_layers": [0, 1]}, "no_rope_layers must be a list of 6 numbers"),
        ("falcon", FALCON, {"apply_residual_connection_post_layernorm": True}, "apply_residual_connection_post_layernorm is True"),
        ("falcon", FALCON, {"new_decoder_architecture": True, "num_ln_in_parallel_attn": 3}, "num_ln_in_parallel_attn is 3"),
        ("falcon", FALCON, {"new_decoder_architecture": True, "parallel_attn": False}, "parallel_attn is False"),
        ("falcon", FALCON, {"activation": "swish"}, "activation is 'swish'"),
        ("bert", BERT, {"position_embedding_type": "relative_key"}, "position_embedding_type is 'relative_key'"),
        ("bert", BERT, {"hidden_act": "relu"}, "hidden_act is 'relu'"),
        ("bert", BERT, {"is_decoder": True}, "is_decoder is True"),
        ("openai-gpt", {**GPT, "n_embd": 64}, {"afn": "silu"}, "afn is 'silu'"),
        ("bloom", {**GPT, "hidden_size": 64}, {"apply_residual_connection_post_layernorm": True}, "post_layernorm is True"),
    ],
)
def test_what_cannot_be_run_is_refused_by_name(kind: str, base: dict[str, Any], given: dict[str, Any], says: str) -> None:
    with pytest.raises(ModelError) as caught:
        read(kind, base, **given)
    assert says in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize("kind", [e.name for e in HF_FAMILIES])
def test_settings_of_any_type_are_understood_or_refused(kind: str) -> None:
    family = HF_FAMILIES[kind].make()
    assert family.write is not None
    written = dict(family.write(ModelConfig(**SMALL, position={"kind": "rope", "scaling": "yarn"})))
    more = ("rope_scaling", "rotary_pct", "layer_types", "no_rope_layers", "use_sliding_window", "sliding_window", "model_type")
    values = (None, True, -1, 0, 7, 10**30, 10**9, 1.5, "x", "", [], [1], {}, {"rope_type": "default"}, {"a": 1})
    refused = 0
    for key in (*written, *more):
        for value in values:
            try:
                fields = family.read(Settings({**written, key: value}, "config.json"))
                from_dict(ModelConfig, {**fields, "tie_embeddings": True}).problems()
            except (ModelError, ConfigError):
                refused += 1
    assert refused > 30


SMALL: dict[str, Any] = dict(vocab_size=32, n_layers=3, d_model=16, n_heads=2, max_positions=32)


@pytest.mark.parametrize(
    ("family", "changes", "says"),
    [
        ("llama", {"position": {"kind": "rope", "rotary_fraction": 0.5}}, "position.rotary_fraction = 0.5"),
        ("llama", {"position": {"kind": "rope", "style": "interleaved"}}, "position.style = interleaved"),
        ("llama", {"position": "alibi"}, "position = alibi"),
        ("llama", {"mlp": "gelu"}, "mlp = gelu"),
        ("llama", {"norm": "none"}, "norm = none"),
        ("llama", {"residual": "double"}, "residual = double"),
        ("llama", {"causal": False}, "causal = False"),
        ("llama", {"logit_softcap": 30.0}, "logit_softcap = 30.0"),
        ("llama", {"sliding_window": 8}, "sliding_window = 8"),
        ("mistral", {"sliding_window": 8, "full_attention_every": 2}, "full_attention_every = 2"),
        ("smollm3", {"scale_embeddings": True}, "scale_embeddings = True"),
        ("gemma2", {}, "residual = pre"),
        ("olmo2", {}, "qk_norm = off"),
        ("bert", {}, "causal = True"),
        ("falcon", {}, "norm = rmsnorm"),
        ("llama", {"position": {"kind": "rope", "scaling": {"kind": "dynamic", "original": 16}}}, "position.scaling.original = 16"),
    ],
)
def test_what_a_family_cannot_say_is_named(family: str, changes: dict[str, Any], says: str, tmp_path: Path) -> None:
    model = build_model(ModelConfig(**SMALL, **changes), seed=1)
    with pytest.raises(ModelError) as caught:
        save_checkpoint(model, None, None, tmp_path / "out", format="hf", family=family)
    assert says in caught.value.message
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("changes", "family"),
    [
        ({"position": {"kind": "rope", "scaling": {"kind": "dynamic", "original": 32}}}, "llama"),  # the model's own context
        ({"position": {"kind": "rope", "scaling": {"kind": "yarn", "factor": 2.0}}}, "llama"),
        ({"position": {"kind": "rope", "scaling": {"kind": "yarn", "factor": 2.0, "original": 16}}}, "llama"),
        ({"nope_every": 4}, "llama"),  # of three blocks none
        ({"nope_every": 3}, "smollm3"),
        ({"sliding_window": 8, "full_attention_every": 4}, "mistral"),
        ({"sliding_window": 8, "full_attention_every": 1}, "llama"),
        ({"sliding_window": 8, "full_attention_every": 2}, "smollm3"),
    ],
)
def test_what_amounts_to_the_same_is_written(changes: dict[str, Any], family: str, tmp_path: Path) -> None:
    model = build_model(ModelConfig(**SMALL, **changes), seed=1)
    report = save_checkpoint(model, None, None, tmp_path / "out", format="hf")
    assert (report.family, report.max_abs_logit_difference) == (family, 0)


# ---- tensors that are missing, or unknown ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "taken", "added", "says"),
    [
        (
            "falcon, grouped",
            "transformer.h.1.ln_attn.weight",
            None,
            "lacks tensors that its configuration asks for: transformer.h.1.ln_attn",
        ),
        ("falcon, one norm", "transformer.h.0.input_layernorm.bias", None, "lacks tensors .*: transformer.h.0.input_layernorm.bias"),
        ("falcon, one norm", None, "transformer.h.0.ln_mlp.bias", "no place for: transformer.h.0.ln_mlp.bias"),
        (
            "gpt_neox",
            "gpt_neox.layers.1.attention.query_key_value.bias",
            None,
            "lacks tensors .*: gpt_neox.layers.1.attention.query_key_value",
        ),
        ("gpt_neox", None, "gpt_neox.layers.1.attention.extra", "no place for: gpt_neox.layers.1.attention.extra"),
    ],
)
def test_files_that_do_not_fit_list_their_keys(name: str, taken: str | None, added: str | None, says: str, tmp_path: Path) -> None:
    more = {**LAYOUTS[name], "n_heads": 4}
    model = build_model(ModelConfig(**{**SMALL, **more}, norm="layernorm", mlp="gelu"), seed=1)
    save_checkpoint(model, None, None, tmp_path / "out", format="hf", family=name.split(",")[0])
    file = tmp_path / "out" / "model.safetensors"
    tensors = load_file(file)
    if taken:
        del tensors[taken]
    if added:
        tensors[added] = torch.ones(16)
    save_file(tensors, file)
    with pytest.raises(ModelError, match=says) as caught:
        load_checkpoint(tmp_path / "out")
    assert (taken or added or "") in caught.value.details
