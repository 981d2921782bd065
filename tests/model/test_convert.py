"""Converting an architecture: what is called exact computes the same, what is counted as fresh is fresh, nothing else moves."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from workbench.caches import KVCache
from workbench.model import PRESETS, ModelConfig, Transformer, account, build_model
from workbench.model import convert as module
from workbench.model.conversion import Step
from workbench.model.convert import convert, plan
from workbench.parts.mlps import MLPS
from workbench.parts.norms import NORMS
from workbench.parts.positions.base import POSITIONS, Position
from workbench.parts.residuals.base import RESIDUALS
from workbench.parts.residuals.pre import PreNorm

Tiny = Callable[..., Transformer]
GPT: dict[str, Any] = dict(
    position="learned", norm="layernorm", mlp="gelu_tanh", attention_bias=True, attention_out_bias=True, mlp_bias=True
)
UNTIED = {**GPT, "tie_embeddings": False}


def rope(**options: Any) -> dict[str, Any]:
    return {"kind": "rope", **options}


def rms(**options: Any) -> dict[str, Any]:
    return {"kind": "rmsnorm", **options}


SHARED = {"kind": "parallel", "shared_norm": True}
NO_FINAL = {"norm": {"kind": "layernorm", "bias": False}, "final_norm": False, "tie_embeddings": False}

EXACT: list[tuple[dict[str, Any], dict[str, Any]]] = [
    # embedding and head
    ({}, {"tie_embeddings": False}),
    ({}, {"scale_embeddings": True}),
    ({"norm": rms(unit_offset=True)}, {"scale_embeddings": True}),
    ({"tie_embeddings": False, "scale_embeddings": True}, {"scale_embeddings": False}),
    ({"head_transform": True, "norm": "layernorm"}, {"scale_embeddings": True}),
    ({}, {"segment_types": 2}),
    ({**GPT, "segment_types": 2}, {"segment_types": None}),
    ({"tie_embeddings": False, "segment_types": 2, "scale_embeddings": True}, {"segment_types": None}),
    ({"segment_types": 2}, {"segment_types": 3}),
    ({"segment_types": 2, "position": "sinusoidal"}, {"position": "learned"}),
    ({"segment_types": 2, "position": "sinusoidal"}, {"position": {"kind": "sinusoidal", "scale_embedding": False}}),
    ({"segment_types": 2, "position": "sinusoidal", "tie_embeddings": False}, {"segment_types": None}),
    # biases
    ({}, {"attention_bias": True, "attention_out_bias": True, "mlp_bias": True, "head_bias": True}),
    # norms
    (UNTIED, {"norm": "rmsnorm", "head_bias": True}),
    (GPT, {"norm": "rmsnorm", "head_bias": True, "tie_embeddings": False}),
    ({**UNTIED, "residual": "parallel"}, {"norm": "rmsnorm", "head_bias": True}),
    ({**UNTIED, "residual": SHARED}, {"norm": "rmsnorm", "head_bias": True}),
    ({"norm": {"kind": "layernorm", "bias": False}, "tie_embeddings": False, "qk_norm": "head"}, {"norm": "rmsnorm"}),
    ({"norm": {"kind": "layernorm", "bias": False}, "tie_embeddings": False, "qk_norm": "full"}, {"norm": rms(unit_offset=True)}),
    ({**UNTIED, "position": "alibi", "segment_types": 2}, {"norm": "rmsnorm", "head_bias": True}),
    (GPT, {"norm": {"kind": "layernorm", "bias": False}, "head_bias": True}),
    ({"norm": {"kind": "layernorm", "bias": False}}, {"norm": "layernorm"}),
    ({}, {"norm": rms(unit_offset=True)}),
    ({"norm": rms(unit_offset=True), "qk_norm": "full", "residual": "double"}, {"norm": "rmsnorm"}),
    ({"residual": "parallel"}, {"residual": SHARED}),
    ({**GPT, "residual": "parallel"}, {"residual": SHARED}),
    ({**GPT, "residual": SHARED}, {"residual": "parallel"}),
    # heads
    ({"n_kv_heads": 2}, {"n_kv_heads": 4}),
    ({"n_kv_heads": 1, "attention_bias": True}, {"n_kv_heads": 2}),
    ({"n_kv_heads": 2, "qk_norm": "full"}, {"n_kv_heads": None}),
    ({"n_kv_heads": 2, "head_dim": 4}, {"n_heads": 8}),
    ({"n_kv_heads": 2, "head_dim": 4, "qk_norm": "head"}, {"n_heads": 8, "n_kv_heads": 4}),
    ({"n_kv_heads": 1, "attention_bias": True, "head_dim": 4}, {"n_heads": 6, "n_kv_heads": 6}),
    ({"position": "alibi", "head_dim": 4}, {"n_heads": 6}),
    ({"n_kv_heads": 2, "attention_bias": True}, {"head_dim": 8}),
    ({"position": rope(style="interleaved")}, {"head_dim": 8}),
    ({"position": rope(scaling={"kind": "linear", "factor": 2.0})}, {"head_dim": 12}),
    ({"position": rope()}, {"head_dim": 10, "position": rope(rotary_fraction=0.4)}),
    ({**GPT, "n_kv_heads": 2}, {"head_dim": 7}),
    ({"attention_softcap": 3.0}, {"attention_scale": 0.2}),
    ({"qk_norm": "head", "norm": "layernorm"}, {"attention_scale": 0.2}),
    ({"qk_norm": "full", "norm": rms(unit_offset=True)}, {"attention_scale": 0.2}),
    # positions
    ({"attention_bias": True}, {"position": rope(style="interleaved")}),
    ({"position": rope(style="interleaved", rotary_fraction=0.5), "n_kv_heads": 2}, {"position": rope(rotary_fraction=0.5)}),
    ({"qk_norm": "head", "norm": "layernorm"}, {"position": rope(style="interleaved")}),
    ({"qk_norm": "full"}, {"position": rope(style="interleaved")}),
    ({}, {"max_positions": 48}),
    ({"position": "sinusoidal"}, {"max_positions": 48}),
    (GPT, {"max_positions": 16}),
    ({}, {"max_positions": 48, "position": rope(scaling={"kind": "dynamic", "original": 24})}),
    ({}, {"position": rope(scaling={"kind": "linear", "factor": 1.0})}),
    ({"position": "none"}, {"position": "learned"}),
    ({"position": "sinusoidal"}, {"position": "learned"}),
    ({"position": "sinusoidal"}, {"position": {"kind": "sinusoidal", "scale_embedding": False}}),
    ({}, {"nope_every": 9}),
    # masks
    ({}, {"sliding_window": 24}),
    ({"sliding_window": 30}, {"sliding_window": None}),
    ({"sliding_window": 3}, {"full_attention_every": 9}),
    # sizes
    ({}, {"d_ff": 40}),
    ({"mlp": "gelu", "mlp_bias": True}, {"d_ff": 40}),
    ({"mlp": "gelu"}, {"mlp": "geglu", "mlp_bias": True}),
    (GPT, {"mlp": "geglu_tanh"}),
    ({}, {"n_layers": 4}),
    ({**GPT, "residual": "double"}, {"n_layers": 3}),
    ({"residual": "reordered"}, {"n_layers": 3}),
    ({"residual": SHARED, "mlp_bias": True}, {"n_layers": 3}),
    ({"head_dim": 4}, {"d_model": 32, "norm": rms(eps=5e-6)}),
    ({"head_dim": 4, "residual": "post", "position": "learned"}, {"d_model": 24, "norm": rms(eps=1e-5 * 2 / 3)}),
    ({"head_dim": 4, "scale_embeddings": True, "norm": rms(unit_offset=True)}, {"d_model": 32, "norm": rms(unit_offset=True, eps=5e-6)}),
    ({**UNTIED, "head_dim": 4}, {"d_model": 32, "norm": {"kind": "layernorm", "eps": 5e-6}}),
    ({}, {"init": "xavier"}),
]  # fmt: skip

NOT_EXACT: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("approximate", GPT, {"norm": "rmsnorm"}),
    ("approximate", {**UNTIED, "residual": "double"}, {"norm": "rmsnorm", "head_bias": True}),
    ("approximate", {**UNTIED, "position": "sinusoidal"}, {"norm": "rmsnorm", "head_bias": True}),
    ("approximate", {}, {"norm": "layernorm"}),
    ("approximate", {}, {"norm": rms(eps=1e-2)}),
    ("approximate", {"n_kv_heads": 2}, {"n_kv_heads": 1}),
    ("approximate", {"head_dim": 4}, {"n_heads": 6, "n_kv_heads": 3}),
    ("approximate", {"n_heads": 4, "head_dim": 4, "qk_norm": "full"}, {"n_heads": 6}),
    ("approximate", {"head_dim": 4}, {"n_heads": 2}),
    ("approximate", {"n_kv_heads": 2, "head_dim": 4}, {"n_heads": 2, "n_kv_heads": 1}),
    ("approximate", {}, {"head_dim": 6}),
    ("approximate", {"qk_norm": "head"}, {"head_dim": 8}),
    ("approximate", {"position": {"kind": "alibi", "divided": True}}, {"head_dim": 8}),
    ("approximate", {"tie_embeddings": False}, {"tie_embeddings": True}),
    ("approximate", {"tie_embeddings": False, "final_norm": False}, {"tie_embeddings": True}),
    ("approximate", UNTIED, {"position": "sinusoidal"}),
    ("approximate", {"position": "learned", "tie_embeddings": False}, {"position": {"kind": "sinusoidal", "scale_embedding": False}}),
    ("approximate", {}, {"position": rope(scaling={"kind": "linear"})}),
    ("approximate", {}, {"position": rope(scaling={"kind": "ntk"})}),
    ("approximate", {}, {"position": rope(scaling={"kind": "yarn"})}),
    ("approximate", {}, {"position": rope(scaling={"kind": "llama3", "original": 8})}),
    ("approximate", {"position": rope(scaling={"kind": "yarn", "beta_fast": 0.5, "beta_slow": 0.01})}, {"max_positions": 96}),
    ("approximate", {}, {"position": rope(base=500.0)}),
    ("approximate", {}, {"position": rope(base=500.0, style="interleaved")}),
    ("approximate", {}, {"position": rope(rotary_fraction=0.5)}),
    ("approximate", {"position": "sinusoidal"}, {"position": {"kind": "sinusoidal", "base": 50.0}}),
    ("approximate", {"position": "alibi"}, {"position": {"kind": "alibi", "divided": True}}),
    ("approximate", {}, {"sliding_window": 3}),
    ("approximate", {"sliding_window": 3}, {"full_attention_every": 2}),
    ("approximate", {}, {"attention_softcap": 0.5}),
    ("approximate", {}, {"logit_softcap": 5.0}),
    ("approximate", {}, {"qk_norm": "head"}),
    ("approximate", {"norm": "layernorm"}, {"qk_norm": "full"}),
    ("approximate", {"qk_norm": "head"}, {"qk_norm": "off"}),
    ("approximate", {"qk_norm": "head"}, {"qk_norm": "full"}),
    ("approximate", {"qk_norm": "full"}, {"qk_norm": "head"}),
    ("approximate", {"mlp": "gelu"}, {"mlp": "gelu_tanh"}),
    ("approximate", {"mlp": "relu"}, {"mlp": "gelu"}),
    ("approximate", {"mlp": "swiglu"}, {"mlp": "geglu"}),
    ("approximate", {"mlp": "geglu_tanh"}, {"mlp": "geglu"}),
    ("approximate", {"mlp": "gelu"}, {"mlp": "swiglu", "mlp_bias": True}),
    ("approximate", {"n_layers": 3}, {"n_layers": 2}),
    ("approximate", {"n_layers": 6, "nope_every": 2}, {"n_layers": 4}),
    ("approximate", {"n_layers": 6, "nope_every": 9}, {"n_layers": 5}),
    ("fresh", {"n_layers": 6, "nope_every": 2}, {"n_layers": 5}),
    ("approximate", {"n_layers": 8, "sliding_window": 3, "full_attention_every": 3}, {"n_layers": 5}),
    ("fresh", {"n_layers": 8, "sliding_window": 3, "full_attention_every": 3}, {"n_layers": 6}),
    ("approximate", {}, {"d_ff": 10}),
    ("approximate", {"mlp": "gelu"}, {"d_ff": 10}),
    ("approximate", {"vocab_size": 70}, {"vocab_size": 61}),
    ("approximate", {}, {"vocab_size": 70}),
    ("approximate", {"tie_embeddings": False, "head_bias": True}, {"vocab_size": 70}),
    ("approximate", NO_FINAL, {"norm": "rmsnorm"}),
    ("fresh", {**NO_FINAL, "head_dim": 4}, {"d_model": 32}),
    ("approximate", {"head_dim": 4, "qk_norm": "head"}, {"d_model": 32, "norm": rms(eps=5e-6)}),
    ("approximate", {"head_dim": 4, "qk_norm": "full"}, {"d_model": 32}),
    ("approximate", GPT, {"attention_bias": False}),
    ("approximate", {"attention_bias": True}, {"attention_bias": False}),
    ("approximate", GPT, {"mlp_bias": False, "attention_out_bias": False}),
    ("approximate", {"head_bias": True}, {"head_bias": False}),
    ("approximate", {"segment_types": 2}, {"segment_types": None}),
    ("approximate", {"norm": "layernorm"}, {"norm": {"kind": "layernorm", "bias": False}}),
    ("approximate", {"residual": "parallel", "norm": "layernorm"}, {"residual": SHARED}),
    ("fresh", GPT, {"position": "rope"}),
    ("fresh", {}, {"position": "learned"}),
    ("fresh", {}, {"position": "alibi"}),
    ("fresh", {"position": "sinusoidal"}, {"position": "none"}),
    ("fresh", GPT, {"position": "sinusoidal"}),
    ("fresh", {}, {"nope_every": 2}),
    ("fresh", {}, {"residual": "post"}),
    ("fresh", {}, {"residual": "deepnorm"}),
    ("fresh", {}, {"residual": "double"}),
    ("fresh", {"residual": "reordered"}, {"residual": "pre"}),
    ("fresh", {}, {"residual": "parallel"}),
    ("fresh", {}, {"final_norm": False}),
    ("fresh", {"final_norm": False}, {"final_norm": True}),
    ("fresh", {}, {"norm": "none"}),
    ("fresh", {"norm": "none"}, {"norm": "layernorm"}),
    ("fresh", {}, {"causal": False}),
    ("fresh", {}, {"embedding_norm": True}),
    ("fresh", {"embedding_norm": True}, {"embedding_norm": False}),
    ("fresh", {}, {"head_transform": True}),
    ("fresh", {"head_transform": True}, {"head_transform": False}),
    ("fresh", {}, {"mlp": "gelu"}),
    ("fresh", {"mlp": "gelu"}, {"mlp": "swiglu"}),
    ("fresh", {}, {"head_dim": 2}),
    ("fresh", {}, {"d_model": 8}),
    ("fresh", {"position": "sinusoidal", "head_dim": 4}, {"d_model": 32}),
    ("fresh", {"residual": "post"}, {"n_layers": 3}),
]  # fmt: skip


def ids_of(label: Any) -> str:
    if not isinstance(label, dict):
        return str(label)
    return " ".join(f"{k}={v.get('kind') if isinstance(v, dict) else v}" for k, v in label.items())


def full(model: Transformer, ids: Tensor) -> Tensor:
    with torch.no_grad():
        logits: Tensor = model(ids)
    return logits


def cached(model: Transformer, ids: Tensor) -> Tensor:
    with torch.no_grad():
        cache = KVCache.for_model(model, batch=ids.shape[0])
        return torch.cat([model(ids[:, s : s + 4], cache) for s in range(0, ids.shape[1], 4)], 1)


def moved(old: Tensor, new: Tensor) -> float:
    """The largest change of a logit that both models have, relative to the largest logit."""
    shared = min(old.shape[-1], new.shape[-1])
    return float((old[..., :shared] - new[..., :shared]).abs().max() / old[..., :shared].abs().max())


def truly_fresh(model: Transformer, new: ModelConfig, monkeypatch: pytest.MonkeyPatch) -> int:
    """The values that a conversion leaves to be drawn, counted where they are drawn."""
    counted = 0
    real = module._fill

    def fill(made: Transformer, weights: Any, seed: int, expected: int) -> None:
        nonlocal counted
        for name, parameter in made.named_parameters():
            carried = weights.tensors.get(name)
            counted += parameter.numel() if carried is None else int(torch.isnan(carried).sum())
            assert carried is None or carried.shape == parameter.shape, name
        assert not set(weights.tensors) - {name for name, _ in made.named_parameters()}
        real(made, weights, seed, expected)

    monkeypatch.setattr(module, "_fill", fill)
    convert(model, new)
    monkeypatch.undo()
    return counted


@pytest.mark.parametrize(("old", "new"), EXACT, ids=ids_of)
def test_exact_changes_compute_the_same(tiny: Tiny, ids: Tensor, old: dict[str, Any], new: dict[str, Any]) -> None:
    model = tiny(**old)
    made, report = convert(model, replace(model.config, **new))
    assert report.verdict == "exact", report.changes
    assert report.changes
    assert made.config == replace(model.config, **new)
    assert moved(full(model, ids), full(made, ids)) < 1e-5
    assert moved(full(model, ids), cached(made, ids)) < 1e-5
    assert report.max_abs_logit_difference < 1e-5 * report.logit_size


@pytest.mark.parametrize(("verdict", "old", "new"), NOT_EXACT, ids=ids_of)
def test_other_changes_are_not_called_exact(tiny: Tiny, ids: Tensor, verdict: str, old: dict[str, Any], new: dict[str, Any]) -> None:
    model = tiny(**old)
    made, report = convert(model, replace(model.config, **new))
    assert report.verdict == verdict, report.changes
    logits = full(made, ids % made.config.vocab_size)
    assert logits.isfinite().all()
    if model.config.vocab_size == made.config.vocab_size:
        assert moved(full(model, ids), logits) > 1e-6
    assert all(change.how.endswith((".", "?")) and "not known here" not in change.how for change in report.changes)


EACH = [(old, new) for old, new in EXACT] + [(old, new) for _, old, new in NOT_EXACT]


@pytest.mark.parametrize(("old", "new"), EACH, ids=ids_of)
def test_the_model_stays_as_it_is_and_fresh_is_counted(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch, old: dict[str, Any], new: dict[str, Any]
) -> None:
    model = tiny(**old)
    before = {name: p.clone() for name, p in model.named_parameters()}
    wanted = replace(model.config, **new)
    planned = plan(model.config, wanted)
    assert truly_fresh(model, wanted, monkeypatch) == planned.fresh_parameters
    assert planned.parameters == account(wanted).parameters
    assert sum(change.fresh_parameters for change in planned.changes) == planned.fresh_parameters
    for name, parameter in model.named_parameters():
        assert torch.equal(before[name], parameter), name


LLAMA_CHANGES: list[dict[str, Any]] = [
    {"tie_embeddings": False}, {"n_kv_heads": 4}, {"position": rope(style="interleaved")}, {"attention_bias": True}, {"mlp_bias": True},
    {"d_ff": 40}, {"n_layers": 4}, {"max_positions": 48}, {"norm": rms(unit_offset=True)}, {"head_dim": 8},
    {"scale_embeddings": True}, {"segment_types": 2}, {"attention_scale": 0.3}, {"sliding_window": 24}, {"head_bias": True},
    {"d_model": 32, "norm": rms(eps=5e-6)}, {"attention_out_bias": True},
]  # fmt: skip
GPT_CHANGES: list[dict[str, Any]] = [
    {"norm": "rmsnorm", "head_bias": True}, {"norm": {"kind": "layernorm", "bias": False}, "head_bias": True}, {"mlp": "geglu_tanh"},
    {"d_ff": 40}, {"n_layers": 4}, {"max_positions": 20}, {"head_dim": 6}, {"scale_embeddings": True},
    {"segment_types": 2}, {"n_heads": 6}, {"attention_scale": 0.3}, {"d_model": 32, "norm": {"kind": "layernorm", "eps": 5e-6}},
]  # fmt: skip


@pytest.mark.parametrize("base", ["llama", "gpt"])
def test_pairs_of_exact_changes_stay_exact(tiny: Tiny, ids: Tensor, base: str) -> None:
    old = {"n_kv_heads": 2, "head_dim": 4} if base == "llama" else {**UNTIED, "head_dim": 4}
    model = tiny(**old)
    wanted = full(model, ids)
    for one, other in itertools.combinations(LLAMA_CHANGES if base == "llama" else GPT_CHANGES, 2):
        if set(one) & set(other) - {"head_bias"}:
            continue  # both set the same thing
        made, report = convert(model, replace(model.config, **{**one, **other}))
        assert report.verdict == "exact", (one, other, report.changes)
        assert moved(wanted, full(made, ids)) < 1e-5, (one, other)


def test_many_exact_changes_at_once(tiny: Tiny, ids: Tensor) -> None:
    model = tiny(**{**GPT, "position": "sinusoidal", "head_dim": 4})
    new = replace(
        model.config, position=model.config.position.registry.choose("learned"), tie_embeddings=False, head_bias=True,
        norm=NORMS.choose("rmsnorm", eps=5e-6, unit_offset=True), d_model=32, d_ff=48, n_heads=8, n_layers=4,
        mlp=model.config.mlp.registry.choose("geglu_tanh"), segment_types=2, attention_scale=0.4,
    )  # fmt: skip
    made, report = convert(model, new)
    assert report.verdict == "exact", report.changes
    assert moved(full(model, ids), full(made, ids)) < 1e-5
    assert moved(full(model, ids), cached(made, ids)) < 1e-5


# ---- any pair of architectures -------------------------------------------------------------------------------------

positions = st.sampled_from(
    [
        "none", "sinusoidal", "learned", "alibi", "rope", rope(style="interleaved"), rope(rotary_fraction=0.5),
        rope(scaling={"kind": "linear", "factor": 2.0}), rope(scaling={"kind": "yarn"}), rope(scaling={"kind": "dynamic"}),
        {"kind": "alibi", "divided": True}, {"kind": "sinusoidal", "scale_embedding": False},
    ]
)  # fmt: skip
norms = st.sampled_from(
    [
        "none", "rmsnorm", "layernorm", rms(unit_offset=True), rms(eps=1e-6), {"kind": "layernorm", "bias": False},
        rms(eps=1e-2), rms(eps=5e-3), {"kind": "layernorm", "bias": False, "eps": 1e-2}, {"kind": "layernorm", "eps": 5e-3},
    ]
)  # fmt: skip
configs = st.fixed_dictionaries(
    {
        "n_layers": st.integers(1, 3), "d_model": st.sampled_from([8, 16]), "n_heads": st.sampled_from([1, 2, 4, 6]),
        "n_kv_heads": st.sampled_from([None, 1, 2, 4]), "head_dim": st.sampled_from([None, 4, 6, 8]),
        "d_ff": st.sampled_from([None, 12, 20]),
        "vocab_size": st.sampled_from([61, 67]), "max_positions": st.sampled_from([16, 32]), "position": positions,
        "nope_every": st.sampled_from([None, 2]), "norm": norms, "qk_norm": st.sampled_from(["off", "head", "full"]),
        "residual": st.sampled_from(["pre", "post", "deepnorm", "double", "reordered", "parallel", SHARED]),
        "final_norm": st.sampled_from([None, True, False]),
        "mlp": st.sampled_from(["gelu", "gelu_tanh", "relu", "swiglu", "geglu", "geglu_tanh"]),
        "tie_embeddings": st.booleans(), "scale_embeddings": st.booleans(), "embedding_norm": st.sampled_from([False, False, True]),
        "segment_types": st.sampled_from([None, 1, 2]), "head_transform": st.sampled_from([False, False, True]), "head_bias": st.booleans(),
        "logit_softcap": st.sampled_from([None, 20.0]), "attention_bias": st.booleans(), "attention_out_bias": st.booleans(),
        "mlp_bias": st.booleans(), "sliding_window": st.sampled_from([None, 3, 40]), "full_attention_every": st.sampled_from([None, 2]),
        "attention_scale": st.sampled_from([None, 0.3]), "causal": st.sampled_from([True, True, False]),
        "attention_softcap": st.sampled_from([None, 5.0]),
    }
)  # fmt: skip


@pytest.mark.slow
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(old=configs, new=configs, taken=st.sets(st.sampled_from([f.name for f in fields(ModelConfig) if f.name != "init"]), max_size=5))
def test_plan_and_conversion_agree_for_any_pair(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch, old: dict[str, Any], new: dict[str, Any], taken: set[str]
) -> None:
    """`new` takes a few settings of another architecture, or with none given all of them."""
    assume(not ModelConfig(**old).problems())
    model = tiny(**old)
    wanted = ModelConfig(**{**old, **{name: new[name] for name in taken or new}})
    assume(not wanted.problems())
    planned = plan(model.config, wanted)
    made, report = convert(model, wanted)
    assert report.plan == planned
    shapes = {name: p.shape for name, p in build_model(wanted, device="meta", init=False).named_parameters()}
    assert {name: p.shape for name, p in made.named_parameters()} == shapes
    assert all(p.isfinite().all() for p in made.parameters())
    assert truly_fresh(model, wanted, monkeypatch) == planned.fresh_parameters
    if planned.verdict == "exact":
        ids = torch.randint(61, (1, 16), generator=torch.Generator().manual_seed(3))
        assert moved(full(model, ids), full(made, ids)) < 3e-5, planned.changes


def test_a_kind_that_comes_later_is_fresh(tiny: Tiny, ids: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    @NORMS.register("halved", label="Halved", help="Halves what it is given, for this test.")
    class Halved(torch.nn.Module):
        def __init__(self, width: int, **_where: Any) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.full((width,), 0.5))

        def forward(self, x: Tensor) -> Tensor:
            return x * self.weight

    try:
        model = tiny()
        wanted = replace(model.config, norm=NORMS.choose("halved"))
        made, report = convert(model, wanted)
        assert report.verdict == "fresh"
        assert report.fresh_parameters == truly_fresh(model, wanted, monkeypatch) == 5 * 16
        assert full(made, ids).isfinite().all()
    finally:
        NORMS.unregister("halved")


class Shift(Position):
    """A table of the context's length, of which the rules know nothing."""

    def __init__(self, width: int, max_positions: int, **_sizes: Any) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(max_positions, width))

    def embed(self, x: Tensor, positions: Tensor) -> Tensor:
        return x + self.weight[positions.clamp(min=0)]


class Odd(torch.nn.Module):
    def __init__(self, width: int, hidden: int, bias: bool, **where: Any) -> None:
        super().__init__()
        self.up_proj = torch.nn.Linear(width, hidden)
        self.down_proj = torch.nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.down_proj(self.up_proj(x).cos())
        return out


class Quiet(PreNorm):
    adds_to_stream = False


@pytest.mark.parametrize(
    ("registry", "kind", "new"),
    [
        (POSITIONS, Shift, {"max_positions": 30}),
        (POSITIONS, Shift, {"max_positions": 20}),
        (POSITIONS, Shift, {"d_model": 32, "head_dim": 4}),
        (MLPS, Odd, {"d_ff": 40}),
        (RESIDUALS, Quiet, {"n_layers": 3}),
    ],
)
def test_of_a_kind_that_comes_later_nothing_is_supposed(
    tiny: Tiny, ids: Tensor, monkeypatch: pytest.MonkeyPatch, registry: Any, kind: type, new: dict[str, Any]
) -> None:
    field = {POSITIONS.what: "position", MLPS.what: "mlp", RESIDUALS.what: "residual"}[registry.what]
    registry.register("later", label="Later", help="For this test.")(kind)
    try:
        model = tiny(**{field: "later"}, head_dim=4)
        made, report = convert(model, replace(model.config, **new))
        assert report.verdict == "fresh"
        assert report.fresh_parameters == truly_fresh(model, made.config, monkeypatch)
        assert full(made, ids).isfinite().all()
    finally:
        registry.unregister("later")


def test_a_rule_that_forgets_what_it_leaves_to_be_drawn_is_found_out(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    def forgetful(state: Any, new: ModelConfig) -> Any:
        yield Step("d_ff", "exact", "Says nothing.", replace(state.config, d_ff=new.hidden), lambda w: w.drop_all("mlp."))

    monkeypatch.setattr(module, "RULES", (forgetful,))
    model = tiny()
    with pytest.raises(RuntimeError, match="planned to draw 0 values and drew"):
        convert(model, replace(model.config, d_ff=40))


def test_every_setting_has_a_rule() -> None:
    tried = {name for old, new in EACH for name in new}
    assert tried == {f.name for f in fields(ModelConfig)}


def test_planning_is_instant() -> None:
    old = PRESETS["smollm2-1.7b"].config
    new = replace(old, n_layers=30, n_kv_heads=8, tie_embeddings=False, d_ff=9000, norm=NORMS.choose("layernorm"))
    seconds = []
    for _ in range(5):
        begun = time.perf_counter()
        plan(old, new)
        seconds.append(time.perf_counter() - begun)
    assert min(seconds) < 0.05  # a few milliseconds on an idle machine
