"""Blocked causal attention against attention written out."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from workbench.numerics import blocked as blocked_module
from workbench.numerics.attention import Frame, Scoring, attend
from workbench.numerics.blocked import blocked_attention, suits_blocks


def written_out(q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
    repeat = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(repeat, 1), v.repeat_interleave(repeat, 1)
    scores = (q @ k.transpose(-1, -2)) * scale
    future = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
    return torch.softmax(scores.masked_fill(future, -math.inf), -1) @ v


def draw(tokens: int, heads: int, groups: int, dtype: torch.dtype) -> list[Tensor]:
    """q, k, v and a gradient, laid out as projections leave them: [B, T, heads, D] seen as [B, heads, T, D]."""
    generator = torch.Generator().manual_seed(0)
    counts = (heads, groups, groups, heads)
    return [torch.randn(2, tokens, n, 8, generator=generator).to(dtype).transpose(1, 2) for n in counts]


@pytest.mark.parametrize("tokens", [1, 5, 16, 17, 40])
@pytest.mark.parametrize(("heads", "groups"), [(4, 4), (6, 2), (3, 1)])
def test_equals_attention_written_out(tokens: int, heads: int, groups: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocked_module, "BLOCK", 16)
    *inputs, gradient = draw(tokens, heads, groups, torch.float64)
    results = []
    for form in (blocked_attention, written_out):
        q, k, v = (t.clone().requires_grad_() for t in inputs)
        out = form(q, k, v, 0.3)
        out.backward(gradient)
        results.append((out.detach(), q.grad, k.grad, v.grad))
    for mine, wanted in zip(*results, strict=True):
        torch.testing.assert_close(mine, wanted)


def test_bfloat16_training_takes_it_and_stays_near(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def counted(*args: object) -> Tensor:
        calls.append(args)
        return blocked_attention(*args)  # type: ignore[arg-type]

    monkeypatch.setattr("workbench.numerics.attention.blocked_attention", counted)
    *inputs, gradient = draw(40, 6, 2, torch.bfloat16)
    frame, scoring = Frame(torch.arange(40)[None].expand(2, -1)), Scoring(scale=8**-0.5)
    exact = [t.double().requires_grad_() for t in inputs]
    written_out(*exact, 8**-0.5).backward(gradient.double())
    narrow = [t.clone().requires_grad_() for t in inputs]
    out = attend(*narrow, scoring, frame)
    out.backward(gradient)
    assert len(calls) == 1
    for mine, wanted in zip(narrow, exact, strict=True):
        assert mine.grad is not None
        assert wanted.grad is not None
        assert mine.grad.dtype == torch.bfloat16
        assert float((mine.grad.double() - wanted.grad).norm() / wanted.grad.norm()) < 0.02
    with torch.no_grad():
        few = [t.detach() for t in narrow]
        torch.testing.assert_close(attend(*few, scoring, frame), out.detach(), rtol=0.05, atol=0.05)
    assert len(calls) == 1, "few queries without gradients go through the fused kernel"


def test_where_it_is_taken() -> None:
    q = torch.zeros(1, 2, 3, 4, requires_grad=True)
    assert not suits_blocks(q)
    narrow = q.detach().bfloat16().requires_grad_()
    assert suits_blocks(narrow)
    assert not suits_blocks(narrow.detach())
    assert suits_blocks(torch.zeros(1, 2, blocked_module.FEWEST, 4, dtype=torch.bfloat16))
    assert not suits_blocks(torch.zeros(1, 2, blocked_module.FEWEST, 4))


def test_a_long_prompt_in_bfloat16_is_as_near_as_the_fused_kernel() -> None:
    q, k, v, _ = draw(160, 6, 2, torch.float32)
    wanted = written_out(q, k, v, 8**-0.5)
    narrow = [t.bfloat16() for t in (q, k, v)]
    fused = torch.nn.functional.scaled_dot_product_attention(*narrow, is_causal=True, scale=8**-0.5, enable_gqa=True)
    mine = blocked_attention(*narrow, 8**-0.5)
    assert float((mine.float() - wanted).norm()) < 1.5 * float((fused.float() - wanted).norm())
