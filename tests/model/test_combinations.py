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
from workbench.model import Transformer
from workbench.parts.mlps import MLPS
from workbench.parts.norms import NORMS
from workbench.parts.positions import POSITIONS
from workbench.parts.residuals import RESIDUALS

FACTORS: dict[str, tuple[Any, ...]] = {
    "mlp": MLPS.names(),
    "residual": (*RESIDUALS.names(), {"kind": "parallel", "shared_norm": True}),
    "position": (*POSITIONS.names(), {"kind": "rope", "style": "interleaved", "rotary_fraction": 0.5}),
    "norm": (*NORMS.names(), {"kind": "rmsnorm", "unit_offset": True}),
    "n_kv_heads": (None, 2, 1),
    "sliding_window": (None, 3),
    "attention_softcap": (None, 2.0),
    "qk_norm": (False, True),
    "tie_embeddings": (True, False),
    "attention_bias": (False, True),
    "nope_every": (None, 2),
}


def covering(factors: dict[str, tuple[Any, ...]]) -> list[dict[str, Any]]:
    """Few rows in which every pair of values of two factors occurs; greedy, always the same."""
    names = list(factors)
    open_pairs = {
        (a, i, b, j)
        for a, b in itertools.combinations(range(len(names)), 2)
        for i in range(len(factors[names[a]]))
        for j in range(len(factors[names[b]]))
    }
    rows = []
    while open_pairs:
        a, i, b, j = min(open_pairs)
        row = {a: i, b: j}
        for c in range(len(names)):
            if c not in row:
                row[c] = max(range(len(factors[names[c]])), key=lambda v: (_gained(row, c, v, open_pairs), -v))
        open_pairs -= {(x, row[x], y, row[y]) for x, y in itertools.combinations(range(len(names)), 2)}
        rows.append({names[c]: factors[names[c]][row[c]] for c in range(len(names))})
    return rows


def _gained(row: dict[int, int], factor: int, value: int, open_pairs: set[tuple[int, int, int, int]]) -> int:
    pairs = ((f, v, factor, value) if f < factor else (factor, value, f, v) for f, v in row.items())
    return sum(p in open_pairs for p in pairs)


ROWS = covering(FACTORS)
EACH = pytest.mark.parametrize("choices", ROWS, ids=[str(n) for n in range(len(ROWS))])
Tiny = Callable[..., Transformer]


def close(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_the_rows_cover_every_pair() -> None:
    for (a, values), (b, others) in itertools.combinations(FACTORS.items(), 2):
        for x, y in itertools.product(values, others):
            assert any(row[a] == x and row[b] == y for row in ROWS), f"{a}={x} never meets {b}={y}"
    assert len(ROWS) < 70


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


@EACH
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
        cache = KVCache.for_model(model, batch=2)
        batched = torch.cat([model(rows, cache, positions=positions), model(ids[:, 9:10], cache)], 1)
        close(model(rows, positions=positions)[1, 5:], batched[1, 5:9])
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
            assert name.startswith("lm_head"), name
            assert a.grad is b.grad is None
            continue
        torch.testing.assert_close(
            a.grad, b.grad, rtol=1e-3, atol=1e-5 + 1e-4 * float(b.grad.abs().max()), msg=lambda m, n=name: f"{n}: {m}"
        )
