"""RoPE scaling against transformers' own functions, and against the closed forms of the papers."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from workbench.core.errors import ConfigError
from workbench.core.fields import from_dict, to_dict, with_text
from workbench.model import ModelConfig, build_model
from workbench.parts.positions import POSITIONS
from workbench.parts.positions.scaling import ROPE_SCALINGS, Wheel

L, D, BASE = 4096, 64, 10000.0


def wheel(width: int = D, base: float = BASE, context: int = L, precision: torch.dtype = torch.float64) -> Wheel:
    return Wheel(width, base, context, precision, torch.device("cpu"))


def rates(kind: str, length: int = 0, **options: Any) -> Tensor:
    return ROPE_SCALINGS.choose(kind, options).make().rates(wheel(), length)


CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "linear": ({"kind": "linear", "factor": 8.0}, {"rope_type": "linear", "factor": 8.0}),
    "dynamic": ({"kind": "dynamic", "factor": 4.0}, {"rope_type": "dynamic", "factor": 4.0}),
    "yarn": (
        {"kind": "yarn", "factor": 16.0, "original": L},
        {"rope_type": "yarn", "factor": 16.0, "original_max_position_embeddings": L},
    ),
    "yarn, all set": (
        {"kind": "yarn", "factor": 4.0, "original": 2048, "beta_fast": 16.0, "beta_slow": 2.0, "attention_factor": 0.8, "truncate": False},
        {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 2048, "beta_fast": 16.0, "beta_slow": 2.0,
         "attention_factor": 0.8, "truncate": False},
    ),
    "llama3": (
        {"kind": "llama3", "factor": 8.0, "low": 1.0, "high": 4.0, "original": 8192},
        {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192},
    ),
}  # fmt: skip


@pytest.mark.parity
@pytest.mark.parametrize("length", [100, L, 3 * L])
@pytest.mark.parametrize("case", CASES)
def test_equals_transformers(case: str, length: int) -> None:
    transformers = pytest.importorskip("transformers")
    rope = pytest.importorskip("transformers.modeling_rope_utils")
    ours, theirs = CASES[case]
    config = transformers.LlamaConfig(
        hidden_size=4 * D, num_attention_heads=4, max_position_embeddings=L, rope_parameters={"rope_theta": BASE, **theirs}
    )
    found, factor = rope.ROPE_INIT_FUNCTIONS[theirs["rope_type"]](config, torch.device("cpu"), seq_len=length)
    scaling = ROPE_SCALINGS.choose(ours["kind"], {k: v for k, v in ours.items() if k != "kind"}).make()
    torch.testing.assert_close(scaling.rates(wheel(precision=torch.float32), length), found, rtol=2e-6, atol=0)
    assert scaling.attention_factor == pytest.approx(factor)


def test_ntk_has_the_base_of_the_facts() -> None:
    """s = 8 raises a base of 10,000 to 85,550 for 64 and to 82,685 for 128 dimensions."""
    for width, base in ((64, 85_550), (128, 82_685)):
        found = ROPE_SCALINGS.choose("ntk", {"factor": 8.0}).make().rates(wheel(width), 0)
        assert float((1 / found[-1]) ** (width / (width - 2))) == pytest.approx(base, abs=1)
        assert float(found[0]) == 1


def test_yarn_ramps_between_the_pairs_of_the_facts() -> None:
    """d = 64, base 1e4, L = 4096: pairs up to 10 keep their rate, from 23 on they turn s times more slowly."""
    ratio = rates("none") / rates("yarn", factor=16.0, original=L)
    assert torch.allclose(ratio[:11], torch.ones(11, dtype=torch.float64))
    assert torch.allclose(ratio[23:], torch.full((9,), 16.0, dtype=torch.float64))
    assert 1 < ratio[11] < ratio[22] < 16
    assert ROPE_SCALINGS.choose("yarn", {"factor": 16.0}).make().attention_factor == pytest.approx(0.1 * math.log(16) + 1)


def test_llama3_keeps_blends_and_divides() -> None:
    """d = 64, base 5e5: 15 pairs unchanged, 3 blended, 14 divided by the factor."""
    big = wheel(base=5e5)
    ratio = big.rates() / ROPE_SCALINGS.choose("llama3").make().rates(big, 0)
    assert [int((ratio < 1 + 1e-9).sum()), int((ratio > 8 - 1e-9).sum())] == [15, 14]


def test_dynamic_leaves_short_texts_alone() -> None:
    assert torch.equal(rates("dynamic", L, factor=4.0), rates("none"))
    assert rates("dynamic", L + 1, factor=4.0)[-1] < rates("none")[-1]
    assert torch.allclose(rates("dynamic", 512, factor=2.0, original=256), rates("ntk", factor=3.0))


@pytest.mark.parametrize("kind", ROPE_SCALINGS.names())
def test_every_scaling_is_described_and_never_turns_faster(kind: str) -> None:
    entry = ROPE_SCALINGS[kind]
    assert entry.label
    assert entry.source
    assert entry.help.endswith(".")
    assert (rates(kind, 3 * L) <= rates("none") * (1 + 1e-9)).all()


@pytest.mark.parametrize("kind", ROPE_SCALINGS.names())
def test_shifting_both_tokens_changes_nothing(kind: str) -> None:
    """⟨R_m q, R_n k⟩ depends on m − n, up to 1e5, in float64."""
    rope = POSITIONS.choose("rope", {"scaling": ROPE_SCALINGS.choose(kind)}).make(head_width=D, max_positions=L, dtype=torch.float64)
    draw = torch.Generator().manual_seed(0)
    heads = torch.randn(1, 1, 2, D, dtype=torch.float64, generator=draw)
    scores = []
    for offset in (0, 1, 999, 100_000):
        # One more token far away, so that a length-dependent rule sees the same length each time.
        positions = torch.tensor([[offset + 3, offset + 17, 200_000]])
        turned = rope.rotate(torch.cat((heads, heads[:, :, :1]), 2), rope.prepare(positions))
        scores.append(float(turned[0, 0, 0] @ turned[0, 0, 1]))
    assert scores == pytest.approx([scores[0]] * 4, rel=1e-9)


def test_scaling_is_set_by_text_saved_and_read() -> None:
    config = with_text(ModelConfig(), "position.scaling=yarn")
    config = with_text(config, "position.scaling.factor=8")
    assert config.position.options.scaling.options.factor == 8
    assert from_dict(ModelConfig, to_dict(config)) == config
    with pytest.raises(ConfigError, match="no setting 'speed'"):
        with_text(config, "position.scaling.speed=1")
    with pytest.raises(ConfigError, match="has no options of its own"):
        with_text(config, "position.base.factor=1")
    steep = with_text(with_text(config, "position.scaling=llama3"), "position.scaling.low=9")
    assert [(p.field, p.message) for p in steep.problems()] == [("position.scaling.low", "The scaling's lower bound 9 is not below 4.")]


def test_scaling_reaches_the_model() -> None:
    sizes: dict[str, Any] = {"vocab_size": 31, "n_layers": 1, "d_model": 32, "n_heads": 2, "max_positions": 16}
    ids = torch.arange(12)[None]
    plain, scaled = (build_model(ModelConfig(**sizes, position=p)) for p in ("rope", {"kind": "rope", "scaling": "linear"}))
    scaled.load_state_dict(plain.state_dict())
    with torch.no_grad():
        assert (plain(ids) - scaled(ids)).abs().max() > 1e-4
