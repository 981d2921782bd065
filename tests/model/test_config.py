"""The architecture as data: defaults that follow each other, rules, files."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from workbench.core.errors import ConfigError
from workbench.core.fields import from_dict, to_dict, with_text
from workbench.model import ModelConfig, build_model
from workbench.parts.norms import NORMS

Make = Callable[..., ModelConfig]


def test_what_is_not_given_follows(config: Make) -> None:
    made = config(d_ff=None)
    assert (made.kv_heads, made.head_width, made.hidden) == (4, 4, 64)
    assert (config(n_kv_heads=2).kv_heads, config(head_dim=10).head_width, config(d_ff=7).hidden) == (2, 10, 7)


@pytest.mark.parametrize(
    ("given", "field", "text"),
    [
        ({"d_model": 18}, "n_heads", "Width 18 cannot be split over 4 heads. Choose a divisor of the width, or set the head width."),
        ({"n_kv_heads": 3}, "n_kv_heads", "4 query heads cannot share 3 key/value heads. Choose a divisor of 4."),
        ({"n_kv_heads": 8}, "n_kv_heads", "4 query heads cannot share 8 key/value heads. Choose a divisor of 4."),
        ({"d_model": 20}, "position", "RoPE turns pairs, but the head width is 5. Choose an even head width."),
        ({"head_dim": 7}, "position", "RoPE turns pairs, but the head width is 7. Choose an even head width."),
        ({"n_layers": 0}, "n_layers", "Layers is 0; the least is 1. Use 1 or more."),
        ({"max_positions": 2_000_000}, "max_positions", "Context is 2000000; the most is 1048576 tokens. Use 1048576 or less."),
        ({"n_kv_heads": 0}, "n_kv_heads", "Key/value heads is 0; the least is 1. Use 1 or more."),
        ({"attention_softcap": 0.0}, "attention_softcap", "Score soft-cap is 0; the least is 0.1. Use 0.1 or more."),
        ({"sliding_window": 0}, "sliding_window", "Sliding window is 0; the least is 1 tokens. Use 1 or more."),
        ({"position": {"kind": "rope", "base": 1.0}}, "position.base", "Base θ is 1; the least is 2. Use 2 or more."),
        ({"norm": {"kind": "rmsnorm", "eps": 2.0}}, "norm.eps", "Epsilon is 2; the most is 1. Use 1 or less."),
        ({"position": NORMS.choose("rmsnorm")}, "position", "Position encoding cannot be the norm 'rmsnorm'."),
    ],
    ids=lambda x: x if isinstance(x, str) and " " not in x else "",
)
def test_a_rule_that_is_broken_is_named_at_its_field(config: Make, given: dict[str, Any], field: str, text: str) -> None:
    (problem,) = config(**given).problems()
    assert problem.field == field
    assert str(problem) == text
    with pytest.raises(ConfigError) as caught:
        build_model(config(**given))
    assert str(caught.value) == text


def test_rules_between_fields_come_all_at_once(config: Make) -> None:
    assert [p.field for p in config(d_model=18, n_kv_heads=3).problems()] == ["n_heads", "n_kv_heads"]


@pytest.mark.parametrize(
    "given", [{"d_model": 18, "head_dim": 4}, {"d_model": 20, "position": "learned"}, {"n_kv_heads": 4}, {"n_kv_heads": 1}]
)
def test_unusual_but_possible_sizes_are_built(config: Make, given: dict[str, Any], ids: Any) -> None:
    assert config(**given).problems() == []
    assert build_model(config(**given))(ids).isfinite().all()


def test_files_and_text(config: Make) -> None:
    made = config(position={"kind": "rope", "base": 1e5}, norm="layernorm", n_kv_heads=2)
    assert from_dict(ModelConfig, json.loads(json.dumps(to_dict(made)))) == made
    assert with_text(with_text(made, "position=alibi"), "n_kv_heads=none").problems() == []
    assert with_text(made, "position.base=500000").position.options.base == 500_000


def test_an_unknown_kind_is_refused_when_the_config_is_made(config: Make) -> None:
    with pytest.raises(ConfigError, match="There is no norm placement 'sideways'") as caught:
        config(residual="sideways")
    assert "deepnorm" in caught.value.hint


def test_equal_configs_are_equal(config: Make) -> None:
    assert config(position="rope") == config(position={"kind": "rope"})
    assert hash(config()) == hash(config())
    assert config() != config(position="none")
