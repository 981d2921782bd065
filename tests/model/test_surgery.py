"""Selecting modules by pattern, and replacing them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from workbench.core.errors import ConfigError
from workbench.model import Transformer
from workbench.model.surgery import ALL_LINEAR, linears, matches, replace, select

Tiny = Callable[..., Transformer]
LEAVES = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}


@pytest.fixture
def model(tiny: Tiny) -> Transformer:
    return tiny().requires_grad_(False)


def names(model: nn.Module, patterns: str | list[str]) -> list[str]:
    return list(select(model, patterns))


def test_all_linear_is_every_linear_of_the_blocks_but_not_the_head(model: Transformer) -> None:
    found = names(model, ALL_LINEAR)
    assert len(found) == 14
    assert {n.rpartition(".")[2] for n in found} == LEAVES
    assert all(n.startswith("blocks.") for n in found)
    assert found == list(linears(model)), "in the order of the model"


@pytest.mark.parametrize(
    ("patterns", "wanted"),
    [
        ("q_proj", ["blocks.0.attention.q_proj", "blocks.1.attention.q_proj"]),
        (["v_proj", "q_proj"], [f"blocks.{i}.attention.{n}_proj" for i in range(2) for n in "qv"]),
        ("attention.o_proj", ["blocks.0.attention.o_proj", "blocks.1.attention.o_proj"]),
        ("blocks.1.mlp.*", [f"blocks.1.mlp.{n}_proj" for n in ("gate", "up", "down")]),
        ("blocks.*.mlp.up_proj", ["blocks.0.mlp.up_proj", "blocks.1.mlp.up_proj"]),
        ("blocks.0.attention.k_proj", ["blocks.0.attention.k_proj"]),
        ("*.[kv]_proj", [f"blocks.{i}.attention.{n}_proj" for i in range(2) for n in "kv"]),
        (["q_proj", "blocks.0.attention.q_proj"], ["blocks.0.attention.q_proj", "blocks.1.attention.q_proj"]),
    ],
    ids=str,
)
def test_patterns(model: Transformer, patterns: str | list[str], wanted: list[str]) -> None:
    assert names(model, patterns) == wanted
    for name, module in select(model, patterns).items():
        assert model.get_submodule(name) is module


@pytest.mark.parametrize("pattern", ["proj", "Q_proj", "lm_head", "blocks.7.*", "attention_norm", "", "q_proj.weight", "_proj"])
def test_a_pattern_without_a_match_is_named_with_what_there_is(model: Transformer, pattern: str) -> None:
    with pytest.raises(ConfigError) as caught:
        select(model, ["v_proj", pattern])
    assert caught.value.message == f"No linear layer matches {pattern!r}."
    assert all(leaf in caught.value.hint for leaf in LEAVES)
    assert "all-linear" in caught.value.hint


def test_a_suffix_counts_only_at_a_dot() -> None:
    assert matches("blocks.0.attention.q_proj", "q_proj")
    assert not matches("blocks.0.attention.xq_proj", "q_proj")
    assert matches("q_proj", "q_proj")


class Doubled(nn.Module):
    def __init__(self, base: nn.Module) -> None:
        super().__init__()
        self.base = base

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.base(x)
        return 2 * out


def test_replace_puts_one_in_and_hands_the_other_back(model: Transformer) -> None:
    ids = torch.arange(6)[None]
    before, name = model(ids), "blocks.1.mlp.down_proj"
    old = model.get_submodule(name)
    assert replace(model, name, Doubled(old)) is old
    model.get_submodule(name).base.weight.mul_(0.5)  # type: ignore[union-attr, operator]
    torch.testing.assert_close(model(ids), before)


@pytest.mark.parametrize("training", [True, False])
def test_what_comes_in_takes_over_the_training_mode(model: Transformer, training: bool) -> None:
    model.train(training)
    replace(model, "lm_head", nn.Linear(16, 61).train(not training))
    assert model.lm_head.training is training


def test_a_wrapped_linear_is_still_found_once(model: Transformer) -> None:
    name = "blocks.0.attention.q_proj"
    replace(model, name, Doubled(model.get_submodule(name)))
    assert names(model, "q_proj") == [name, "blocks.1.attention.q_proj"]
    assert len(names(model, ALL_LINEAR)) == 14


@pytest.mark.parametrize(
    "name", ["blocks.0.attention.q_proj", "blocks.0.attention.v_proj", "blocks.1.mlp.gate_proj", "blocks.1.mlp.up_proj"]
)
def test_a_replaced_linear_is_what_the_model_computes_with(model: Transformer, name: str) -> None:
    """Joined projections must notice: one token and many, and after a move."""
    plain = {text.shape[1]: model(text) for text in (torch.arange(6)[None], torch.arange(1)[None])}
    old = model.get_submodule(name)
    replace(model, name, Doubled(old))
    for moved in (model, model.to("cpu")):
        for tokens, out in plain.items():
            changed = moved(torch.arange(tokens)[None])
            if tokens > 1 or "attention.q_proj" not in name:  # the weight of a single key is 1 whatever the query
                assert not torch.allclose(changed, out, atol=1e-3)
    replace(model, name, old)
    for tokens, out in plain.items():
        torch.testing.assert_close(model(torch.arange(tokens)[None]), out)


def test_a_name_that_is_not_there_is_an_error_before_anything_changes(model: Transformer) -> None:
    before = dict(model.named_modules())
    for name in ("blocks.0.attention.x_proj", "nowhere", "blocks.9.mlp.up_proj"):
        with pytest.raises(AttributeError):
            replace(model, name, nn.Identity())
    assert dict(model.named_modules()) == before
