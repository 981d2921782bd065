"""Attention piece by piece equals attention at once, whatever the rule, the pieces and the precision."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from workbench.numerics import online
from workbench.numerics.attention import Frame, Scoring, attend
from workbench.numerics.online import OnlineAttention

START, TOKENS = 300, 200
RULES = [
    Scoring(scale=0.2), Scoring(scale=0.2, window=90), Scoring(scale=0.2, window=400), Scoring(scale=0.2, softcap=2.0),
    Scoring(scale=0.2, bias=lambda query, key: -0.05 * (query[:, None, :, None] - key[:, None, None, :]).abs().float()),
    Scoring(scale=0.2, causal=False),
]  # fmt: skip


def some(tokens: int, heads: int, seed: int) -> Tensor:
    return torch.randn(2, heads, tokens, 16, generator=torch.Generator().manual_seed(seed))


def plain(start: int = START, tokens: int = TOKENS) -> Frame:
    return Frame(torch.arange(start, start + tokens)[None].expand(2, -1), start)


def padded() -> Frame:
    """The second text begins 40 slots later, and its new tokens end with padding."""
    keys = torch.arange(START + TOKENS)[None].repeat(2, 1)
    keys[1] = (keys[1] - 40).clamp_min(-1)
    keys[1, -5:] = -1
    return Frame(keys[:, START:], START, plain=False, key_positions=keys)


def by_pieces(q: Tensor, k: Tensor, v: Tensor, scoring: Scoring, frame: Frame, cuts: tuple[int, ...]) -> Tensor:
    attention = OnlineAttention(q, scoring, frame)
    for at, stop in zip(cuts, [*cuts[1:], k.shape[2]], strict=True):
        attention.add(k[:, :, at:stop], v[:, :, at:stop], at)
    return attention.result()


@pytest.mark.parametrize("scoring", RULES, ids=str)
@pytest.mark.parametrize("frame", [plain(), padded()], ids=["plain", "padded"])
@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("cuts", [(0,), (0, 7, 120, 299, 300), (0, 100, 450)])
def test_pieces_equal_all_at_once(
    scoring: Scoring, frame: Frame, fused: bool, cuts: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    if not fused:
        monkeypatch.setattr(online, "_fused", lambda: None)
    q, k, v = some(TOKENS, 6, 1), some(START + TOKENS, 2, 2), some(START + TOKENS, 2, 3)
    wanted = attend(q, k, v, scoring, frame)
    torch.testing.assert_close(by_pieces(q, k, v, scoring, frame, cuts), wanted, rtol=1e-4, atol=1e-5)


def test_this_torch_has_the_fused_kernel() -> None:
    """Should a later torch lose it, everything goes on, only slower; this says when."""
    assert online._fused() is not None


def test_large_scores_do_not_overflow() -> None:
    q, k, v = 100 * some(TOKENS, 2, 1), 100 * some(START + TOKENS, 2, 2), some(START + TOKENS, 2, 3)
    torch.testing.assert_close(by_pieces(q, k, v, RULES[0], plain(), (0, 250)), attend(q, k, v, RULES[0], plain()), rtol=1e-3, atol=1e-4)


def test_pieces_out_of_reach_are_not_multiplied(monkeypatch: pytest.MonkeyPatch) -> None:
    q, k, v = some(TOKENS, 2, 1), some(START + TOKENS, 2, 2), some(START + TOKENS, 2, 3)
    k[:, :, :200], v[:, :, :200] = float("nan"), float("nan")
    scoring = Scoring(scale=0.2, window=50)
    out = by_pieces(q, k, v, scoring, plain(), (0, 200))
    assert bool(out.isfinite().all())


def test_under_autocast_sums_stay_in_float32() -> None:
    """Many pieces lose no more than one: what is summed is never rounded to bfloat16 in between."""
    q, k, v = some(TOKENS, 2, 1), some(START + TOKENS, 2, 2), some(START + TOKENS, 2, 3)
    wanted = attend(q, k, v, RULES[0], plain())
    with torch.autocast("cpu", torch.bfloat16):
        errors = [
            float((by_pieces(q, k, v, RULES[0], plain(), cuts) - wanted).norm() / wanted.norm()) for cuts in ((0,), tuple(range(0, 500, 4)))
        ]
    assert 0 < errors[0] < 0.01
    assert errors[1] < 1.3 * errors[0]


def test_gradients_flow_through_pieces() -> None:
    parts = [some(TOKENS, 2, 1), some(START + TOKENS, 2, 2), some(START + TOKENS, 2, 3)]
    grads = []
    for way in (lambda q, k, v: by_pieces(q, k, v, RULES[0], plain(), (0, 130, 300)), lambda q, k, v: attend(q, k, v, RULES[0], plain())):
        q, k, v = (x.clone().requires_grad_() for x in parts)
        way(q, k, v).square().sum().backward()
        grads.append([q.grad, k.grad, v.grad])
    for ours, theirs in zip(*grads, strict=True):
        assert ours is not None
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)


def test_nothing_seen_is_zero() -> None:
    attention = OnlineAttention(some(3, 2, 1), RULES[0], plain(0, 3))
    assert not bool(attention.result().any())
