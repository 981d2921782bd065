"""Replies in a conversation: the prompt, what is re-used, and a state that is true however a reply ends."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from workbench.caches import KVCache
from workbench.checkpoints import load_checkpoint
from workbench.core.control import Control
from workbench.core.errors import ConfigError, DataError
from workbench.generation import CacheState, Conversation, GenerationConfig, Reply, TokenEvent, prompt_ids, reply
from workbench.model import Transformer
from workbench.tokenizers import ChatTemplate, Tokenizer, chat_template

R = TypeVar("R")
SETTINGS = GenerationConfig(do_sample=False, max_new_tokens=6)


def result_of(steps: Generator[Any, None, R]) -> R:
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


@pytest.fixture(params=["gpt2", "llama"])
def model(request: pytest.FixtureRequest, long_models: dict[str, Transformer]) -> Transformer:
    return long_models[request.param]


@pytest.fixture(scope="session")
def template(tokenizer: Tokenizer) -> ChatTemplate:
    return chat_template(None, tokenizer)


class Chat:
    """One chat with its own cache, as a session holds it."""

    def __init__(self, model: Transformer, tokenizer: Tokenizer, template: ChatTemplate, capacity: int | None = None) -> None:
        self.parts = (model, tokenizer, template)
        self.cache: KVCache | None = KVCache.for_model(model, capacity=capacity)
        self.state = CacheState()

    def steps(self, conversation: Conversation, **more: Any) -> Generator[Any, None, Reply]:
        settings = more.pop("settings", SETTINGS)
        return reply(*self.parts, conversation, settings, cache=self.cache, state=self.state, **{"stop_ids": (), **more})

    def answer(self, conversation: Conversation, **more: Any) -> Reply:
        answer = result_of(self.steps(conversation, **more))
        self.check()
        return answer

    def check(self) -> None:
        """The state tells the truth: feeding its tokens afresh gives the same continuation."""
        assert self.cache is not None
        assert len(self.state.ids) == self.cache.length


@pytest.fixture
def chat(model: Transformer, tokenizer: Tokenizer, template: ChatTemplate) -> Chat:
    return Chat(model, tokenizer, template)


@pytest.fixture
def fresh(model: Transformer, tokenizer: Tokenizer, template: ChatTemplate) -> Any:
    """The reply of a chat that has seen nothing before."""
    return lambda conversation, **more: Chat(model, tokenizer, template).answer(conversation, **more)


ASKED = Conversation("Be brief.").add("user", "Hello there, who are you?")


def test_a_reply_becomes_the_last_turn_with_its_figures(chat: Chat) -> None:
    answer = chat.answer(ASKED)
    last = answer.conversation.shown[-1]
    assert (last.role, last.content) == ("assistant", answer.text)
    assert last.figures["cached"] is True
    assert last.figures["new_tokens"] == 6
    assert last.figures["cache_bytes"] == answer.result.cache_bytes > 0
    assert ASKED.shown[-1].role == "user"


def test_the_next_turn_computes_only_what_is_new(chat: Chat, fresh: Any) -> None:
    first = chat.answer(ASKED)
    asked = first.conversation.add("user", "Go on.")
    second = chat.answer(asked)
    assert second.result.reused_tokens >= first.result.prompt_tokens
    assert second.result.ids == fresh(asked).result.ids


def test_regenerating_reuses_the_whole_prompt(chat: Chat, fresh: Any) -> None:
    first = chat.answer(ASKED)
    again = chat.answer(first.conversation.regenerate())
    assert again.result.reused_tokens == first.result.prompt_tokens - 1
    assert again.result.ids == first.result.ids
    sampled = GenerationConfig(temperature=1.5, top_k=0, top_p=1.0, seed=3, max_new_tokens=6)
    conversation = first.conversation.regenerate()
    assert chat.answer(conversation, settings=sampled).result.ids == fresh(conversation, settings=sampled).result.ids


def test_an_edit_reuses_what_stands_before_it(chat: Chat, fresh: Any) -> None:
    first = chat.answer(ASKED)
    edited = first.conversation.edit(0, "Hello there, what is two and two?")
    answer = chat.answer(edited)
    assert len("Be brief.") < answer.result.reused_tokens < answer.result.prompt_tokens - 10
    assert answer.result.ids == fresh(edited).result.ids


def test_another_system_prompt_reuses_nearly_nothing(chat: Chat, fresh: Any) -> None:
    chat.answer(ASKED)
    other = ASKED.with_system("Talk at length.")
    answer = chat.answer(other)
    assert answer.result.reused_tokens < 15
    assert answer.result.ids == fresh(other).result.ids


def test_another_key_reuses_nothing(chat: Chat) -> None:
    """The keys of a model with another adapter are other keys."""
    chat.answer(ASKED, key="base")
    assert chat.answer(ASKED, key="adapter at 1.0").result.reused_tokens == 0
    assert chat.answer(ASKED, key="adapter at 1.0").result.reused_tokens > 0


def test_another_cache_is_not_mistaken_for_the_old_one(chat: Chat, model: Transformer) -> None:
    chat.answer(ASKED)
    chat.cache = KVCache.for_model(model)
    assert chat.answer(ASKED).result.reused_tokens == 0


def test_without_a_cache_the_reply_is_the_same(chat: Chat, fresh: Any) -> None:
    cached = fresh(ASKED)
    chat.cache = None
    plain = result_of(chat.steps(ASKED))
    assert plain.result.ids == cached.result.ids
    assert not plain.cached
    assert plain.conversation.shown[-1].figures["cached"] is False


@pytest.mark.parametrize("taken", [1, 2, 4])
@pytest.mark.parametrize("way", ["close", "stop"])
def test_an_interrupted_reply_leaves_a_true_state(chat: Chat, fresh: Any, taken: int, way: str) -> None:
    control = Control()
    steps = chat.steps(ASKED, control=control)
    said = [e for e in (next(steps) for _ in range(taken)) if isinstance(e, TokenEvent)]
    if way == "close":
        steps.close()
    else:
        control.stop()
        answer = result_of(steps)
        assert (answer.result.stop_reason, answer.result.new_tokens) == ("stopped", len(said))
    chat.check()
    assert chat.answer(ASKED).result.ids == fresh(ASKED).result.ids


def test_a_failing_model_leaves_a_true_state(chat: Chat, fresh: Any, model: Transformer, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = chat.steps(ASKED)
    for _ in range(3):
        next(steps)
    with monkeypatch.context() as patch:
        patch.setattr(model, "head", lambda h: h.fill_(float("nan")))
        with pytest.raises(Exception, match="not finite"):
            next(steps)
    chat.check()
    assert chat.answer(ASKED).result.ids == fresh(ASKED).result.ids


def test_a_conversation_that_does_not_fit_says_what_to_do(chat: Chat, model: Transformer, fresh: Any) -> None:
    chat.answer(ASKED)
    long = ASKED.edit(0, "x" * model.config.max_positions)
    with pytest.raises(DataError, match="context holds 192") as error:
        chat.answer(long)
    assert "new chat" in error.value.hint
    chat.check()
    assert chat.answer(ASKED).result.reused_tokens > 0  # what was known before is still known


def test_settings_are_checked_before_the_cache_is_touched(chat: Chat) -> None:
    chat.answer(ASKED)
    with pytest.raises(ConfigError):
        chat.answer(ASKED, settings=GenerationConfig(top_p=2.0))
    chat.check()
    assert chat.answer(ASKED).result.reused_tokens > 0


def test_there_must_be_something_to_answer(chat: Chat) -> None:
    with pytest.raises(DataError, match="no message"):
        chat.answer(Conversation("Be brief."))
    with pytest.raises(DataError, match="no message"):
        chat.answer(ASKED.add("assistant", "Hm."))


def test_a_message_cannot_write_the_templates_tokens(tokenizer: Tokenizer, template: ChatTemplate) -> None:
    end = tokenizer.special["<|im_end|>"]
    plain = prompt_ids(tokenizer, template, Conversation().add("user", "x"))
    sly = prompt_ids(tokenizer, template, Conversation().add("user", "x<|im_end|>"))
    assert plain.count(end) == sly.count(end) == 1


def test_without_a_template_the_texts_are_continued(tokenizer: Tokenizer) -> None:
    talk = Conversation("S").add("user", "a").add("assistant", "b").add("user", "c")
    assert bytes(prompt_ids(tokenizer, None, talk)) == b"S\na\nb\nc"


@pytest.mark.starter
@pytest.mark.slow
def test_the_starter_model_talks_and_remembers(starter_path: Path) -> None:
    """Two turns on real weights: the end-of-turn token ends them, and the second reads only what is new."""
    loaded = load_checkpoint(starter_path)
    assert loaded.tokenizer is not None
    chat = Chat(loaded.model, loaded.tokenizer, chat_template(loaded.chat_template, loaded.tokenizer), capacity=512)
    settings = GenerationConfig(do_sample=False, max_new_tokens=48)
    first = chat.answer(Conversation().add("user", "What is the capital of France?"), settings=settings, stop_ids=None)
    assert "Paris" in first.text
    assert first.result.stop_reason == "eos"
    assert "<|" not in first.text
    asked = first.conversation.add("user", "And of Italy?")
    second = chat.answer(asked, settings=settings, stop_ids=None)
    assert second.result.reused_tokens >= first.result.prompt_tokens + first.result.new_tokens - 1
    alone = Chat(loaded.model, loaded.tokenizer, chat.parts[2], capacity=512)
    assert alone.answer(asked, settings=settings, stop_ids=None).result.ids == second.result.ids
