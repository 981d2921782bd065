"""Tables of names: matching, checking, and rows in another order."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from workbench.checkpoints.table import Table, Take, check, in_force, match, outgoing, pair_order, source_of
from workbench.checkpoints.tensors import TensorInfo
from workbench.core.errors import ModelError
from workbench.model import ModelConfig

CONFIG = ModelConfig(vocab_size=16, n_layers=2, d_model=8, n_heads=4, n_kv_heads=2, head_dim=4, d_ff=8)
TABLE: Table = {
    "net.in.weight": "embedding.weight",
    "net.{n}.qkv.{p}": Take(tuple(f"blocks.{{n}}.{x}.{{p}}" for x in "qkv"), transposed=True),
    "net.{n}.norm.{p}": "blocks.{n}.norm.{p}",
    "net.{n}.mask": None,
}


def info(*shape: int) -> TensorInfo:
    return TensorInfo(shape, torch.float32, 4 * torch.Size(shape).numel())


def test_keys_go_where_the_table_says() -> None:
    found = match(TABLE, ["net.in.weight", "net.11.qkv.bias", "net.0.mask", "net.0.norm.scale", "extra"])
    assert {m.source: m.to for m in found.moves} == {
        "net.in.weight": ("embedding.weight",),
        "net.11.qkv.bias": ("blocks.11.q.bias", "blocks.11.k.bias", "blocks.11.v.bias"),
    }
    assert found.dropped == ["net.0.mask"]
    assert found.unknown == ["net.0.norm.scale", "extra"]


def test_a_key_may_lack_the_outermost_name() -> None:
    found = match(TABLE, ["in.weight", "1.norm.bias"], prefix="net.")
    assert [m.to for m in found.moves] == [("embedding.weight",), ("blocks.1.norm.bias",)]


def test_the_source_of_a_parameter_is_named_in_the_files_words() -> None:
    assert source_of(TABLE, "blocks.3.k.bias") == "net.3.qkv.bias"
    assert source_of(TABLE, "elsewhere.weight") == "elsewhere.weight"


def test_braces_in_a_files_key_are_only_text() -> None:
    name = "a{0}{x}{n}"
    assert match({name: name}, [name]).moves[0].to == (name,)


SHAPES = {"embedding.weight": (16, 8), "blocks.0.norm.weight": (8,)}
INFOS = {"net.in.weight": info(16, 8), "net.0.norm.weight": info(8)}


@pytest.mark.parametrize(
    ("more", "shapes", "says"),
    [
        ({"net.5.norm.weight": info(8)}, SHAPES, "holds tensors that this architecture has no place for: net.5.norm.weight"),
        ({"lost": info(8), "found": info(1)}, SHAPES, "has no place for: lost, found"),
        ({}, {**SHAPES, "blocks.1.norm.weight": (8,)}, "lacks tensors that its configuration asks for: net.1.norm.weight"),
        ({"in.weight": info(16, 8)}, SHAPES, "holds embedding.weight twice: net.in.weight, in.weight"),
        ({}, {**SHAPES, "blocks.0.norm.weight": (9,)}, r"net.0.norm.weight has shape \[8\]; the configuration asks for \[9\]"),
    ],
)
def test_what_does_not_fit_is_named(more: dict[str, TensorInfo], shapes: dict[str, tuple[int, ...]], says: str) -> None:
    infos = {**INFOS, **more}
    with pytest.raises(ModelError, match=says) as caught:
        check(TABLE, match(TABLE, infos, prefix="net."), infos, shapes, "file")
    assert caught.value.hint


def test_a_long_list_of_keys_is_cut_in_the_sentence_and_whole_in_the_details() -> None:
    infos = {**INFOS, **{f"extra{i}": info(1) for i in range(10)}}
    with pytest.raises(ModelError, match="and 7 more") as caught:
        check(TABLE, match(TABLE, infos), infos, SHAPES, "file")
    assert caught.value.details.splitlines() == [f"extra{i}" for i in range(10)]


def test_fused_and_transposed_shapes_are_checked_as_they_lie_in_the_file() -> None:
    shapes = {f"blocks.0.{x}.weight": (4, 8) for x in "qkv"}
    good = {"net.0.qkv.weight": info(8, 12)}
    check(TABLE, match(TABLE, good), good, shapes, "file")
    bad = {"net.0.qkv.weight": info(12, 8)}
    with pytest.raises(ModelError, match=r"\[12, 8\]; the configuration asks for \[8, 12\]"):
        check(TABLE, match(TABLE, bad), bad, shapes, "file")


@pytest.mark.parametrize(("heads", "count"), [(lambda c: c.n_heads, 4), (lambda c: c.kv_heads, 2)])
def test_pair_order_undoes_llama_cpps_permutation(heads: object, count: int) -> None:
    half = torch.arange(count * 4 * 3.0).reshape(count * 4, 3)  # rows as in Hugging Face's files
    stored = half.reshape(count, 2, 2, 3).swapaxes(1, 2).reshape(half.shape)  # convert_hf_to_gguf.py, LlamaModel.permute
    (rows,) = pair_order(heads)(CONFIG)  # type: ignore[arg-type]
    assert not torch.equal(stored, half)
    assert torch.equal(stored[torch.from_numpy(rows)], half)


def test_outgoing_is_the_inverse_of_taking() -> None:
    parts = {f"blocks.0.{x}.weight": torch.randn(rows, 5) for x, rows in zip("qkv", (8, 4, 4), strict=True)}
    (tensor,) = outgoing(TABLE, CONFIG, parts)
    whole = tensor.make()
    assert tensor.name == "net.0.qkv.weight"
    assert tensor.shape == tuple(whole.shape) == (5, 16)
    assert torch.equal(whole.t(), torch.cat(list(parts.values())))


def test_a_parameter_without_a_place_is_named() -> None:
    with pytest.raises(ModelError, match=r"no place for: blocks\.0\.gate\.weight"):
        outgoing(TABLE, CONFIG, {"blocks.0.gate.weight": torch.zeros(1)})


def _deep(config: ModelConfig) -> bool:
    return config.n_layers > 2


NAMED: Table = {
    "late.{n}.{p}": Take(("blocks.{n}.norm.{p}",), when=_deep),
    "early.{n}.{p}": Take(("blocks.{n}.norm.{p}",), when=lambda config: not _deep(config)),
    "early.{n}.gamma": Take(("blocks.{n}.norm.weight",), spare=True),
}


def test_a_name_that_only_some_models_have() -> None:
    parameters = {"blocks.0.norm.weight": torch.ones(8), "blocks.0.norm.bias": torch.ones(8)}
    assert [t.name for t in outgoing(NAMED, CONFIG, parameters)] == ["early.0.weight", "early.0.bias"]
    assert [t.name for t in outgoing(NAMED, replace(CONFIG, n_layers=3), parameters)] == ["late.0.weight", "late.0.bias"]
    assert source_of(in_force(NAMED, CONFIG), "blocks.1.norm.bias") == "early.1.bias"
    assert source_of(in_force(NAMED, replace(CONFIG, n_layers=3)), "blocks.1.norm.bias") == "late.1.bias"


def test_an_older_name_gives_way_to_the_newer() -> None:
    alone = match(NAMED, ["early.0.gamma"])
    assert [m.to for m in alone.moves] == [("blocks.0.norm.weight",)]
    both = match(NAMED, ["early.0.gamma", "early.0.weight", "early.1.gamma"])
    assert [m.source for m in both.moves] == ["early.0.weight", "early.1.gamma"]
    assert both.dropped == ["early.0.gamma"]
