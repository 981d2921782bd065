"""Writing GGUF: what comes back for every architecture and type, what the file says, and what is refused by name."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gguf.constants import GGMLQuantizationType
from gguf.quants import dequantize, quantize

from workbench.adapters import LoraConfig, attach
from workbench.checkpoints import load_checkpoint, save_checkpoint, save_events
from workbench.checkpoints.gguf_export import TYPES
from workbench.checkpoints.gguf_file import GGUFFile
from workbench.core.control import Control
from workbench.core.errors import FileError, ModelError
from workbench.core.events import Progress
from workbench.model import ModelConfig, Transformer, build_model
from workbench.parts.positions.scaling import Llama3Scaling, Wheel
from workbench.tokenizers import AddedToken, BpeSpec
from workbench.tokenizers.patterns import GPT2
from workbench.tokenizers.spec import LETTER_OF_BYTE

GPT2_STYLE: dict[str, Any] = dict(
    position="learned", norm="layernorm", mlp="gelu_tanh", attention_bias=True, attention_out_bias=True, mlp_bias=True
)  # fmt: skip


def rope(**changes: Any) -> dict[str, Any]:
    return {"position": {"kind": "rope", **changes}}


ARCHITECTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {}),
    "llama untied, grouped, wide heads, all biases": (
        "llama",
        {
            "tie_embeddings": False, "n_kv_heads": 2, "head_dim": 16, "attention_bias": True, "attention_out_bias": True, "mlp_bias": True,
            "norm": {"kind": "rmsnorm", "eps": 1e-3},
        },
    ),
    "llama, another base": ("llama", rope(base=500000.0)),
    "linear": ("llama", rope(scaling={"kind": "linear", "factor": 4})),
    "yarn": ("llama", rope(scaling={"kind": "yarn", "factor": 4, "original": 8})),
    "llama3": ("llama", {"head_dim": 64, **rope(base=500000.0, scaling={"kind": "llama3", "factor": 8})}),
    "qwen2": ("qwen2", {"attention_bias": True, "n_kv_heads": 2}),
    "qwen2, yarn": (
        "qwen2", {"attention_bias": True, **rope(scaling={"kind": "yarn", "factor": 4, "original": 8, "attention_factor": 1.5})},
    ),
    "qwen3": ("qwen3", {"qk_norm": "head", "n_kv_heads": 2, "head_dim": 16, "tie_embeddings": False}),
    "gpt2": ("gpt2", GPT2_STYLE),
    "gpt2 untied, narrow": ("gpt2", {**GPT2_STYLE, "tie_embeddings": False, "norm": {"kind": "layernorm", "eps": 1e-6}}),
}  # fmt: skip


def tiny(**changes: Any) -> Transformer:
    plain: dict[str, Any] = dict(vocab_size=272, n_layers=2, d_model=32, n_heads=4, d_ff=64, max_positions=32)
    model = build_model(ModelConfig(**{**plain, **changes}), seed=2)
    draw = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=draw)
    return model


def toy_spec(**changes: Any) -> BpeSpec:
    tokens = ("", "", *LETTER_OF_BYTE.values(), "he")
    added = (AddedToken(0, "<|endoftext|>"), AddedToken(1, "<|im_end|>"))
    return BpeSpec(
        **{**dict(name="toy", tokens=tokens, merges=("h e",), pattern=GPT2, added=added, bos_id=0, eos_ids=(1,), pad_id=1), **changes}
    )


def metadata_of(path: Path) -> dict[str, Any]:
    file = GGUFFile(path)
    file.close()
    return file.metadata


# ---- round trips -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", ARCHITECTURES)
def test_every_architecture_comes_back_equal(case: str, tmp_path: Path) -> None:
    family, changes = ARCHITECTURES[case]
    model = tiny(**changes)
    report = save_checkpoint(model, None, None, tmp_path / "out.gguf", format="gguf")
    assert (report.family, report.type, report.exact, report.max_abs_logit_difference) == (family, "f32", True, 0)
    again = load_checkpoint(tmp_path / "out.gguf")
    ours, theirs = model.config, again.config
    assert (theirs.tie_embeddings, theirs.kv_heads, theirs.head_width, theirs.hidden) == (
        ours.tie_embeddings, ours.kv_heads, ours.head_width, ours.hidden,
    )  # fmt: skip
    assert theirs.position.kind == ours.position.kind
    if ours.position.kind == "rope":
        found, wanted = theirs.position.options.scaling, ours.position.options.scaling
        assert found.kind == wanted.kind
        for field in dataclasses.fields(wanted.options):
            value = getattr(wanted.options, field.name)
            assert getattr(found.options, field.name) == (pytest.approx(value) if isinstance(value, float) else value)


@pytest.mark.parametrize("type", TYPES)
@pytest.mark.parametrize("case", ["llama untied, grouped, wide heads, all biases", "gpt2"])
def test_every_type_stores_matrices_rounded_and_vectors_as_they_are(case: str, type: str, tmp_path: Path) -> None:
    model = tiny(**ARCHITECTURES[case][1])
    report = save_checkpoint(model, None, None, tmp_path / "out.gguf", format="gguf", type=type)
    file, kind = GGUFFile(tmp_path / "out.gguf"), TYPES[type][0]
    for name, stored in file.quantizations.items():
        vector = len(file.infos[name].shape) == 1 or name == "position_embd.weight"
        assert stored == ("F32" if vector else kind.name), name
    embedding = model.embedding.weight.detach().numpy()
    expected = torch.from_numpy(dequantize(quantize(embedding, kind), kind))
    assert torch.equal(file.rows("token_embd.weight", slice(None)).float(), expected)
    assert file.metadata["general.file_type"] == int(TYPES[type][1])
    assert report.exact == (type == "f32")
    assert report.nbytes == sum(info.nbytes for info in file.infos.values())
    file.close()
    again = load_checkpoint(tmp_path / "out.gguf").model
    assert torch.equal(again.blocks[1].residual.mlp_norm.weight, model.blocks[1].residual.mlp_norm.weight)
    with torch.no_grad():
        ids = torch.randint(272, (1, 32), generator=torch.Generator().manual_seed(0))
        assert report.max_abs_logit_difference == float((model(ids) - again(ids)).abs().max())


def test_rows_that_blocks_of_32_do_not_divide_are_stored_in_half_precision(tmp_path: Path) -> None:
    save_checkpoint(tiny(d_ff=48), None, None, tmp_path / "out.gguf", format="gguf", type="q8_0")
    kinds = GGUFFile(tmp_path / "out.gguf").quantizations
    assert (kinds["blk.0.ffn_down.weight"], kinds["blk.0.ffn_up.weight"]) == ("F16", "Q8_0")


@pytest.mark.parametrize(("dtype", "type"), [(torch.bfloat16, "bf16"), (torch.float16, "f16"), (torch.float32, "f32")])
def test_without_a_type_the_models_own_is_kept(tmp_path: Path, dtype: torch.dtype, type: str) -> None:
    report = save_checkpoint(tiny().to(dtype), None, None, tmp_path / "out.gguf", format="gguf")
    assert (report.type, report.exact, report.max_abs_logit_difference) == (type, True, 0)
    assert load_checkpoint(tmp_path / "out.gguf", dtype=None).model.dtype == dtype


def test_eight_bits_written_again_are_the_same_bytes(tmp_path: Path) -> None:
    save_checkpoint(tiny(), None, None, tmp_path / "one.gguf", format="gguf", type="q8_0")
    report = save_checkpoint(load_checkpoint(tmp_path / "one.gguf").model, None, None, tmp_path / "two.gguf", format="gguf", type="q8_0")
    assert report.exact
    one, two = GGUFFile(tmp_path / "one.gguf"), GGUFFile(tmp_path / "two.gguf")
    assert all(torch.equal(one.rows(name, slice(None)), two.rows(name, slice(None))) for name in one.infos)


def test_queries_and_keys_of_llama_are_written_in_neighbouring_pairs(tmp_path: Path) -> None:
    """llama.cpp's converter, written by hand: per head (2, d/2) -> (d/2, 2)."""
    model = tiny(n_kv_heads=2)
    save_checkpoint(model, None, None, tmp_path / "out.gguf", format="gguf")
    file, attention = GGUFFile(tmp_path / "out.gguf"), model.blocks[1].attention
    for name, ours, heads in (("attn_q", attention.q_proj.weight, 4), ("attn_k", attention.k_proj.weight, 2)):
        permuted = ours.detach().reshape(heads, 2, 4, 32).swapaxes(1, 2).reshape(ours.shape)
        assert torch.equal(file.rows(f"blk.1.{name}.weight", slice(None)), permuted)
    assert torch.equal(file.rows("blk.1.attn_v.weight", slice(None)), attention.v_proj.weight.detach())


def test_queries_keys_and_values_of_gpt2_are_one_matrix_of_rows(tmp_path: Path) -> None:
    model = tiny(**GPT2_STYLE)
    save_checkpoint(model, None, None, tmp_path / "out.gguf", format="gguf")
    attention = model.blocks[0].attention
    fused = torch.cat([attention.q_proj.bias, attention.k_proj.bias, attention.v_proj.bias]).detach()
    assert torch.equal(GGUFFile(tmp_path / "out.gguf").rows("blk.0.attn_qkv.bias", slice(None)), fused)


def test_the_file_says_what_llama_cpp_asks_for(tmp_path: Path) -> None:
    model = tiny(n_kv_heads=2, head_dim=16, **rope(base=500000.0))
    save_checkpoint(model, None, None, tmp_path / "My model.gguf", format="gguf")
    said = metadata_of(tmp_path / "My model.gguf")
    assert {key: said[key] for key in said if key.startswith(("general", "llama"))} == {
        "general.architecture": "llama", "general.type": "model", "general.name": "My model", "general.file_type": 0,
        "general.quantization_version": 2, "llama.vocab_size": 272, "llama.context_length": 32, "llama.embedding_length": 32,
        "llama.block_count": 2, "llama.feed_forward_length": 64, "llama.attention.head_count": 4, "llama.attention.head_count_kv": 2,
        "llama.attention.layer_norm_rms_epsilon": pytest.approx(1e-5), "llama.rope.freq_base": 500000.0, "llama.rope.dimension_count": 16,
        "llama.attention.key_length": 16, "llama.attention.value_length": 16,
    }  # fmt: skip
    assert said["tokenizer.ggml.model"] == "no_vocab"


# ---- what cannot be said -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"position": "alibi"}, "position = alibi"),
        ({"residual": "double"}, "residual = double"),
        ({"mlp": "geglu"}, "mlp = geglu"),
        ({"norm": {"kind": "rmsnorm", "unit_offset": True}}, "norm.unit_offset = True"),
        (rope(style="interleaved"), "position.style = interleaved"),
        (rope(rotary_fraction=0.5), "position.rotary_fraction = 0.5"),
        (rope(scaling={"kind": "dynamic"}), "position.scaling = dynamic"),
        (rope(scaling={"kind": "yarn", "original": 8, "beta_fast": 16}), "position.scaling.beta_fast = 16"),
        ({"nope_every": 2}, "nope_every = 2"),
        ({"qk_norm": "full"}, "qk_norm = full"),
        ({"attention_softcap": 50.0}, "attention_softcap = 50.0"),
        ({"logit_softcap": 30.0}, "logit_softcap = 30.0"),
        ({"scale_embeddings": True}, "scale_embeddings = True"),
        ({"causal": False}, "causal = False"),
        ({"attention_scale": 0.1}, "attention_scale = 0.1"),
        ({**GPT2_STYLE, "mlp": "relu"}, "mlp = relu"),
        ({**GPT2_STYLE, "attention_bias": False}, "attention_bias = False"),
        ({"attention_bias": True, "qk_norm": "head"}, "qk_norm = head"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_llama_cpp_cannot_run_is_named(tmp_path: Path, changes: Mapping[str, Any], says: str) -> None:
    with pytest.raises(ModelError) as caught:
        save_checkpoint(tiny(**changes), None, None, tmp_path / "out.gguf", format="gguf")
    assert f"cannot express this model's {says}" in caught.value.message
    assert "workbench checkpoint" in caught.value.hint
    assert list(tmp_path.iterdir()) == []


def test_a_window_becomes_the_context_within_which_nothing_changes(tmp_path: Path) -> None:
    model = tiny(sliding_window=12)
    report = save_checkpoint(model, None, None, tmp_path / "out.gguf", format="gguf")
    again = load_checkpoint(tmp_path / "out.gguf")
    assert (again.config.max_positions, again.config.sliding_window, report.max_abs_logit_difference) == (12, None, 0)
    assert "without a sliding window, so the file's context is the window's 12 tokens" in report.notices[0]
    wide = save_checkpoint(tiny(sliding_window=32), None, None, tmp_path / "wide.gguf", format="gguf")
    assert not any("window" in notice for notice in wide.notices)


def test_ntk_scaling_becomes_the_base_it_amounts_to(tmp_path: Path) -> None:
    report = save_checkpoint(tiny(**rope(scaling={"kind": "ntk", "factor": 4})), None, None, tmp_path / "out.gguf", format="gguf")
    assert report.max_abs_logit_difference < 1e-5
    options = load_checkpoint(tmp_path / "out.gguf").config.position.options
    assert (options.scaling.kind, options.base) == ("none", pytest.approx(10000 * 4 ** (8 / 6)))


def test_yarn_without_an_original_context_spells_it_out(tmp_path: Path) -> None:
    save_checkpoint(tiny(**rope(scaling={"kind": "yarn", "factor": 4})), None, None, tmp_path / "out.gguf", format="gguf")
    assert metadata_of(tmp_path / "out.gguf")["llama.rope.scaling.original_context_length"] == 8


def test_a_window_is_cut_after_yarn_found_its_original_context(tmp_path: Path) -> None:
    yarn = rope(scaling={"kind": "yarn", "factor": 4})
    report = save_checkpoint(tiny(sliding_window=16, **yarn), None, None, tmp_path / "out.gguf", format="gguf")
    said = metadata_of(tmp_path / "out.gguf")
    assert (said["llama.context_length"], said["llama.rope.scaling.original_context_length"]) == (16, 8)
    assert report.max_abs_logit_difference == 0
    odd = tiny(sliding_window=16, **rope(scaling={"kind": "yarn", "factor": 3}))  # 32 / 3 cannot be written, nor the context cut
    with pytest.raises(ModelError, match=r"cannot express this model's .*sliding_window = 16"):
        save_checkpoint(odd, None, None, tmp_path / "odd.gguf", format="gguf")


def test_llama3_is_a_tensor_of_divisors(tmp_path: Path) -> None:
    save_checkpoint(tiny(**ARCHITECTURES["llama3"][1]), None, None, tmp_path / "out.gguf", format="gguf")
    divisors = GGUFFile(tmp_path / "out.gguf").rows("rope_freqs.weight", slice(None))
    for i, divisor in enumerate(divisors.tolist()):  # the facts' three branches
        wave = 2 * math.pi * 500000 ** (2 * i / 64)
        smooth = (8192 / wave - 1) / 3
        expected = 1 if wave < 2048 else 8 if wave > 8192 else 1 / ((1 - smooth) / 8 + smooth)
        assert divisor == pytest.approx(expected, rel=1e-5)


# ---- the place ---------------------------------------------------------------------------------------------------


def test_the_name_says_that_it_is_one_file(tmp_path: Path) -> None:
    model = tiny()
    for place, says in ((tmp_path, "is a folder; this kind of checkpoint is a single file"), (tmp_path / "out", "does not end in .gguf")):
        with pytest.raises(FileError, match=says) as caught:
            save_checkpoint(model, None, None, place, format="gguf")
        assert ".gguf" in caught.value.hint
    (tmp_path / "letter.gguf").mkdir()
    with pytest.raises(FileError, match="is a folder"):
        save_checkpoint(model, None, None, tmp_path / "letter.gguf", format="gguf")


def test_a_file_is_replaced_only_when_allowed(tmp_path: Path) -> None:
    save_checkpoint(tiny(), None, None, tmp_path / "out.gguf", format="gguf")
    with pytest.raises(FileError, match="holds a checkpoint already"):
        save_checkpoint(tiny(d_ff=96), None, None, tmp_path / "out.gguf", format="gguf")
    save_checkpoint(tiny(d_ff=96), None, None, tmp_path / "out.gguf", format="gguf", overwrite=True)
    assert load_checkpoint(tmp_path / "out.gguf").config.hidden == 96
    assert [p.name for p in tmp_path.iterdir()] == ["out.gguf"]


def test_a_stop_leaves_what_was_there(tmp_path: Path) -> None:
    save_checkpoint(tiny(), None, None, tmp_path / "out.gguf", format="gguf")
    control = Control()
    events = save_events(tiny(d_ff=96), None, None, tmp_path / "out.gguf", "gguf", overwrite=True, control=control)
    next(e for e in events if isinstance(e, Progress))
    control.stop()
    assert list(events) == []
    assert [p.name for p in tmp_path.iterdir()] == ["out.gguf"]
    assert load_checkpoint(tmp_path / "out.gguf").config.hidden == 64


def test_progress_covers_all_bytes(tmp_path: Path) -> None:
    progress = [e for e in save_events(tiny(), None, None, tmp_path / "out.gguf", "gguf", type="q8_0") if isinstance(e, Progress)]
    assert progress[-1].done == progress[-1].total < sum(p.nbytes for p in tiny().parameters()) / 3


def test_adapters_must_be_merged_first(tmp_path: Path) -> None:
    model = tiny()
    attach(model, LoraConfig(r=2, target_modules=("q_proj",)), name="a")
    with pytest.raises(ModelError, match="cannot be saved as a checkpoint"):
        save_checkpoint(model, None, None, tmp_path / "out.gguf", format="gguf")


# ---- reading what others wrote -----------------------------------------------------------------------------------


def test_divisors_that_converters_computed_in_single_precision_are_llama3s() -> None:
    from workbench.checkpoints.families.gguf_rope import DIVISORS, read_rope
    from workbench.checkpoints.families.settings import Settings

    def read(divisors: torch.Tensor, **values: Any) -> Any:
        known = {f"llama.{key}": value for key, value in {"rope.freq_base": 500000.0, "context_length": 131072, **values}.items()}
        return read_rope(Settings(known, "x.gguf", prefix="llama.", extras={DIVISORS: divisors}), 1.0, 128)["scaling"]

    wheel = Wheel(128, 500000.0, 131072, torch.float32, torch.device("cpu"))
    for factor in (8.0, 32.0):
        divisors = wheel.rates() / Llama3Scaling(factor=factor).rates(wheel, 0)
        assert read(divisors) == {"kind": "llama3", "factor": factor, "low": 1.0, "high": 4.0, "original": 8192}
    assert read(torch.ones(64)) == {"kind": "none"}
    with pytest.raises(ModelError, match=r"by rope_freqs.weight in a way that is not known"):
        read(torch.linspace(1, 8, 64))
    with pytest.raises(ModelError, match="in a way that is not known"):
        read(divisors[:32])
    with pytest.raises(ModelError, match="scales its RoPE twice"):
        read(divisors, **{"rope.scaling.type": "linear", "rope.scaling.factor": 2.0})


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, {"kind": "none"}),
        ({"type": "none", "factor": 4.0}, {"kind": "none"}),
        ({"factor": 4.0}, {"kind": "linear", "factor": 4.0}),
        ({"type": "linear", "factor": 1.0}, {"kind": "none"}),
        ({"type": "yarn", "factor": 4.0}, {"kind": "yarn", "factor": 4.0, "original": 64, "attention_factor": None}),
        (
            {"type": "yarn", "factor": 4.0, "original_context_length": 16, "attn_factor": 0.5},
            {"kind": "yarn", "factor": 4.0, "original": 16, "attention_factor": 0.5 * (0.1 * math.log(4) + 1)},
        ),
    ],
)
def test_scaling_is_read_as_llama_cpp_reads_it(values: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    from workbench.checkpoints.families.gguf_rope import read_rope
    from workbench.checkpoints.families.settings import Settings

    known = {"llama.context_length": 64, **{f"llama.rope.scaling.{key}": value for key, value in values.items()}}
    assert read_rope(Settings(known, "x.gguf", prefix="llama."), 1.0, 8)["scaling"] == expected


@pytest.mark.parametrize(
    ("values", "says"), [({"type": "yarn", "yarn_beta_fast": 16.0}, "yarn_beta_fast is 16"), ({"type": "longrope"}, "'longrope'")]
)
def test_scaling_that_is_not_known_is_refused(values: Mapping[str, Any], says: str) -> None:
    from workbench.checkpoints.families.gguf_rope import read_rope
    from workbench.checkpoints.families.settings import Settings

    known = {"llama.context_length": 64, **{f"llama.rope.scaling.{key}": value for key, value in values.items()}}
    with pytest.raises(ModelError, match=says):
        read_rope(Settings(known, "x.gguf", prefix="llama."), 1.0, 8)


def test_gpt2_files_may_leave_the_key_value_heads_out(tmp_path: Path) -> None:
    """As llama.cpp's converter writes them."""
    import gguf

    model = tiny(**GPT2_STYLE)
    save_checkpoint(model, None, None, tmp_path / "full.gguf", format="gguf")
    full = GGUFFile(tmp_path / "full.gguf")
    writer = gguf.GGUFWriter(tmp_path / "plain.gguf", "gpt2")
    for key in ("block_count", "context_length", "embedding_length", "feed_forward_length", "attention.head_count"):
        writer.add_uint32(f"gpt2.{key}", full.metadata[f"gpt2.{key}"])
    writer.add_float32("gpt2.attention.layer_norm_epsilon", 1e-5)
    for name in full.infos:
        writer.add_tensor(name, full.rows(name, slice(None)).numpy(), raw_dtype=GGMLQuantizationType.F32)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    again = load_checkpoint(tmp_path / "plain.gguf")
    assert again.source.family == "gpt2"
    ids = torch.from_numpy(np.arange(20)[None])
    with torch.no_grad():
        assert torch.equal(again.model(ids), model(ids))
