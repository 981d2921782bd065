"""The generation loop: cached = uncached, pieces of any size, every way to end, and a cache that is right however it ends."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Generator
from types import SimpleNamespace
from typing import Any, TypeVar

import pytest
import torch

from workbench.caches import KVCache
from workbench.caches.coded import CodedLayerCache
from workbench.core.control import Control
from workbench.core.errors import ConfigError, DataError
from workbench.core.events import Notice, Progress
from workbench.core.metrics import METRICS
from workbench.generation import GenerationConfig, GenerationResult, TokenEvent, generate, score
from workbench.generation.generate import COMPILES
from workbench.model import ModelConfig, Transformer, build_model
from workbench.tokenizers import Tokenizer

R = TypeVar("R")
GREEDY = GenerationConfig(do_sample=False, max_new_tokens=16)
PROMPT = [5, 17, 3, 250, 9, 9, 41, 8, 77, 31, 2]


def run(steps: Generator[Any, None, R]) -> tuple[list[Any], R]:
    events = []
    while True:
        try:
            events.append(next(steps))
        except StopIteration as end:
            return events, end.value


def result_of(steps: Generator[Any, None, R]) -> R:
    return run(steps)[1]


def tokens_of(events: list[Any]) -> list[TokenEvent]:
    return [e for e in events if isinstance(e, TokenEvent)]


def changed(**changes: Any) -> GenerationConfig:
    return dataclasses.replace(GREEDY, **changes)


# ---- the same text, however it is computed -----------------------------------------------------------------------


@pytest.mark.parametrize("chunk", [1, 3, 7, 256])
def test_cached_equals_uncached(model: Transformer, chunk: int) -> None:
    plain = result_of(generate(model, None, PROMPT, GREEDY))
    cache = KVCache.for_model(model)
    cached = result_of(generate(model, None, PROMPT, GREEDY, cache=cache, chunk=chunk))
    assert cached.ids == plain.ids
    assert len(set(plain.ids)) > 3, "the model repeats itself; the comparison would prove little"
    assert cache.length == len(PROMPT) + len(plain.ids) - 1  # the last token was never given to the model
    assert plain.cache_bytes == 0
    assert cached.cache_bytes == cache.nbytes > 0


def test_greedy_is_the_argmax_of_one_full_pass(model: Transformer) -> None:
    events, result = run(generate(model, None, PROMPT, GREEDY, cache=KVCache.for_model(model)))
    with torch.inference_mode():
        logits = model(torch.tensor([[*PROMPT, *result.ids]]))[0, len(PROMPT) - 1 : -1]
    assert list(result.ids) == logits.argmax(-1).tolist()
    logprobs = logits.log_softmax(-1).gather(-1, torch.tensor(result.ids)[:, None])[:, 0]
    torch.testing.assert_close(torch.tensor([e.logprob for e in tokens_of(events)]), logprobs, atol=1e-4, rtol=0)


def test_only_the_last_row_reaches_the_head(model: Transformer, monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[int] = []
    head = model.head
    monkeypatch.setattr(model, "head", lambda h: rows.append(h.shape[:-1].numel()) or head(h))
    result_of(generate(model, None, PROMPT, changed(max_new_tokens=3), cache=KVCache.for_model(model), chunk=4))
    assert rows == [1, 1, 1]


def test_a_seed_repeats_a_sampled_reply(model: Transformer) -> None:
    settings = GenerationConfig(max_new_tokens=24, temperature=1.5, top_k=0, top_p=1.0, seed=4)
    first, again = (result_of(generate(model, None, PROMPT, settings)).ids for _ in range(2))
    cached = result_of(generate(model, None, PROMPT, settings, cache=KVCache.for_model(model))).ids
    other = result_of(generate(model, None, PROMPT, dataclasses.replace(settings, seed=5))).ids
    assert first == again == cached != other


def test_the_reported_seed_repeats_an_unseeded_reply(model: Transformer) -> None:
    settings = GenerationConfig(max_new_tokens=12, temperature=1.5, top_k=0, top_p=1.0)
    first = result_of(generate(model, None, PROMPT, settings))
    assert result_of(generate(model, None, PROMPT, dataclasses.replace(settings, seed=first.seed))).ids == first.ids


def test_reuse_of_a_prefix_equals_a_fresh_start(model: Transformer) -> None:
    cache = KVCache.for_model(model)
    result_of(generate(model, None, PROMPT, GREEDY, cache=cache))
    changed_end = [*PROMPT[:7], 99, 12]
    events, reused = run(generate(model, None, changed_end, GREEDY, cache=cache, reuse=7))
    fresh = result_of(generate(model, None, changed_end, GREEDY))
    assert reused.ids == fresh.ids
    assert (reused.reused_tokens, reused.prompt_tokens) == (7, 9)
    assert events[0].total == 2


def test_the_last_prompt_token_is_always_computed(model: Transformer) -> None:
    cache = KVCache.for_model(model)
    first = result_of(generate(model, None, PROMPT, GREEDY, cache=cache))
    again = result_of(generate(model, None, PROMPT, GREEDY, cache=cache, reuse=len(PROMPT)))
    assert again.ids == first.ids
    assert again.reused_tokens == len(PROMPT) - 1


def test_what_a_cache_held_before_is_dropped(model: Transformer) -> None:
    cache = KVCache.for_model(model)
    result_of(generate(model, None, [1, 2, 3], GREEDY, cache=cache))
    fresh = result_of(generate(model, None, PROMPT, GREEDY))
    assert result_of(generate(model, None, PROMPT, GREEDY, cache=cache)).ids == fresh.ids


def test_low_precision_is_for_long_prompts_only(model: Transformer, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, bool]] = []
    hidden = model.hidden
    monkeypatch.setattr(
        model, "hidden", lambda ids, cache: seen.append((ids.shape[1], torch.is_autocast_enabled("cpu"))) or hidden(ids, cache)
    )
    prompt = (PROMPT * 4)[:43]
    steps = generate(
        model, None, prompt, changed(max_new_tokens=2), cache=KVCache.for_model(model), prefill_dtype=torch.bfloat16, chunk=40
    )
    for _ in steps:
        assert not torch.is_autocast_enabled("cpu"), "a torch context is open while the consumer runs"
        assert not torch.is_inference_mode_enabled()
    assert seen == [(40, True), (3, False), (1, False)]


def test_a_low_precision_prompt_gives_nearly_the_same_probabilities(model: Transformer) -> None:
    prompt = (PROMPT * 4)[:40]
    one = changed(max_new_tokens=1)
    exact, low = (
        tokens_of(run(generate(model, None, prompt, one, cache=KVCache.for_model(model), prefill_dtype=dtype))[0])[0]
        for dtype in (None, torch.bfloat16)
    )
    assert low.logprob == pytest.approx(exact.logprob, abs=0.2)
    assert low.logprob != exact.logprob


# ---- every way to end --------------------------------------------------------------------------------------------


def test_length(model: Transformer) -> None:
    result = result_of(generate(model, None, PROMPT, changed(max_new_tokens=1)))
    assert (result.stop_reason, result.new_tokens) == ("length", 1)


def test_an_end_token_ends_and_is_counted_but_not_shown(scripted: Any, tokenizer: Tokenizer) -> None:
    end = tokenizer.eos_ids[0]
    events, result = run(generate(scripted([72, 105, end, 33]), tokenizer, [1], GREEDY))
    assert (result.text, result.ids, result.stop_reason) == ("Hi", (72, 105, end), "eos")
    assert [e.text for e in tokens_of(events)] == ["H", "i", ""]


def test_no_stop_ids_never_end(scripted: Any, tokenizer: Tokenizer) -> None:
    end = tokenizer.eos_ids[0]
    result = result_of(generate(scripted([72, end, 105]), tokenizer, [1], changed(max_new_tokens=3), stop_ids=()))
    assert (result.ids, result.stop_reason) == ((72, end, 105), "length")


def test_a_stop_string_over_several_tokens_is_cut(scripted: Any, tokenizer: Tokenizer) -> None:
    script = list(b"Hello\nUsual\nUser: more")
    events, result = run(generate(scripted(script), tokenizer, [1], changed(max_new_tokens=40, stop=("\nUser:",))))
    assert (result.text, result.stop_reason) == ("Hello\nUsual", "stop")
    assert bytes(result.ids) == b"Hello\nUsual\nUser:"
    assert "".join(e.text for e in tokens_of(events)) == result.text


def test_text_held_for_a_stop_string_appears_when_the_reply_ends(scripted: Any, tokenizer: Tokenizer) -> None:
    events, result = run(generate(scripted(list(b"ab")), tokenizer, [1], changed(max_new_tokens=2, stop=("bc",))))
    assert result.text == "ab"
    assert [e.text for e in tokens_of(events)] == ["a", "b"]


def test_a_character_of_several_tokens_appears_whole(scripted: Any, tokenizer: Tokenizer) -> None:
    text = "a😀é"
    events, result = run(generate(scripted(list(text.encode())), tokenizer, [1], changed(max_new_tokens=7)))
    assert [e.text for e in tokens_of(events)] == ["a", "", "", "", "😀", "", "é"]
    assert result.text == text


def test_a_character_cut_off_by_the_length_is_shown_as_broken(scripted: Any, tokenizer: Tokenizer) -> None:
    events, result = run(generate(scripted(list("a😀".encode())), tokenizer, [1], changed(max_new_tokens=3)))
    assert result.text == "".join(e.text for e in tokens_of(events)) == "a\ufffd"


@pytest.mark.parametrize("cached", [True, False])
def test_the_end_of_the_context(model: Transformer, cached: bool) -> None:
    limit = model.config.max_positions
    cache = KVCache.for_model(model) if cached else None
    prompt = (PROMPT * 10)[: limit - 2]
    result = result_of(generate(model, None, prompt, changed(max_new_tokens=500), cache=cache))
    assert (result.stop_reason, result.new_tokens) == ("context", 3)  # two have a place; the third needs none
    if cache is not None:
        assert cache.length == limit


def test_a_small_cache_is_the_context(model: Transformer) -> None:
    cache = KVCache.for_model(model, capacity=len(PROMPT) + 4)
    result = result_of(generate(model, None, PROMPT, changed(max_new_tokens=500), cache=cache))
    assert (result.stop_reason, result.new_tokens) == ("context", 5)


def test_a_prompt_beyond_the_context_says_both_numbers(model: Transformer) -> None:
    with pytest.raises(DataError, match=r"97 tokens.*96"):
        result_of(generate(model, None, [1] * 97, GREEDY))
    with pytest.raises(DataError, match="empty"):
        result_of(generate(model, None, [], GREEDY))


def test_a_refused_prompt_leaves_the_cache_alone(model: Transformer) -> None:
    cache = KVCache.for_model(model)
    result_of(generate(model, None, PROMPT, GREEDY, cache=cache))
    held = cache.length
    with pytest.raises(DataError):
        result_of(generate(model, None, [1] * 97, GREEDY, cache=cache))
    assert cache.length == held


def test_unusable_settings_are_refused(model: Transformer) -> None:
    with pytest.raises(ConfigError, match="Top p"):
        result_of(generate(model, None, PROMPT, changed(top_p=1.5)))
    with pytest.raises(ConfigError, match="tokenizer"):
        result_of(generate(model, None, PROMPT, changed(stop=("x",))))
    with pytest.raises(ConfigError, match="holds 0"):
        result_of(generate(model, None, PROMPT, GREEDY, cache=KVCache.for_model(model), reuse=3))
    with pytest.raises(ConfigError, match="pieces of 0"):
        result_of(generate(model, None, PROMPT, GREEDY, cache=KVCache.for_model(model), chunk=0))
    with pytest.raises(ConfigError, match="2 sequences"):
        result_of(generate(model, None, PROMPT, GREEDY, cache=KVCache.for_model(model, batch=2)))


# ---- interruptions -----------------------------------------------------------------------------------------------


def test_a_stop_between_tokens_keeps_what_was_said(model: Transformer) -> None:
    control, cache = Control(), KVCache.for_model(model)
    steps = generate(model, None, PROMPT, GREEDY, cache=cache, control=control)
    whole = result_of(generate(model, None, PROMPT, GREEDY))
    events = []
    while len(tokens_of(events)) < 5:
        events.append(next(steps))
    control.stop()
    rest, result = run(steps)
    assert rest == []
    assert (result.stop_reason, result.ids) == ("stopped", whole.ids[:5])
    assert cache.length == len(PROMPT) + 4


def test_a_stop_while_the_prompt_is_read(model: Transformer) -> None:
    control, cache = Control(), KVCache.for_model(model)
    steps = generate(model, None, PROMPT, GREEDY, cache=cache, control=control, chunk=3)
    assert [next(steps).done for _ in range(3)] == [0, 3, 6]
    control.stop()
    rest, result = run(steps)
    assert (rest, result.stop_reason, result.ids, result.first_token_ms) == ([], "stopped", (), None)
    assert cache.length == 6


@pytest.mark.parametrize("taken", [1, 3, 6])
def test_closing_early_leaves_the_cache_usable(model: Transformer, taken: int) -> None:
    cache = KVCache.for_model(model)
    steps = generate(model, None, PROMPT, GREEDY, cache=cache, chunk=4)
    events = [next(steps) for _ in range(taken)]
    steps.close()
    text = [*PROMPT, *(e.id for e in tokens_of(events))]
    stored = cache.length
    assert stored <= len(text)
    longer = [*text[:stored], 7, 8]
    resumed = result_of(generate(model, None, longer, GREEDY, cache=cache, reuse=stored))
    assert resumed.reused_tokens == stored
    assert resumed.ids == result_of(generate(model, None, longer, GREEDY)).ids


def test_an_error_in_the_model_leaves_the_cache_as_it_was(model: Transformer, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = KVCache.for_model(model)
    steps = generate(model, None, PROMPT, GREEDY, cache=cache)
    said = [e.id for e in tokens_of([next(steps) for _ in range(4)])]
    stored = cache.length

    def fail(*_: Any) -> None:
        raise RuntimeError("out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(model.blocks[-1], "forward", fail)
        with pytest.raises(RuntimeError, match="out of memory"):
            next(steps)
    assert cache.length == stored
    longer = [*PROMPT, *said]
    resumed = result_of(generate(model, None, longer, GREEDY, cache=cache, reuse=stored))
    assert resumed.ids == result_of(generate(model, None, longer, GREEDY)).ids


# ---- what is reported --------------------------------------------------------------------------------------------


def test_events_carry_measured_figures(model: Transformer) -> None:
    cache = KVCache.for_model(model)
    events = []
    for event in generate(model, None, PROMPT, GREEDY, cache=cache):
        if isinstance(event, TokenEvent):
            assert event.cache_bytes == event.metrics["cache_bytes"] == cache.nbytes
        events.append(event)
    tokens = tokens_of(events)
    assert [t.index for t in tokens] == list(range(16))
    assert all(t.ms > 0 for t in tokens)
    assert all(set(t.metrics) <= set(METRICS) for t in tokens)
    per_token = tokens[1].cache_bytes - tokens[0].cache_bytes
    c = model.config
    assert per_token == 2 * c.n_layers * c.kv_heads * c.head_width * 4  # keys and values in float32
    assert "generate_tokens_per_second" not in tokens[0].metrics  # the first one's time is the prompt's
    assert tokens[-1].to_json()["event"] == "token"


def test_the_result_agrees_with_the_events(model: Transformer) -> None:
    events, result = run(generate(model, None, PROMPT, GREEDY, cache=KVCache.for_model(model)))
    tokens = tokens_of(events)
    assert isinstance(result, GenerationResult)
    assert result.first_token_ms == tokens[0].ms
    assert result.tokens_per_second == pytest.approx(15_000 / sum(t.ms for t in tokens[1:]))
    assert result.peak_memory_bytes > 10_000_000
    assert result.to_json()["ids"] == list(result.ids)


def test_the_consumers_time_is_not_counted(model: Transformer, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(sys.modules["workbench.generation.generate"], "time", SimpleNamespace(perf_counter=lambda: clock[0]))
    hidden = model.hidden

    def slow(*arguments: Any, **named: Any) -> torch.Tensor:
        clock[0] += 0.010
        return hidden(*arguments, **named)

    monkeypatch.setattr(model, "hidden", slow)
    ms = []
    for event in generate(model, None, PROMPT, changed(max_new_tokens=3), cache=KVCache.for_model(model), chunk=4):
        clock[0] += 5.0
        if not isinstance(event, Progress):
            ms.append(event.ms)
    assert ms == pytest.approx([30.0, 10.0, 10.0])


def test_a_bidirectional_model_cannot_write_or_score() -> None:
    config = ModelConfig(n_layers=1, d_model=16, n_heads=2, vocab_size=31, max_positions=16, causal=False)
    model = build_model(config)
    for steps in (generate(model, None, [1, 2], GenerationConfig()), score(model, None, [1, 2, 3])):
        with pytest.raises(ConfigError, match="fills gaps"):
            next(steps)


def test_a_reply_says_once_that_it_waits_for_a_compiler(model: Transformer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once there is something for the compiled code to do, and before it is compiled."""
    monkeypatch.setattr(CodedLayerCache, "compiles", property(lambda layer: layer.coded > 0))
    events, _ = run(generate(model, None, PROMPT, changed(max_new_tokens=30), cache=KVCache.for_model(model, "int8"), stop_ids=()))
    said = [i for i, e in enumerate(events) if isinstance(e, Notice)]
    assert [events[i].message for i in said] == [COMPILES]
    assert len(tokens_of(events[: said[0]])) == 16 - len(PROMPT)
    events, _ = run(generate(model, None, PROMPT, GREEDY, cache=KVCache.for_model(model), stop_ids=()))
    assert not [e for e in events if isinstance(e, Notice)]
