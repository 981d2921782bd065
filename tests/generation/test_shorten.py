"""Chats that outgrow the context: which messages are left out, and what happens during a reply."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, TypeVar

import pytest

from workbench.caches import CacheConfig, KVCache
from workbench.core.errors import DataError
from workbench.core.events import Notice
from workbench.generation import CacheState, Conversation, GenerationConfig, Reply, prompt_ids, reply
from workbench.generation.shorten import LEFT_OUT, Shortening
from workbench.model import Transformer
from workbench.tokenizers import ChatTemplate, Tokenizer, chat_template

R = TypeVar("R")
SHORTEN = CacheConfig(overflow="truncate")


@pytest.fixture(params=["gpt2", "llama"])
def model(request: pytest.FixtureRequest, long_models: dict[str, Transformer]) -> Transformer:
    return long_models[request.param]


@pytest.fixture(scope="session")
def template(tokenizer: Tokenizer) -> ChatTemplate:
    return chat_template(None, tokenizer)


def drain(steps: Generator[Any, None, R]) -> tuple[list[Any], R]:
    events = []
    while True:
        try:
            events.append(next(steps))
        except StopIteration as end:
            return events, end.value


def long_talk(turns: int, system: str = "Be brief.") -> Conversation:
    talk = Conversation(system)
    for i in range(turns):
        talk = talk.add("user", f"question {i:03}").add("assistant", f"answer {i:03}")
    return talk.add("user", "and now?")


def test_all_is_shown_while_it_fits(tokenizer: Tokenizer, template: ChatTemplate) -> None:
    talk = long_talk(3)
    whole = prompt_ids(tokenizer, template, talk)
    fitting = Shortening(tokenizer, template, talk, len(whole) + 20, max_new_tokens=20)
    assert (fitting.left_out, fitting.ids) == (0, whole)


@pytest.mark.parametrize("limit", [250, 400, 700])
def test_the_oldest_exchanges_go_and_the_system_prompt_stays(tokenizer: Tokenizer, template: ChatTemplate, limit: int) -> None:
    talk = long_talk(20)
    fitting = Shortening(tokenizer, template, talk, limit, max_new_tokens=30)
    text = tokenizer.decode(fitting.ids)
    assert fitting.left_out % 2 == 0
    assert "Be brief." in text
    assert f"question {fitting.left_out // 2:03}" in text
    assert f"question {fitting.left_out // 2 - 1:03}" not in text
    assert "and now?" in text
    assert len(fitting.ids) <= limit // 2
    more = prompt_ids(tokenizer, template, talk, fitting.left_out - 2)
    assert len(more) > limit // 2, "no more than needed is left out"


def test_what_was_left_out_stays_left_out_while_it_fits(tokenizer: Tokenizer, template: ChatTemplate) -> None:
    talk = long_talk(20).add("assistant", "yes", {LEFT_OUT: 34}).add("user", "why?")
    assert Shortening(tokenizer, template, talk, 400, 30).left_out == 34
    assert Shortening(tokenizer, template, talk, 10_000, 30).left_out == 0
    assert Shortening(tokenizer, template, talk, 100, 30).left_out > 34
    odd = long_talk(20).add("assistant", "yes", {LEFT_OUT: 33}).add("user", "why?")
    assert Shortening(tokenizer, template, odd, 400, 30).left_out % 2 == 0


def test_a_long_last_message_gets_what_there_is(tokenizer: Tokenizer, template: ChatTemplate) -> None:
    talk = long_talk(3).add("assistant", "yes").add("user", "x" * 150)
    fitting = Shortening(tokenizer, template, talk, 190, 100)
    assert fitting.left_out == 8
    assert 150 < len(fitting.ids) <= 190


def answered(
    model: Transformer, tokenizer: Tokenizer, template: ChatTemplate, talk: Conversation, tokens: int, cached: bool = True
) -> tuple[list[Any], Reply]:
    cache = KVCache.from_config(model, SHORTEN) if cached else None
    settings = GenerationConfig(do_sample=False, max_new_tokens=tokens)
    limits = CacheConfig(use_cache=False, overflow="truncate")
    return drain(reply(model, tokenizer, template, talk, settings, cache=cache, state=CacheState(), stop_ids=(), limits=limits))


@pytest.mark.parametrize("cached", [True, False])
def test_a_reply_that_reaches_the_end_goes_on_without_more_messages(
    model: Transformer, tokenizer: Tokenizer, template: ChatTemplate, cached: bool
) -> None:
    talk = long_talk(5, system="")
    start = Shortening(tokenizer, template, talk, 192, 150).left_out
    events, answer = answered(model, tokenizer, template, talk, 150, cached)
    assert (answer.result.stop_reason, answer.result.new_tokens) == ("length", 150)
    assert answer.left_out_messages > start
    assert answer.conversation.shown[-1].figures[LEFT_OUT] == answer.left_out_messages
    assert len([e for e in events if isinstance(e, Notice) and "more of the oldest messages" in e.message]) >= 1
    assert len(answer.conversation.shown) == 12


def test_with_and_without_a_cache_it_is_the_same_reply(model: Transformer, tokenizer: Tokenizer, template: ChatTemplate) -> None:
    talk = long_talk(5, system="")
    one, other = (answered(model, tokenizer, template, talk, 150, cached)[1].result for cached in (True, False))
    assert one.ids == other.ids


def test_when_nothing_more_can_go_the_reply_ends(model: Transformer, tokenizer: Tokenizer, template: ChatTemplate) -> None:
    talk = Conversation().add("user", "x" * 100)
    _, answer = answered(model, tokenizer, template, talk, 150)
    assert (answer.result.stop_reason, answer.left_out_messages) == ("context", 0)


def test_a_last_message_that_is_too_long_alone_is_refused(model: Transformer, tokenizer: Tokenizer, template: ChatTemplate) -> None:
    with pytest.raises(DataError, match="the context holds 192"):
        answered(model, tokenizer, template, long_talk(2).add("assistant", "a").add("user", "x" * 300), 10)


def test_without_a_template_the_texts_are_cut_too(tokenizer: Tokenizer) -> None:
    talk = Conversation("S").add("user", "a").add("assistant", "b").add("user", "c")
    assert bytes(prompt_ids(tokenizer, None, talk, 2)) == b"S\nc"
    assert bytes(prompt_ids(tokenizer, None, talk)) == b"S\na\nb\nc"


@pytest.mark.parametrize("taken", [3, 60, 130])
def test_broken_off_anywhere_the_state_is_true(model: Transformer, tokenizer: Tokenizer, template: ChatTemplate, taken: int) -> None:
    cache, state = KVCache.from_config(model, SHORTEN), CacheState()
    settings = GenerationConfig(do_sample=False, max_new_tokens=150)

    def steps() -> Generator[Any, None, Reply]:
        return reply(model, tokenizer, template, long_talk(5), settings, cache=cache, state=state, stop_ids=())

    broken = steps()
    for _ in range(taken):
        next(broken)
    broken.close()
    assert len(state.ids) == cache.length
    again = drain(steps())[1]
    assert again.result.ids == answered(model, tokenizer, template, long_talk(5), 150)[1].result.ids
