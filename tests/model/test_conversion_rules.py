"""What single conversion rules do beyond computing the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from workbench.adapters import LoraConfig, attach, trainable_parameters
from workbench.core.errors import ConfigError
from workbench.model import Transformer
from workbench.model.conversion.waves import procrustes
from workbench.model.convert import convert, plan
from workbench.parts.norms import NORMS
from workbench.parts.positions.sinusoidal import sinusoids

Tiny = Callable[..., Transformer]
GPT: dict[str, Any] = dict(
    position="learned", norm="layernorm", mlp="gelu_tanh", attention_bias=True, attention_out_bias=True, mlp_bias=True
)
UNTIED = {**GPT, "tie_embeddings": False}


def rms(**options: Any) -> dict[str, Any]:
    return {"kind": "rmsnorm", **options}


def full(model: Transformer, ids: Tensor) -> Tensor:
    with torch.no_grad():
        logits: Tensor = model(ids)
    return logits


def moved(old: Tensor, new: Tensor) -> float:
    """The largest change of a logit that both models have, relative to the largest logit."""
    return float((old - new[..., : old.shape[-1]]).abs().max() / old.abs().max())


@pytest.mark.parametrize("norm", ["layernorm", "rmsnorm", rms(unit_offset=True)])
def test_a_table_that_is_turned_waves_is_recognised(tiny: Tiny, ids: Tensor, norm: Any) -> None:
    """Least squares finds the turn, the scale and the shift when there are some."""
    model = tiny(**{**UNTIED, "norm": norm}, segment_types=1)
    draw = torch.Generator().manual_seed(2)
    turn = torch.linalg.qr(torch.randn(16, 16, generator=draw)).Q
    waves = sinusoids(torch.arange(24), 16, 10000.0)
    if norm == "layernorm":  # which sees only what is left without the mean
        waves = waves - waves.mean(1, keepdim=True)
        basis = torch.linalg.qr(torch.cat((torch.ones(16, 1), torch.randn(16, 15, generator=draw)), 1)).Q[:, 1:]
        inner = torch.linalg.qr(torch.randn(15, 15, generator=draw)).Q
        turn = basis @ inner @ basis.T + torch.full((16, 16), 1 / 16)
    with torch.no_grad():
        model.position.weight.copy_(0.3 * waves @ turn + torch.randn(16, generator=draw))
    made, report = convert(model, replace(model.config, position=model.config.position.registry.choose("sinusoidal")))
    assert report.verdict == "approximate"
    assert moved(full(model, ids), full(made, ids)) < 1e-3  # ε weighs less in a larger stream
    plain, _ = convert(tiny(**UNTIED), replace(tiny(**UNTIED).config, position=model.config.position.registry.choose("sinusoidal")))
    assert moved(full(tiny(**UNTIED), ids), full(plain, ids)) > 1e-2


@pytest.mark.parametrize("keep_mean", [False, True])
def test_waves_that_fit_badly_disturb_no_more_than_none(keep_mean: bool) -> None:
    draw = torch.Generator().manual_seed(4)
    table = torch.randn(24, 16, generator=draw, dtype=torch.float64)
    waves = sinusoids(torch.arange(24), 16, 10000.0).double()
    if keep_mean:
        table, waves = (t - t.mean(1, keepdim=True) for t in (table, waves))
    table, waves = table - table.mean(0), waves - waves.mean(0)
    turn, scale = procrustes(table, waves, keep_mean)
    torch.testing.assert_close(turn @ turn.T, torch.eye(16, dtype=torch.float64))
    error = (table - waves @ turn / scale).norm()
    assert error < table.norm()
    assert all(error <= (table - waves @ turn / other).norm() for other in (0.9 * scale, 1.1 * scale))
    assert procrustes(table * 0, waves, keep_mean)[1] > 1000
    if keep_mean:
        torch.testing.assert_close(turn.sum(0), torch.ones(16, dtype=torch.float64))


def test_silu_and_gelu_meet_at_1_702(tiny: Tiny, ids: Tensor) -> None:
    model = tiny()
    made, _ = convert(model, replace(model.config, mlp=model.config.mlp.registry.choose("geglu")))
    copied, _ = convert(model, replace(model.config, mlp=model.config.mlp.registry.choose("geglu")))
    copied.load_state_dict(model.state_dict())
    assert moved(full(model, ids), full(made, ids)) < 0.25 * moved(full(model, ids), full(copied, ids))


def test_the_middle_blocks_are_left_out(tiny: Tiny) -> None:
    model = tiny(n_layers=7)
    made, _ = convert(model, replace(model.config, n_layers=4))
    kept = [model.blocks[n].mlp.up_proj.weight for n in (0, 1, 5, 6)]
    assert all(torch.equal(block.mlp.up_proj.weight, weight) for block, weight in zip(made.blocks, kept, strict=True))


def test_a_plan_says_what_would_make_it_exact(tiny: Tiny, ids: Tensor) -> None:
    model = tiny(**GPT)
    new = replace(model.config, norm=NORMS.choose("rmsnorm"))
    needs = {name: value for change in plan(model.config, new).changes for name, value in change.needs.items()}
    assert needs == {"tie_embeddings": False, "head_bias": True}
    made, report = convert(model, replace(new, **needs))
    assert report.verdict == "exact"
    assert moved(full(model, ids), full(made, ids)) < 1e-5


def test_no_epsilon_suits_heads_and_a_wider_stream_at_once(tiny: Tiny, ids: Tensor) -> None:
    old = tiny(head_dim=4, qk_norm="head", norm=rms(eps=1e-2))
    for eps in (1e-2, 5e-3):
        made, report = convert(old, replace(old.config, d_model=32, norm=NORMS.choose("rmsnorm", eps=eps)))
        assert report.verdict == "approximate"
        assert not any(change.needs for change in report.changes)
        assert moved(full(old, ids), full(made, ids)) > 1e-4


def test_more_tokens_leave_the_logits_of_the_old_ones_but_not_their_probability(tiny: Tiny, ids: Tensor) -> None:
    model = tiny()
    made, report = convert(model, replace(model.config, vocab_size=200))
    assert report.verdict == "approximate"
    assert moved(full(model, ids), full(made, ids)) < 1e-5
    assert (full(made, ids).log_softmax(-1)[..., :61] < full(model, ids).log_softmax(-1)).all()


def test_settings_that_follow_others_are_no_change(tiny: Tiny) -> None:
    config = tiny().config
    assert not plan(config, replace(config, n_kv_heads=4, head_dim=4, final_norm=True)).changes


def test_adapters_are_left_out(tiny: Tiny, ids: Tensor) -> None:
    model = tiny(n_kv_heads=2)
    bare = full(model, ids)
    attach(model, LoraConfig(r=2), "default")
    with torch.no_grad():
        for parameter in trainable_parameters(model, "default").values():
            parameter.fill_(0.1)
    assert moved(bare, full(model, ids)) > 1e-2
    made, _ = convert(model, replace(model.config, n_kv_heads=4))
    assert moved(bare, full(made, ids)) < 1e-5
    assert not any("adapters" in name for name, _ in made.named_parameters())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_precisions_are_kept(tiny: Tiny, ids: Tensor, dtype: torch.dtype) -> None:
    model = tiny(dtype, **UNTIED)
    made, report = convert(model, replace(model.config, norm=NORMS.choose("rmsnorm"), head_bias=True))
    assert made.dtype == dtype
    assert report.verdict == "exact"
    assert moved(full(model, ids).float(), full(made, ids).float()) < (0.1 if dtype == torch.bfloat16 else 1e-6)


def test_fresh_parts_follow_the_initialisation_and_the_seed(tiny: Tiny) -> None:
    model = tiny()
    new = replace(model.config, vocab_size=600, init=model.config.init.registry.choose("gpt2", std=0.5))
    one, other, again = (convert(model, new, seed=seed)[0].embedding.weight[61:].detach() for seed in (0, 1, 0))
    assert float(one.std()) == pytest.approx(0.5, rel=0.05)
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def test_what_cannot_be_built_is_refused(tiny: Tiny) -> None:
    model = tiny()
    for act in (lambda new: plan(model.config, new), lambda new: convert(model, new)):
        with pytest.raises(ConfigError, match="cannot share"):
            act(replace(model.config, n_kv_heads=3))
