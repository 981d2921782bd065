"""Every checkpoint format and every family keeps the promises of its registry."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from workbench.checkpoints import FORMATS, Format, load_checkpoint, save_checkpoint
from workbench.checkpoints.families import GGUF_FAMILIES, HF_FAMILIES, Family
from workbench.checkpoints.families.settings import Settings
from workbench.checkpoints.formats import Content, find_format, savable
from workbench.checkpoints.load import expected_shapes, parameters_of
from workbench.checkpoints.table import Take, match, outgoing
from workbench.core.errors import FileError, ModelError, WorkbenchError
from workbench.core.fields import from_dict
from workbench.core.registry import Registry
from workbench.model import ModelConfig, build_model

REGISTRIES: tuple[Registry[Any], ...] = (FORMATS, HF_FAMILIES, GGUF_FAMILIES)
SIZES: dict[str, Any] = dict(vocab_size=32, n_layers=2, d_model=16, n_heads=2, max_positions=16)


@pytest.mark.parametrize(("registry", "name"), [(r, e.name) for r in REGISTRIES for e in r])
def test_is_described(registry: Registry[Any], name: str) -> None:
    entry = registry[name]
    assert entry.label
    assert entry.help.endswith(".")
    assert name == name.lower()


# ---- formats -----------------------------------------------------------------------------------------------------


@pytest.fixture(params=FORMATS.names())
def format(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_recognising_never_raises(format: str, tmp_path: Path) -> None:
    kind = FORMATS[format].make()
    assert isinstance(kind, Format)
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "short").write_bytes(b"G")
    (tmp_path / "folder").mkdir()
    for name in ("empty", "short", "folder", "nowhere"):
        assert kind.recognises(tmp_path / name) is False


def test_junk_is_refused_with_a_sentence(format: str, tmp_path: Path) -> None:
    kind = FORMATS[format].make()
    (tmp_path / "junk").write_bytes(b"junk" * 10)
    (tmp_path / "folder").mkdir()
    for name in ("junk", "folder", "nowhere"):
        with pytest.raises(WorkbenchError) as caught:
            kind.open(tmp_path / name)
        assert isinstance(caught.value, (FileError, ModelError))
        assert caught.value.hint


def place_of(name: str, folder: Path) -> Path:
    """A name in `folder` that a checkpoint of that format may have."""
    return folder / f"out{FORMATS[name].make().suffix}"


@pytest.mark.parametrize("name", savable())
def test_what_is_saved_is_recognised_by_that_format_alone_and_equal(name: str, tmp_path: Path) -> None:
    model, place = build_model(ModelConfig(**SIZES), seed=1), place_of(name, tmp_path)
    report = save_checkpoint(model, None, None, place, format=name)
    assert (report.max_abs_logit_difference, report.exact, report.type) == (0, True, "f32")
    assert (place.is_file(), place.is_dir()) == (FORMATS[name].make().single_file, not FORMATS[name].make().single_file)
    assert find_format(place) == (name, place)
    assert [e.name for e in FORMATS if e.make().recognises(place)] == [name]
    again = load_checkpoint(place).model.state_dict()
    assert all(torch.equal(again[key], value) for key, value in model.state_dict().items())


@pytest.mark.parametrize(("name", "type"), [(n, t) for n in savable() for t in FORMATS[n].make().types])
def test_every_type_of_a_format_reads_back_as_that_rounding(name: str, type: str, tmp_path: Path) -> None:
    model = build_model(ModelConfig(**{**SIZES, "d_model": 32, "d_ff": 64}), seed=1)
    report = save_checkpoint(model, None, None, place_of(name, tmp_path), format=name, type=type)
    assert (report.type, report.exact) == (type, type == "f32")
    assert 0 <= report.max_abs_logit_difference < 0.2
    assert (report.max_abs_logit_difference == 0) == report.exact
    weights = load_checkpoint(place_of(name, tmp_path)).model.embedding.weight
    assert 0 <= (weights - model.embedding.weight).abs().max() < 1e-2


@pytest.mark.parametrize("name", savable())
def test_a_type_that_a_format_does_not_know_is_refused_before_anything_is_written(name: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot store weights as 'q2_x'") as caught:
        save_checkpoint(build_model(ModelConfig(**SIZES)), None, None, place_of(name, tmp_path), format=name, type="q2_x")
    assert "f32" in caught.value.hint
    assert list(tmp_path.iterdir()) == []


def test_a_format_that_cannot_save_says_so(tmp_path: Path) -> None:
    with unsavable() as name:
        model = build_model(ModelConfig(**SIZES))
        with pytest.raises(ModelError, match="Shout cannot be written") as caught:
            save_checkpoint(model, None, None, tmp_path / "out", format=name)
        assert "workbench, hf, gguf" in caught.value.hint
        with pytest.raises(ModelError, match="Nothing can be saved as"):
            FORMATS[name].make().prepare(Content(model), None)


@contextmanager
def unsavable() -> Iterator[str]:
    """A format that only opens `.shout` files, while the block runs."""

    class Shout(Format):
        def recognises(self, path: Path) -> bool:
            return path.suffix == ".shout"

        def open(self, path: Path) -> Any:
            raise ModelError("Opened by the new format.")

    FORMATS.register("shout", label="Shout", help="a file for this test.")(Shout)
    try:
        yield "shout"
    finally:
        FORMATS.unregister("shout")


def test_a_format_registered_at_run_time_opens_paths(tmp_path: Path) -> None:
    with unsavable():
        (tmp_path / "a.shout").write_text("!")
        with pytest.raises(ModelError, match="Opened by the new format"):
            load_checkpoint(tmp_path / "a.shout")


def test_a_family_registered_at_run_time_is_a_table_and_two_functions(tmp_path: Path) -> None:
    """Names of its own, and q, k and v in one matrix head by head, as GPT-NeoX keeps them."""

    def head_by_head(config: ModelConfig) -> list[np.ndarray[Any, Any]]:
        heads, width = config.n_heads, config.head_width
        rows = np.arange(3 * heads * width).reshape(heads, 3, width)
        return [rows[:, i].reshape(-1) for i in range(3)]

    llama = HF_FAMILIES["llama"].make()
    attention = "model.layers.{n}.self_attn."
    table = {key: entry for key, entry in llama.table.items() if not key.startswith(tuple(f"{attention}{x}_proj" for x in "qkv"))}
    table[attention + "fused.{p}"] = Take(tuple(f"blocks.{{n}}.attention.{x}_proj.{{p}}" for x in "qkv"), order=head_by_head)
    HF_FAMILIES.register("fused", label="Fused", help="A family for this test.")(lambda: dataclasses.replace(llama, table=table))
    try:
        model = build_model(ModelConfig(**SIZES), seed=1)
        report = save_checkpoint(model, None, None, tmp_path / "out", format="hf", family="fused")
        assert (report.family, report.max_abs_logit_difference) == ("fused", 0)
        fused = load_file(tmp_path / "out" / "model.safetensors")["model.layers.0.self_attn.fused.weight"]
        attention_0 = model.blocks[0].attention
        assert torch.equal(fused[:8], attention_0.q_proj.weight[:8])
        assert torch.equal(fused[8:16], attention_0.k_proj.weight[:8])
        assert torch.equal(fused[24:32], attention_0.q_proj.weight[8:])
    finally:
        HF_FAMILIES.unregister("fused")


# ---- families ----------------------------------------------------------------------------------------------------


def families() -> Iterator[tuple[Registry[Family], str]]:
    for registry in (HF_FAMILIES, GGUF_FAMILIES):
        for entry in registry:
            yield registry, entry.name


def config_of(registry: Registry[Family], name: str) -> ModelConfig:
    """A small model that the family can hold: what its own reader makes of LLaMA's settings in its words."""
    llama: dict[str, Any] = dict(n_kv_heads=1, d_ff=24, tie_embeddings=False)
    family = registry[name].make()
    if registry is HF_FAMILIES and family.write is not None:
        written = family.write(ModelConfig(**SIZES, **llama))
        return from_dict(ModelConfig, {**family.read(Settings(written, "config.json")), "tie_embeddings": False})
    extra: dict[str, dict[str, Any]] = {
        "gpt2": dict(
            position="learned", norm="layernorm", mlp="gelu_tanh", attention_bias=True, attention_out_bias=True, mlp_bias=True,
            tie_embeddings=False,
        ),
        "qwen2": {**llama, "attention_bias": True},
        "qwen3": {**llama, "qk_norm": "head"},
    }  # fmt: skip
    return ModelConfig(**SIZES, **extra.get(name, llama))


@pytest.mark.parametrize(("registry", "name"), list(families()))
def test_a_table_has_one_place_for_every_parameter_and_one_parameter_for_every_place(registry: Registry[Family], name: str) -> None:
    family = registry[name].make()
    config = config_of(registry, name)
    parameters = parameters_of(build_model(config, seed=1))
    tensors = outgoing(family.table, config, parameters)
    found = match(family.table, [t.name for t in tensors], family.prefix)
    assert not found.unknown
    assert not found.dropped
    assert sorted(to for move in found.moves for to in move.to) == sorted(expected_shapes(config))
    for key in (t.name for t in tensors):
        assert len(match({k: v for k, v in family.table.items() if match({k: v}, [key]).moves}, [key]).moves) == 1


@pytest.mark.parametrize(("registry", "name"), list(families()))
def test_taking_apart_undoes_putting_together(registry: Registry[Family], name: str) -> None:
    family = registry[name].make()
    config = config_of(registry, name)
    parameters = parameters_of(build_model(config, seed=1))
    for parameter in parameters.values():
        parameter.normal_()  # biases and gains too, so that a swapped pair shows
    for tensor in outgoing(family.table, config, parameters):
        whole = tensor.make()
        assert (tuple(whole.shape), whole.dtype) == (tensor.shape, tensor.dtype)
        (move,) = match(family.table, [tensor.name], family.prefix).moves
        view = whole.t() if move.take.transposed else whole
        for to, rows in zip(move.to, move.take.rows(config, [parameters[to].shape[0] for to in move.to]), strict=True):
            assert torch.equal(view if rows is None else view[torch.from_numpy(rows)], parameters[to]), to


@pytest.mark.parametrize(("registry", "name"), list(families()))
def test_no_key_fits_two_patterns(registry: Registry[Family], name: str) -> None:
    table = registry[name].make().table
    for text, entry in table.items():
        key = text.replace("{n}", "7").replace("{p}", "weight")
        fitting = [other for other in table if match({other: table[other]}, [key]).unknown == []]
        assert fitting == [text]
        assert entry is None or isinstance(entry, (str, Take))


@pytest.mark.parametrize("name", [e.name for e in HF_FAMILIES if e.make().write is not None])
def test_reading_undoes_writing(name: str) -> None:
    family = HF_FAMILIES[name].make()
    config = config_of(HF_FAMILIES, name)
    assert family.write is not None
    assert family.architecture
    written = family.write(config)
    assert written["tie_word_embeddings"] is False
    back = from_dict(ModelConfig, {**family.read(Settings(written, "config.json")), "tie_embeddings": False})
    assert back.problems() == []
    worked_out = dict(n_kv_heads=config.kv_heads, head_dim=config.head_width, d_ff=config.hidden, final_norm=config.has_final_norm)
    assert dataclasses.replace(back, **worked_out) == dataclasses.replace(config, **worked_out)


@pytest.mark.parametrize(("registry", "name"), list(families()))
def test_an_empty_configuration_is_a_model_error(registry: Registry[Family], name: str) -> None:
    with pytest.raises(ModelError):
        registry[name].make().read(Settings({}, "nothing"))
