"""The starter model says what transformers says, token for token."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from workbench.caches import KVCache
from workbench.checkpoints import Loaded
from workbench.generation import GenerationConfig, TokenEvent, generate

pytestmark = [pytest.mark.starter, pytest.mark.parity, pytest.mark.slow]

PROMPTS = ["The history of the printing press began", "def fibonacci(n):\n"]


def ours(loaded: Loaded, ids: list[int], config: GenerationConfig, **more: Any) -> tuple[list[int], list[float]]:
    cache = KVCache.for_model(loaded.model, capacity=512)
    events = list(generate(loaded.model, None, ids, config, cache=cache, stop_ids=(), **more))
    tokens = [e for e in events if isinstance(e, TokenEvent)]
    return [t.id for t in tokens], [t.logprob for t in tokens]


def theirs(twin: Any, ids: list[int], new_tokens: int, **more: Any) -> list[int]:
    with torch.inference_mode():
        out = twin.generate(
            torch.tensor([ids]), attention_mask=torch.ones(1, len(ids), dtype=torch.int64), max_new_tokens=new_tokens,
            min_new_tokens=new_tokens, do_sample=False, **more,
        )  # fmt: skip
    return list(out[0, len(ids) :].tolist())


def test_greedy_text_of_128_tokens_is_identical(starter: Loaded, starter_twin: Any) -> None:
    assert starter.tokenizer is not None
    ids = starter.tokenizer.encode(PROMPTS[0])
    said, logprobs = ours(starter, ids, GenerationConfig(do_sample=False, max_new_tokens=128))
    assert said == theirs(starter_twin, ids, 128)
    with torch.inference_mode():
        logits = starter_twin(torch.tensor([[*ids, *said]])).logits[0, len(ids) - 1 : -1]
    expected = logits.log_softmax(-1).gather(-1, torch.tensor(said)[:, None])[:, 0]
    torch.testing.assert_close(torch.tensor(logprobs), expected, atol=1e-3, rtol=0)


def test_greedy_with_a_repetition_penalty_is_identical(starter: Loaded, starter_twin: Any) -> None:
    assert starter.tokenizer is not None
    ids = starter.tokenizer.encode(PROMPTS[1])
    said, _ = ours(starter, ids, GenerationConfig(do_sample=False, max_new_tokens=48, repetition_penalty=1.2), chunk=3)
    assert said == theirs(starter_twin, ids, 48, repetition_penalty=1.2)
