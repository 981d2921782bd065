"""Scoring: windows against one explicit pass, and through a cache."""

from __future__ import annotations

import math
from collections.abc import Generator
from typing import Any, TypeVar

import pytest
import torch

from workbench.caches import KVCache
from workbench.core.control import Control
from workbench.core.errors import ConfigError, DataError
from workbench.generation import score
from workbench.model import Transformer
from workbench.tokenizers import Tokenizer

R = TypeVar("R")
IDS = torch.randint(0, 256, (70,), generator=torch.Generator().manual_seed(0)).tolist()


def result_of(steps: Generator[Any, None, R]) -> R:
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


def by_hand(model: Transformer, begin: int, end: int, first: int) -> float:
    """Sum of −log p(token) for tokens first … end−1, each given the tokens from `begin` on."""
    with torch.inference_mode():
        logprobs = model(torch.tensor([IDS[begin:end]]))[0].log_softmax(-1)
    return -sum(float(logprobs[t - begin - 1, IDS[t]]) for t in range(first, end))


def test_one_window_is_the_sum_of_all_tokens_but_the_first(model: Transformer, tokenizer: Tokenizer) -> None:
    result = result_of(score(model, tokenizer, IDS))
    assert result.nll == pytest.approx(by_hand(model, 0, 70, 1), rel=1e-5)
    assert (result.tokens, result.scored_bytes, result.windows) == (69, 69, 1)
    assert result.perplexity == pytest.approx(math.exp(result.nll / 69))
    assert result.bits_per_byte == pytest.approx(result.nll / 69 / math.log(2))


def test_windows_side_by_side_lose_the_first_token_of_each(model: Transformer) -> None:
    result = result_of(score(model, None, IDS, window=32))
    expected = by_hand(model, 0, 32, 1) + by_hand(model, 32, 64, 33) + by_hand(model, 64, 70, 65)
    assert result.nll == pytest.approx(expected, rel=1e-5)
    assert result.tokens == 31 + 31 + 5
    assert math.isnan(result.bits_per_byte)


def test_overlapping_windows_score_each_token_once(model: Transformer) -> None:
    result = result_of(score(model, None, IDS, window=32, stride=16))
    spans = [(0, 32, 1), (16, 48, 32), (32, 64, 48), (48, 70, 64)]
    assert result.nll == pytest.approx(sum(by_hand(model, *s) for s in spans), rel=1e-5)
    assert (result.tokens, result.windows) == (69, 4)


@pytest.mark.parametrize("chunk", [1, 7, 1000])
@pytest.mark.parametrize("stride", [None, 16])
def test_through_an_exact_cache_nothing_changes(model: Transformer, chunk: int, stride: int | None) -> None:
    plain = result_of(score(model, None, IDS, window=32, stride=stride))
    cached = result_of(score(model, None, IDS, window=32, stride=stride, cache=KVCache.for_model(model), chunk=chunk))
    assert cached.nll == pytest.approx(plain.nll, rel=1e-5)
    assert cached.tokens == plain.tokens


def test_bytes_are_those_of_the_scored_tokens(model: Transformer, tokenizer: Tokenizer) -> None:
    """A special token has a name of several bytes; the window's first token is not counted."""
    end = tokenizer.eos_ids[0]
    result = result_of(score(model, tokenizer, [end, 65, 66]))
    assert (result.tokens, result.scored_bytes) == (2, 2)


def test_a_stop_returns_what_was_read(model: Transformer) -> None:
    control = Control()
    steps = score(model, None, IDS, window=32, control=control)
    assert next(steps).done == 32
    control.stop()
    with pytest.raises(StopIteration) as end:
        next(steps)
    assert end.value.value.stopped
    assert end.value.value.nll == pytest.approx(by_hand(model, 0, 32, 1), rel=1e-5)


def test_impossible_requests(model: Transformer) -> None:
    with pytest.raises(DataError, match="1 tokens"):
        result_of(score(model, None, [4]))
    with pytest.raises(ConfigError, match="window of 97"):
        result_of(score(model, None, IDS, window=97))
    with pytest.raises(ConfigError, match="stride of 33"):
        result_of(score(model, None, IDS, window=32, stride=33))
    with pytest.raises(ConfigError, match="0 tokens"):
        result_of(score(model, None, IDS, cache=KVCache.for_model(model), chunk=0))


def test_json_has_no_nan(model: Transformer) -> None:
    line = result_of(score(model, None, IDS)).to_json()
    assert line["bits_per_byte"] is None
    assert line["tokens"] == 69
