"""Every pair of choices works together: a covering set of architectures, each put through every promise of the model."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from workbench.caches import KVCache
from workbench.model import ModelConfig, Transformer
from workbench.parts.mlps import MLPS
from workbench.parts.norms import NORMS
from workbench.parts.positions import POSITIONS
from workbench.parts.residuals import RESIDUALS

FACTORS: dict[str, tuple[dict[str, Any], ...]] = {
    "mlp": tuple({"mlp": name} for name in MLPS.names()),
    "residual": (*({"residual": name} for name in RESIDUALS.names()), {"residual": {"kind": "parallel", "shared_norm": True}}),
    "position": (
        *({"position": name} for name in POSITIONS.names()),
        {"position": {"kind": "rope", "style": "interleaved", "rotary_fraction": 0.5, "scaling": {"kind": "yarn", "factor": 2.0}}},
        {"position": {"kind": "alibi", "divided": True}, "nope_every": 2},
        {"position": {"kind": "rope", "scaling": "llama3"}, "nope_every": 2},
    ),
    "norm": (*({"norm": name} for name in NORMS.names()), {"norm": {"kind": "rmsnorm", "unit_offset": True}}),
    "groups": tuple({"n_kv_heads": groups} for groups in (None, 2, 1)),
    "window": ({}, {"sliding_window": 3}, {"sliding_window": 3, "full_attention_every": 2}),
    "scores": ({}, {"attention_softcap": 2.0}, {"attention_scale": 0.7}),
    "qk_norm": tuple({"qk_norm": kind} for kind in ("off", "head", "full")),
    "tie": tuple({"tie_embeddings": tied} for tied in (True, False)),
    "bias": ({}, {"attention_bias": True, "attention_out_bias": True, "mlp_bias": True}),
    "embedding": ({}, {"scale_embeddings": True}, {"embedding_norm": True, "segment_types": 2}),
    "head": ({}, {"head_bias": True, "logit_softcap": 5.0}, {"head_transform": True}),
    "causal": tuple({"causal": causal} for causal in (True, False)),
}
"""Each factor's values are changes of the configuration; the first goes with everything."""


VALUES = list(FACTORS.values())
Pair = tuple[int, int, int, int]
"""Factor a has its value i and factor b its value j."""


def together(row: dict[int, int]) -> dict[str, Any]:
    """The changes that a choice of one value (by number) for some factors (by number) makes."""
    return {name: value for factor, chosen in row.items() for name, value in VALUES[factor][chosen].items()}


def allowed_pairs() -> set[Pair]:
    sizes = {"n_layers": 2, "d_model": 16, "n_heads": 4}
    pairs = (
        (a, i, b, j)
        for a, b in itertools.combinations(range(len(VALUES)), 2)
        for i, j in itertools.product(range(len(VALUES[a])), range(len(VALUES[b])))
    )
    return {(a, i, b, j) for a, i, b, j in pairs if not ModelConfig(**sizes, **together({a: i, b: j})).problems()}  # type: ignore[arg-type]


def covering() -> list[dict[int, int]]:
    """Few rows in which every allowed pair of values of two factors occurs; greedy, always the same."""
    possible = allowed_pairs()
    open_pairs, rows = set(possible), []
    while open_pairs:
        a, i, b, j = min(open_pairs)
        row = {a: i, b: j}
        for c in range(len(VALUES)):
            if c not in row:
                fitting = [v for v in range(len(VALUES[c])) if all(p in possible for p in _pairs(row, c, v))]
                row[c] = max(fitting, key=lambda v: (sum(p in open_pairs for p in _pairs(row, c, v)), -v))
        open_pairs -= {(x, row[x], y, row[y]) for x, y in itertools.combinations(range(len(VALUES)), 2)}
        rows.append(row)
    return rows


def _pairs(row: dict[int, int], factor: int, value: int) -> list[Pair]:
    return [(f, v, factor, value) if f < factor else (factor, value, f, v) for f, v in row.items()]


ROWS = covering()
CHOICES = [together(row) for row in ROWS]
EACH = pytest.mark.parametrize("choices", CHOICES, ids=[str(n) for n in range(len(ROWS))])
CAUSAL = pytest.mark.parametrize("choices", [c for c in CHOICES if c["causal"]], ids=[str(n) for n, c in enumerate(CHOICES) if c["causal"]])
Tiny = Callable[..., Transformer]


def close(a: Tensor, b: Tensor) -> None:
    """Equal up to rounding, which without norms grows with the largest value."""
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4 * max(1.0, float(b.detach().abs().max())))


def test_the_rows_cover_every_pair_that_is_allowed() -> None:
    met = {(a, row[a], b, row[b]) for row in ROWS for a, b in itertools.combinations(range(len(VALUES)), 2)}
    assert met == allowed_pairs()
    every = sum(len(a) * len(b) for a, b in itertools.combinations(VALUES, 2))
    assert every - len(met) < 10  # few combinations make no sense, and those are known at their fields
    assert len(ROWS) < 75


@EACH
def test_forward_and_backward(tiny: Tiny, ids: Tensor, choices: dict[str, Any]) -> None:
    model = tiny(**choices)
    logits = model(ids)
    assert logits.shape == (2, 13, 61)
    F.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        if not name.endswith("k_proj.bias"):  # adds the same to all scores of a query: softmax does not see it without RoPE
            assert parameter.grad.abs().max() > 0, name


@CAUSAL
def test_cached_equals_uncached(tiny: Tiny, ids: Tensor, choices: dict[str, Any]) -> None:
    model = tiny(**choices)
    with torch.no_grad():
        full = model(ids)
        for chunk in (1, 5):
            cache = KVCache.for_model(model, batch=2)
            close(torch.cat([model(ids[:, s : s + chunk], cache) for s in range(0, 13, chunk)], 1), full)


@EACH
def test_with_and_without_gradients_is_the_same(tiny: Tiny, ids: Tensor, choices: dict[str, Any]) -> None:
    """The fast paths of inference against the plain ones of training, for many tokens and for one."""
    model = tiny(**choices)
    for text in (ids, ids[:1, :1]):
        with torch.no_grad():
            fast = model(text)
        close(fast, model(text).detach())


@EACH
def test_left_padding_equals_alone(tiny: Tiny, ids: Tensor, choices: dict[str, Any]) -> None:
    model = tiny(**choices)
    positions = torch.tensor([list(range(9)), [-1] * 5 + [0, 1, 2, 3]])
    rows = torch.where(positions < 0, 0, ids[:, :9])
    with torch.no_grad():
        batched = model(rows, positions=positions)
        for row, skip in ((0, 0), (1, 5)):
            close(batched[row, skip:], model(ids[row : row + 1, skip:9])[0])


@CAUSAL
def test_left_padding_in_a_cache_equals_alone(tiny: Tiny, ids: Tensor, choices: dict[str, Any]) -> None:
    model = tiny(**choices)
    positions = torch.tensor([list(range(9)), [-1] * 5 + [0, 1, 2, 3]])
    rows = torch.where(positions < 0, 0, ids[:, :9])
    with torch.no_grad():
        cache = KVCache.for_model(model, batch=2)
        batched = torch.cat([model(rows, cache, positions=positions), model(ids[:, 9:10], cache)], 1)
        for row, skip in ((0, 0), (1, 5)):
            close(batched[row, skip:], model(ids[row : row + 1, skip:10])[0])


@EACH
def test_padded_training_has_the_gradients_of_the_tokens_alone(tiny: Tiny, ids: Tensor, choices: dict[str, Any]) -> None:
    alone, padded = tiny(**choices), tiny(**choices)
    alone(ids[:1, 4:9]).square().mean().backward()
    positions = torch.tensor([[-1] * 4 + [0, 1, 2, 3, 4]])
    padded(torch.where(positions < 0, 0, ids[:1, :9]), positions=positions)[:, 4:].square().mean().backward()
    same_gradients(padded, alone)


@EACH
def test_packed_documents_equal_each_alone(tiny: Tiny, ids: Tensor, choices: dict[str, Any]) -> None:
    model = tiny(**choices)
    lengths = (6, 1, 4)
    positions = torch.cat([torch.arange(n) for n in lengths])[None]
    segments = torch.repeat_interleave(torch.arange(3), torch.tensor(lengths))[None]
    with torch.no_grad():
        packed = model(ids[:1, :11], positions=positions, segments=segments)
        start = 0
        for n in lengths:
            close(packed[:, start : start + n], model(ids[:1, start : start + n]))
            start += n


@EACH
def test_recomputed_activations_give_the_same_gradients(tiny: Tiny, ids: Tensor, choices: dict[str, Any]) -> None:
    plain, recomputed = tiny(**choices).train(), tiny(**choices).train()
    positions = torch.tensor([list(range(13)), [-1] * 5 + list(range(8))])
    for given in (None, positions):
        outputs = [model.hidden(ids, positions=given, recompute=model is recomputed) for model in (plain, recomputed)]
        close(*outputs)
        for out in outputs:
            (out if given is None else out[given >= 0]).square().mean().backward()
    same_gradients(recomputed, plain)


def same_gradients(model: Transformer, other: Transformer) -> None:
    for (name, a), b in zip(model.named_parameters(), other.parameters(), strict=True):
        if a.grad is None or b.grad is None:
            assert name.startswith(("lm_head", "head_transform")), name
            assert a.grad is b.grad is None
            continue
        torch.testing.assert_close(
            a.grad, b.grad, rtol=1e-3, atol=1e-5 + 1e-4 * float(b.grad.abs().max()), msg=lambda m, n=name: f"{n}: {m}"
        )
