"""The compiled products with packed vectors against the plain ones, and both against vectors decoded as a whole."""

from __future__ import annotations

import threading

import pytest
import torch
from torch import Tensor

from workbench.numerics import jit, kv_kernels
from workbench.numerics.kv_kernels import TILE, Attention, Packed, scores, scores_by_torch, weighted_sum, weighted_sum_by_torch
from workbench.numerics.packing import unpack

BITS = [0, 1, 2, 3, 4, 5, 6, 7, 8]
"""0: int8 numbers."""


class Stored:
    """Random codes as a cache holds them: a part of a longer tensor."""

    def __init__(self, bits: int, tokens: int, width: int = 64, heads: int = 3, batch: int = 2) -> None:
        g = torch.Generator().manual_seed(bits + tokens)
        size = width * (bits or 8) // 8
        codes = torch.randint(256, (batch, heads, tokens + 9, size), dtype=torch.uint8, generator=g)[:, :, 4 : tokens + 4]
        self.codes = codes if bits else codes.view(torch.int8)
        self.scale = torch.randn(batch, heads, tokens + 7, generator=g).half()[:, :, 2 : tokens + 2]
        self.levels = torch.randn(2**bits, generator=g) if bits else None
        self.width = width
        numbers = self.codes.float() if self.levels is None else self.levels[unpack(codes, bits, width).long()]
        self.vectors = numbers * self.scale.float()[..., None]

    def scores(self, q: Tensor) -> Tensor:
        return scores(q, self.codes, self.scale, self.levels)

    def weighted_sum(self, p: Tensor) -> Tensor:
        return weighted_sum(p, self.codes, self.scale, self.levels, self.width)


def apart(a: Tensor, b: Tensor) -> float:
    assert a.shape == b.shape
    return float((a - b).norm() / b.norm())


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize(("tokens", "rows"), [(1, 3), (67, 1), (TILE + 3, 5)])
def test_products_are_those_of_the_decoded_vectors(bits: int, tokens: int, rows: int) -> None:
    stored = Stored(bits, tokens)
    q, p = torch.randn(2, 3, rows, 64), torch.rand(2, 3, rows, tokens)
    assert apart(stored.scores(q), q @ stored.vectors.transpose(-1, -2)) < 1e-5
    assert apart(stored.weighted_sum(p), p @ stored.vectors) < 1e-5
    assert apart(scores_by_torch(q, stored.codes, stored.scale, stored.levels), q @ stored.vectors.transpose(-1, -2)) < 1e-5
    assert apart(weighted_sum_by_torch(p, stored.codes, stored.scale, stored.levels, 64), p @ stored.vectors) < 1e-5


@pytest.mark.parametrize("width", [8, 16, 24, 80, 128])
@pytest.mark.parametrize("bits", [0, 1, 2, 3, 4, 5, 8])
def test_any_width(bits: int, width: int) -> None:
    stored = Stored(bits, 40, width)
    q, p = torch.randn(2, 3, 4, width), torch.rand(2, 3, 4, 40)
    assert apart(stored.scores(q), q @ stored.vectors.transpose(-1, -2)) < 1e-5
    assert apart(stored.weighted_sum(p), p @ stored.vectors) < 1e-5


@pytest.mark.parametrize("rows", [2, 3, 4, 7, 8])
def test_any_number_of_query_rows(rows: int) -> None:
    stored = Stored(4, 50)
    q, p = torch.randn(2, 3, rows, 64), torch.rand(2, 3, rows, 50)
    assert apart(stored.scores(q), q @ stored.vectors.transpose(-1, -2)) < 1e-5
    assert apart(stored.weighted_sum(p), p @ stored.vectors) < 1e-5


def test_scales_of_any_float16_are_exact() -> None:
    """Subnormal ones and the largest, of either sign: they are widened by hand."""
    stored = Stored(0, 5, heads=1, batch=1)
    stored.scale = torch.tensor([[[6e-8, -3e-5, 65504.0, -1.0, 0.0]]]).half()
    q = torch.zeros(1, 1, 1, 64)
    q[..., 0] = 1.0
    assert torch.equal(stored.scores(q)[0, 0, 0], stored.codes[0, 0, :, 0].float() * stored.scale.float()[0, 0])


def test_rows_of_a_larger_tensor_may_be_anywhere() -> None:
    """A view whose rows are not whole rows apart, and weights that are a part of all weights."""
    stored = Stored(4, 30)
    padded = torch.cat((stored.codes, stored.codes[..., :5]), -1)[..., :32]
    assert padded.stride(2) == 37
    q, p = torch.randn(2, 3, 3, 64), torch.rand(2, 3, 3, 40)[..., 5:35]
    assert apart(scores(q, padded, stored.scale, stored.levels), q @ stored.vectors.transpose(-1, -2)) < 1e-5
    assert apart(weighted_sum(p, padded, stored.scale, stored.levels, 64), p @ stored.vectors) < 1e-5


def test_nothing_stored_gives_nothing() -> None:
    stored = Stored(4, 0)
    assert stored.scores(torch.randn(2, 3, 3, 64)).shape == (2, 3, 3, 0)
    assert torch.equal(stored.weighted_sum(torch.rand(2, 3, 3, 0)), torch.zeros(2, 3, 3, 64))


def test_without_a_compiler_torch_does_it(monkeypatch: pytest.MonkeyPatch) -> None:
    stored = Stored(3, 70)
    q = torch.randn(2, 3, 3, 64)
    compiled = stored.scores(q)
    monkeypatch.setattr(jit, "available", lambda: False)
    monkeypatch.setattr(kv_kernels, "products", None)
    assert apart(stored.scores(q), compiled) < 1e-5


@pytest.mark.skipif(not jit.available(), reason="numba is not installed")
def test_the_number_of_threads_changes_no_bit() -> None:
    stored = Stored(4, 3 * TILE + 5)
    q, p = torch.randn(2, 3, 3, 64), torch.rand(2, 3, 3, 3 * TILE + 5)
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append((stored.scores(q), stored.weighted_sum(p)))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for one in found[1:] for a, b in zip(one, found[0], strict=True))


@pytest.mark.skipif(not jit.available(), reason="numba is not installed")
def test_two_threads_may_use_them_at_once() -> None:
    """Chat and training at the same time: each gets what it would get alone."""
    work = [(Stored(b, 700), torch.randn(2, 3, 3, 64), torch.rand(2, 3, 3, 700)) for b in (4, 3)]
    wanted = [(s.scores(q), s.weighted_sum(p)) for s, q, p in work]
    wrong: list[int] = []

    def repeat(i: int) -> None:
        stored, q, p = work[i]
        for _ in range(40):
            if not (torch.equal(stored.scores(q), wanted[i][0]) and torch.equal(stored.weighted_sum(p), wanted[i][1])):
                wrong.append(i)

    threads = [threading.Thread(target=repeat, args=(i,)) for i in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


# ---- attention as a whole ------------------------------------------------------------------------------------------------

COMPILED = pytest.mark.skipif(not jit.available(), reason="numba is not installed")


class Side:
    """Keys, or values: packed ones with all that a codec may add, and two runs of exact ones."""

    def __init__(self, bits: int, tokens: int, near: tuple[int, int], width: int = 64, bare: bool = False) -> None:
        g = torch.Generator().manual_seed(100 + bits)
        stored = Stored(bits, tokens, width)
        stored.scale = (stored.scale / 100).half() if bits == 0 else stored.scale
        turn = torch.linalg.qr(torch.randn(width, width, generator=g))[0].contiguous()
        shift = torch.randn(2, 3, 1, width, generator=g)
        extras = (None, None) if bare else (turn, shift)
        self.packed = Packed(stored.codes, stored.scale, stored.levels, *extras)
        vectors = stored.vectors if bits else stored.codes.float() * stored.scale.float()[..., None]
        self.near = [torch.randn(2, 3, 70, width, generator=g) for _ in near]
        self.spans = ((3, 3 + near[0]), (5, 5 + near[1]))
        seen = [x[:, :, a:b] for x, (a, b) in zip(self.near, self.spans, strict=True)]
        self.far = vectors if bare else vectors @ turn + shift
        self.all = torch.cat((*seen, self.far), 2)


def plain(q: Tensor, keys: Side, values: Side) -> Tensor:
    return torch.softmax(q.double() @ keys.all.double().transpose(-1, -2), -1).matmul(values.all.double()).float()


def whole(q: Tensor, keys: Side, values: Side) -> Tensor:
    first, last = zip(keys.near, values.near, strict=True)
    attention = Attention.of(keys.packed, values.packed, (first, last))  # type: ignore[arg-type]
    assert attention is not None
    return attention(q * 4, 0.25, (0, keys.far.shape[2]), keys.spans)


@COMPILED
@pytest.mark.parametrize("bits", [(0, 0), (4, 4), (3, 3), (8, 4), (0, 2), (5, 6), (7, 1)])
@pytest.mark.parametrize("near", [(0, 0), (4, 0), (0, 17), (3, 64)])
@pytest.mark.parametrize(("tokens", "rows", "bare"), [(1, 3, False), (TILE + 40, 1, True), (2 * TILE + 1, 5, False)])
def test_attention_is_that_over_the_decoded_vectors(
    bits: tuple[int, int], near: tuple[int, int], tokens: int, rows: int, bare: bool
) -> None:
    keys, values = Side(bits[0], tokens, near, bare=bare), Side(bits[1], tokens, near, bare=bare)
    q = torch.randn(2, 3, rows, 64) * 0.3
    assert apart(whole(q, keys, values), plain(q, keys, values)) < 1e-5


@COMPILED
@pytest.mark.parametrize("width", [16, 48, 80, 128])
def test_attention_of_any_width_in_sixteens(width: int) -> None:
    keys, values = Side(4, 600, (4, 20), width), Side(3, 600, (4, 20), width)
    q = torch.randn(2, 3, 3, width) * 0.3
    assert apart(whole(q, keys, values), plain(q, keys, values)) < 1e-5


@COMPILED
def test_a_part_of_all_of_them_in_any_type() -> None:
    """A sliding window sees a part; a model's own type may be narrower."""
    keys, values = Side(4, 900, (4, 20)), Side(4, 900, (4, 20))
    q = torch.randn(2, 3, 3, 64) * 0.3
    halves = tuple((k.bfloat16(), v.bfloat16()) for k, v in zip(keys.near, values.near, strict=True))
    found = Attention(keys.packed, values.packed, halves)(q, 1.0, (333, 899), ((60, 64), (0, 0)))  # type: ignore[arg-type]
    k, v = (torch.cat((x.near[0][:, :, 60:64].bfloat16().float(), x.far[:, :, 333:899]), 2) for x in (keys, values))
    assert apart(found, torch.softmax(q @ k.transpose(-1, -2), -1) @ v) < 1e-5


@COMPILED
def test_scores_far_apart_and_what_is_no_number() -> None:
    """A weight of one on a single vector, and rows that are not numbers spoil no others."""
    keys, values = Side(4, 700, (4, 20)), Side(4, 700, (4, 20))
    q = torch.randn(2, 3, 4, 64) * 100
    wanted = plain(q, keys, values)
    assert apart(whole(q, keys, values), wanted) < 1e-4
    q[0, 0, 1, 5], q[1, 2, 0, 5] = float("nan"), float("inf")
    found = whole(q, keys, values)
    broken = torch.zeros(2, 3, 4, dtype=torch.bool)
    broken[0, 0, 1] = broken[1, 2, 0] = True
    assert torch.equal(found.isnan().any(-1), broken)
    assert apart(found[~broken], wanted[~broken]) < 1e-4


@COMPILED
def test_the_number_of_threads_changes_no_bit_of_attention() -> None:
    keys, values = Side(4, 3 * TILE + 5, (4, 20)), Side(0, 3 * TILE + 5, (4, 20))
    q = torch.randn(2, 3, 3, 64)
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(whole(q, keys, values))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(one, found[0]) for one in found[1:])
