"""Attention: every fast path equals the written-out form, and the written-out form equals a loop over tokens."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from workbench.numerics import attention
from workbench.numerics.attention import PADDING, Frame, Scoring, _explicit, attend

D = 8
HEADS = [(4, 4), (4, 2), (6, 2), (3, 1), (6, 6)]  # H, G with H/G = 1, 2, 3, 3, 1
GROUPING = pytest.mark.parametrize(("heads", "groups"), HEADS)


def qkv(batch: int, heads: int, groups: int, tokens: int, slots: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    sizes = ((batch, heads, tokens, D), (batch, groups, slots, D), (batch, groups, slots, D))
    return [torch.randn(size, generator=generator, dtype=torch.float64).to(dtype) for size in sizes]


def plain(batch: int, tokens: int, start: int = 0) -> Frame:
    return Frame(torch.arange(start, start + tokens)[None].expand(batch, -1), start)


def by_hand(q: Tensor, k: Tensor, v: Tensor, scoring: Scoring, sees: Callable[[int, int, int], bool], bias: Tensor | None = None) -> Tensor:
    """float64, one query at a time; `sees(row, query slot, key slot)`. Query head h reads key/value head h // (H/G)."""
    batch, heads, tokens, _ = q.shape
    out = torch.zeros(q.shape, dtype=torch.float64)
    for b, h, t in itertools.product(range(batch), range(heads), range(tokens)):
        g = h // (heads // k.shape[1])
        seen = [s for s in range(k.shape[2]) if sees(b, t, s)]
        if not seen:
            continue
        z = k[b, g, seen].double() @ q[b, h, t].double() * scoring.scale
        if scoring.softcap is not None:
            z = scoring.softcap * torch.tanh(z / scoring.softcap)
        if bias is not None:
            z = z + bias[b if bias.shape[0] > 1 else 0, h, t, seen].double()
        out[b, h, t] = torch.softmax(z, 0) @ v[b, g, seen].double()
    return out


def distance(query: Tensor, key: Tensor, heads: int) -> Tensor:
    """A bias that differs between heads and between the two directions."""
    slope = torch.arange(1, heads + 1, dtype=torch.float32)[:, None, None] / 7
    return slope * (key[:, None, :] - query[:, :, None])[:, None].float()


def scorings(heads: int) -> dict[str, Scoring]:
    def bias(query: Tensor, key: Tensor) -> Tensor:
        return distance(query, key, heads)

    base: dict[str, Any] = {"scale": D**-0.5}
    return {
        "plain": Scoring(**base),
        "window": Scoring(**base, window=3),
        "window 1": Scoring(**base, window=1),
        "long window": Scoring(**base, window=50),
        "softcap": Scoring(**base, softcap=0.7),
        "bias": Scoring(**base, bias=bias),
        "bias and window": Scoring(**base, bias=bias, window=4),
        "all": Scoring(scale=0.9, softcap=1.5, bias=bias, window=4),
        "both ways": Scoring(**base, causal=False),
        "both ways, window": Scoring(**base, causal=False, window=3),
        "both ways, bias": Scoring(**base, causal=False, bias=bias),
        "own scale": Scoring(scale=0.05),
    }


def rule(scoring: Scoring) -> Callable[[int, int], bool]:
    """The words of `Scoring` as a predicate on positions: window W means i−W < j ≤ i."""

    def sees(i: int, j: int) -> bool:
        if scoring.causal and j > i:
            return False
        return scoring.window is None or abs(i - j) < scoring.window

    return sees


NAMES = list(scorings(1))


# ---- the slow twin is right ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("tokens", "start"), [(7, 0), (3, 4), (1, 6)])
def test_written_out_form_equals_a_loop(name: str, tokens: int, start: int) -> None:
    heads, groups = 6, 2
    scoring = scorings(heads)[name]
    q, k, v = qkv(2, heads, groups, tokens, start + tokens)
    frame = plain(2, tokens, start)
    sees = rule(scoring)
    bias = None if scoring.bias is None else scoring.bias(frame.positions, frame.keys())
    wanted = by_hand(q, k, v, scoring, lambda b, t, s: sees(start + t, s), bias)
    torch.testing.assert_close(_explicit(q, k, v, scoring, frame).double(), wanted, rtol=1e-5, atol=1e-6)


# ---- plain frames --------------------------------------------------------------------------------------------------


@GROUPING
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("tokens", "start"), [(1, 0), (9, 0), (1, 8), (4, 5), (5, 1)])
def test_fast_paths_equal_the_written_out_form(heads: int, groups: int, name: str, tokens: int, start: int) -> None:
    scoring = scorings(heads)[name]
    q, k, v = qkv(2, heads, groups, tokens, start + tokens)
    fast = attend(q, k, v, scoring, plain(2, tokens, start))
    slow = _explicit(q, k, v, scoring, plain(2, tokens, start))
    torch.testing.assert_close(fast, slow, rtol=1e-5, atol=1e-6)
    assert fast.shape == q.shape
    assert fast.dtype == q.dtype


@pytest.mark.parametrize("name", [n for n in NAMES if "both" not in n])
def test_chunks_of_any_size_equal_the_whole(name: str) -> None:
    scoring = scorings(6)[name]
    q, k, v = qkv(2, 6, 2, 11, 11)
    whole = attend(q, k, v, scoring, plain(2, 11))
    for size in (1, 3, 7):
        parts = []
        for start in range(0, 11, size):
            end = min(11, start + size)
            parts.append(attend(q[:, :, start:end], k[:, :, :end], v[:, :, :end], scoring, plain(2, end - start, start)))
        torch.testing.assert_close(torch.cat(parts, 2), whole, rtol=1e-5, atol=1e-6)


def test_torchs_own_causal_flag_would_be_wrong_for_a_chunk() -> None:
    """The trap this module avoids: with fewer queries than keys torch aligns the mask at the top left."""
    q, k, v = qkv(1, 2, 2, 3, 8)
    scoring = Scoring(scale=D**-0.5)
    ours = attend(q, k, v, scoring, plain(1, 3, 5))
    trap = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    assert (trap - ours).abs().max() > 0.1
    torch.testing.assert_close(trap[:, :, 0], v[:, :, 0])  # sees the first key only
    bottom_right = torch.ones(3, 8, dtype=torch.bool).tril(5)
    torch.testing.assert_close(F.scaled_dot_product_attention(q, k, v, attn_mask=bottom_right), ours, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("tokens", [1, 6])
@pytest.mark.parametrize("window", [1, 2, 5])
def test_a_window_holds_that_many_keys_itself_included(window: int, tokens: int) -> None:
    q, k, _ = qkv(1, 2, 1, tokens, 6)
    marks = torch.eye(6, D)[None, None]  # value j is the j-th unit vector: the output is the weights
    start = 6 - tokens
    weights = attend(q, k, marks, Scoring(scale=1.0, window=window), plain(1, tokens, start))
    for t in range(tokens):
        i = start + t
        seen = (weights[0, 0, t] > 0).nonzero().flatten().tolist()
        assert seen == list(range(max(0, i - window + 1), i + 1))


def test_a_window_longer_than_the_text_changes_nothing() -> None:
    q, k, v = qkv(2, 4, 2, 6, 6)
    free = attend(q, k, v, Scoring(scale=0.3), plain(2, 6))
    for window in (6, 7, 1000):
        assert torch.equal(attend(q, k, v, Scoring(scale=0.3, window=window), plain(2, 6)), free)


@GROUPING
def test_grouped_heads_read_their_group_not_a_tile(heads: int, groups: int) -> None:
    q, k, v = qkv(1, heads, groups, 5, 5)
    share = heads // groups
    repeated = [t.repeat_interleave(share, 1) for t in (k, v)]
    scoring = Scoring(scale=D**-0.5)
    torch.testing.assert_close(attend(q, k, v, scoring, plain(1, 5)), attend(q, *repeated, scoring, plain(1, 5)), rtol=1e-5, atol=1e-6)
    if 1 < groups < heads:
        tiled = [t.repeat(1, share, 1, 1) for t in (k, v)]
        assert not torch.allclose(attend(q, k, v, scoring, plain(1, 5)), attend(q, *tiled, scoring, plain(1, 5)), atol=1e-2)


def test_softcap_bounds_the_scores() -> None:
    q, k, v = qkv(1, 1, 1, 4, 4)
    capped = attend(q * 1e4, k, v, Scoring(scale=1.0, softcap=1e-6), plain(1, 4))
    means = torch.stack([v[:, :, : t + 1].mean(2) for t in range(4)], 2)  # all scores ≈ 0: uniform over what is seen
    torch.testing.assert_close(capped, means, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", NAMES)
def test_half_precision_stays_near_and_keeps_its_dtype(name: str, dtype: torch.dtype) -> None:
    scoring = scorings(4)[name]
    q, k, v = qkv(1, 4, 2, 5, 9, dtype)
    half = attend(q, k, v, scoring, plain(1, 5, 4))
    assert half.dtype == dtype
    exact = _explicit(q.float(), k.float(), v.float(), scoring, plain(1, 5, 4))
    assert (half.float() - exact).abs().max() < (0.04 if dtype == torch.bfloat16 else 0.005)


# ---- padding and packed documents ----------------------------------------------------------------------------------


def left_padded(lengths: list[int], slots: int, tokens: int) -> Frame:
    """Rows of different length that end together; the last `tokens` of `slots` are new."""
    positions = torch.stack([torch.cat((torch.full((slots - n,), PADDING), torch.arange(n))) for n in lengths])
    return Frame(positions[:, slots - tokens :], slots - tokens, plain=False, key_positions=positions)


@GROUPING
@pytest.mark.parametrize("name", NAMES)
def test_padded_rows_equal_each_row_alone(heads: int, groups: int, name: str) -> None:
    scoring = scorings(heads)[name]
    lengths, slots = [7, 3, 1], 7
    q, k, v = qkv(3, heads, groups, slots, slots)
    out = attend(q, k, v, scoring, left_padded(lengths, slots, slots))
    twin = _explicit(q, k, v, scoring, left_padded(lengths, slots, slots))
    torch.testing.assert_close(out, twin, rtol=1e-5, atol=1e-6)
    for row, n in enumerate(lengths):
        cut = [t[row : row + 1, :, slots - n :] for t in (q, k, v)]
        torch.testing.assert_close(out[row : row + 1, :, slots - n :], attend(*cut, scoring, plain(1, n)), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_padding_queries_give_zeros_even_beside_nan(name: str) -> None:
    scoring = scorings(4)[name]
    q, k, v = qkv(2, 4, 2, 5, 5)
    frame = left_padded([5, 2], 5, 5)
    out = attend(q, k, v, scoring, frame)
    assert (out[1, :, :3] == 0).all()
    assert out[1, :, 3:].abs().min() > 0
    k2, v2 = k.clone(), v.clone()
    k2[1, :, :3], v2[1, :, :3] = 1e4, -1e4  # what lies in hidden slots must not matter
    assert torch.equal(attend(q, k2, v2, scoring, left_padded([5, 2], 5, 5)), out)


@pytest.mark.parametrize("rubbish", [float("nan"), 3.0])
def test_padding_queries_give_zeros_whatever_the_kernel_says(monkeypatch: pytest.MonkeyPatch, rubbish: float) -> None:
    """Kernels differ in what a row that sees nothing yields: zeros, the mean of the values, not a number."""
    kernel = F.scaled_dot_product_attention

    def other_kernel(*args: Any, attn_mask: Tensor, **options: Any) -> Tensor:
        return kernel(*args, attn_mask=attn_mask, **options).masked_fill(~attn_mask.any(-1, keepdim=True), rubbish)

    q, k, v = qkv(2, 4, 2, 5, 5)
    wanted = attend(q, k, v, Scoring(scale=1.0), left_padded([5, 2], 5, 5))
    monkeypatch.setattr(attention.F, "scaled_dot_product_attention", other_kernel)
    assert torch.equal(attend(q, k, v, Scoring(scale=1.0), left_padded([5, 2], 5, 5)), wanted)


@pytest.mark.parametrize("name", NAMES)
def test_gradients_stay_finite_where_a_query_sees_nothing(name: str) -> None:
    q, k, v = (t.requires_grad_() for t in qkv(2, 4, 2, 5, 5))
    attend(q, k, v, scorings(4)[name], left_padded([5, 2], 5, 5)).square().sum().backward()
    for t in (q, k, v):
        assert t.grad is not None
        assert t.grad.isfinite().all()
    assert q.grad is not None
    assert (q.grad[1, :, :3] == 0).all()
    assert (k.grad[1, :, :3] == 0).all()  # type: ignore[index]


@pytest.mark.parametrize("name", [n for n in NAMES if "both" not in n])
def test_one_token_after_padding_equals_alone(name: str) -> None:
    scoring = scorings(6)[name]
    q, k, v = qkv(2, 6, 2, 1, 8)
    out = attend(q, k, v, scoring, left_padded([8, 3], 8, 1))
    alone = attend(q[1:], k[1:, :, 5:], v[1:, :, 5:], scoring, plain(1, 1, 2))
    torch.testing.assert_close(out[1:], alone, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(out[:1], attend(q[:1], k[:1], v[:1], scoring, plain(1, 1, 7)), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("restart", [True, False], ids=["positions restart", "positions run on"])
def test_packed_documents_do_not_see_each_other(name: str, restart: bool) -> None:
    scoring = scorings(4)[name]
    lengths = [4, 1, 3]
    q, k, v = qkv(1, 4, 2, 8, 8)
    positions = torch.cat([torch.arange(n) for n in lengths]) if restart else torch.arange(8)
    segments = torch.repeat_interleave(torch.arange(3), torch.tensor(lengths))
    frame = Frame(positions[None], plain=False, key_positions=positions[None], segments=segments[None])
    out = attend(q, k, v, scoring, frame)
    start = 0
    for n in lengths:
        cut = [t[:, :, start : start + n] for t in (q, k, v)]
        torch.testing.assert_close(out[:, :, start : start + n], attend(*cut, scoring, plain(1, n)), rtol=1e-5, atol=1e-6)
        start += n


def test_a_mask_is_made_once_per_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[tuple[bool, int | None]] = []
    visible = Frame._visible

    def counted(self: Frame, causal: bool, window: int | None) -> Tensor:
        made.append((causal, window))
        return visible(self, causal, window)

    monkeypatch.setattr(Frame, "_visible", counted)
    frame = left_padded([4, 2], 4, 4)
    q, k, v = qkv(2, 2, 2, 4, 4)
    for _layer in range(3):
        attend(q, k, v, Scoring(scale=1.0), frame)
        attend(q, k, v, Scoring(scale=1.0, window=2), frame)
    assert made == [(True, None), (True, 2)]


def test_a_plain_single_token_makes_no_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    """Decoding builds nothing of the size of the text besides the result."""

    def refuse(*_: Any) -> Tensor:
        raise AssertionError("a mask was built")

    monkeypatch.setattr(attention.Frame, "_visible", refuse)
    q, k, v = qkv(2, 4, 2, 1, 9)
    attend(q, k, v, Scoring(scale=1.0), plain(2, 1, 8))
    attend(q, k, v, Scoring(scale=1.0, window=4), plain(2, 1, 8))
    q, k, v = qkv(2, 4, 2, 9, 9)
    attend(q, k, v, Scoring(scale=1.0), plain(2, 9))


def test_large_scores_do_not_overflow() -> None:
    q, k, v = qkv(1, 2, 2, 4, 4)
    for scoring in (Scoring(scale=1e4), Scoring(scale=1e4, softcap=1e3), Scoring(scale=1e4, window=2)):
        assert attend(q, k, v, scoring, plain(1, 4)).isfinite().all()
    assert math.isfinite(float(attend(q[:, :, -1:], k, v, Scoring(scale=1e4), plain(1, 1, 3)).sum()))
