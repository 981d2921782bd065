"""The chat's cache when its settings change: kept, encoded anew, or read again; and a look at it at any time."""

from __future__ import annotations

import threading
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pytest
import torch

from workbench.caches import CacheConfig
from workbench.chatting import planned_capacity
from workbench.checkpoints import save_checkpoint
from workbench.core.control import Control
from workbench.core.errors import BusyError, ConfigError, ModelError, WorkbenchError
from workbench.generation import Conversation, GenerationConfig
from workbench.model import ModelConfig, build_model
from workbench.requests import ChatRequest
from workbench.session import Session
from workbench.tokenizers import CHATML, ByteTokenizer

EXACT = CacheConfig(capacity=256)
SHORT = 56
INT8 = CacheConfig(codec="int8", value_codec="int8", capacity=256)  # type: ignore[arg-type]


def drain(events: Generator[Any, None, Any]) -> tuple[list[Any], Any]:
    seen = []
    while True:
        try:
            seen.append(next(events))
        except StopIteration as end:
            return seen, end.value


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tokenizer = ByteTokenizer()
    config = ModelConfig(vocab_size=tokenizer.vocab_size, n_layers=2, d_model=32, n_heads=4, d_ff=48, max_positions=512)
    model = build_model(config, seed=2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2)
    path = tmp_path_factory.mktemp("model") / "tiny"
    save_checkpoint(model, tokenizer, CHATML, path)
    return path


@pytest.fixture
def session(home: Path, folder: Path) -> Session:
    session = Session(home, device="cpu", dtype="float32", threads=2)
    drain(session.load(folder))
    return session


class Talk:
    """One conversation that goes on."""

    def __init__(self, session: Session) -> None:
        self.session, self.conversation = session, Conversation()

    def steps(self, text: str, cache: CacheConfig, tokens: int = 8) -> Generator[Any, None, Any]:
        generation = GenerationConfig(do_sample=False, max_new_tokens=tokens)
        asked = self.conversation.add("user", text)
        return self.session.reply(ChatRequest(conversation=asked, generation=generation, cache=cache))

    def say(self, text: str, cache: CacheConfig = EXACT, tokens: int = 8) -> tuple[list[Any], Any]:
        events, reply = drain(self.steps(text, cache, tokens))
        self.conversation = reply.conversation
        return events, reply


def notices(events: list[Any]) -> list[str]:
    return [e.message for e in events if e.name == "notice"]


CHANGES = pytest.mark.parametrize(
    ("before", "after", "how"),
    [
        (EXACT, replace(EXACT, capacity=300), "kept"),
        (EXACT, replace(EXACT, overflow="rolling"), "kept"),
        (INT8, replace(INT8, capacity=512, overflow="truncate"), "kept"),
        (INT8, replace(INT8, capacity=None), "kept"),
        (EXACT, INT8, "re-encoded"),
        (EXACT, replace(INT8, window=32, sinks=4, track_error=True, capacity=400), "re-encoded"),
        (INT8, EXACT, "recomputed"),
        (INT8, replace(INT8, window=64), "recomputed"),
        (EXACT, replace(EXACT, capacity=SHORT), "recomputed"),
        (EXACT, CacheConfig(use_cache=False), "recomputed"),
    ],
)


@CHANGES
def test_another_setting_keeps_what_can_be_kept(session: Session, before: CacheConfig, after: CacheConfig, how: str) -> None:
    talk = Talk(session)
    _, first = talk.say("hello, who are you?", before, 30)
    assert first.cache_change is None
    fits = after.capacity != SHORT
    events, second = talk.say("go on" if fits else "x", after if fits else replace(after, overflow="truncate"))
    assert second.cache_change == how
    assert second.conversation.shown[-1].figures["cache_change"] == how
    assert len([n for n in notices(events) if "tokens" in n and "conversation" in n]) == 1
    assert (second.result.reused_tokens > 60) == (how != "recomputed")
    _, third = talk.say("and?", after if fits else replace(after, overflow="truncate"))
    assert third.cache_change is None
    assert "cache_change" not in third.conversation.shown[-1].figures


@CHANGES
def test_settings_take_effect_at_once(session: Session, before: CacheConfig, after: CacheConfig, how: str) -> None:
    talk = Talk(session)
    talk.say("hello, who are you?", before, 30)
    held = session.cache_state()
    assert held is not None
    events, change = drain(session.set_cache(after))
    assert (change.how, change.bytes_before) == (how, held.nbytes)
    assert len(notices(events)) == 1
    now = session.cache_state()
    if not after.use_cache:
        assert now is None
        assert (change.tokens, change.bytes_after) == (0, 0)
        return
    assert now is not None
    assert (now.tokens, now.nbytes, now.config) == (change.tokens, change.bytes_after, after)
    assert now.tokens == (0 if how == "recomputed" else held.tokens)
    assert (now.nbytes < held.nbytes) == (how != "kept")
    if after.capacity != SHORT:
        assert talk.say("go on", after)[1].cache_change == how


def test_an_exact_cache_taken_over_gives_the_same_reply(session: Session) -> None:
    """Kept or encoded into another exact type, the conversation goes on as if nothing had happened."""
    replies = []
    for after in (EXACT, replace(EXACT, capacity=400, overflow="rolling"), replace(EXACT, codec={"kind": "exact", "dtype": "float32"})):
        talk = Talk(session)
        talk.say("hello, who are you?", EXACT, 30)
        replies.append(talk.say("go on", after)[1].result)
    assert len({r.ids for r in replies}) == 1
    assert len({r.reused_tokens for r in replies}) == 1


def test_the_same_settings_change_nothing(session: Session) -> None:
    talk = Talk(session)
    talk.say("hello")
    tokens = session.cache_state().tokens  # type: ignore[union-attr]
    events, change = drain(session.set_cache(EXACT))
    assert events == []
    assert (change.how, change.tokens) == ("kept", tokens)
    assert change.to_json()["bytes_before"] == change.bytes_after


def test_an_empty_cache_has_nothing_to_say(session: Session) -> None:
    assert session.cache_state() is None
    events, change = drain(session.set_cache(INT8))
    assert notices(events) == []
    assert (change.how, change.tokens, change.bytes_after) == ("kept", 0, 0)
    assert session.cache_state().capacity == 256  # type: ignore[union-attr]


def test_stopped_while_encoding_leaves_the_old_cache(session: Session) -> None:
    talk = Talk(session)
    talk.say("hello, who are you?", EXACT, 30)
    before, control = session.cache_state(), Control()
    steps = session.set_cache(INT8, control)
    assert next(steps).message == "Storing the conversation anew"
    control.stop()
    assert drain(steps)[1] is None
    after = session.cache_state()
    assert after is not None
    assert before is not None
    assert (after.tokens, after.nbytes, after.config) == (before.tokens, before.nbytes, EXACT)
    assert talk.say("go on")[1].cache_change is None


@pytest.mark.parametrize("wrong", [{"capacity": 20, "window": 30}, {"overflow": "sinks"}, {"layer_overrides": ("what",)}])
def test_unusable_settings_leave_everything(session: Session, wrong: dict[str, Any]) -> None:
    talk = Talk(session)
    talk.say("hello")
    tokens = session.cache_state().tokens  # type: ignore[union-attr]
    with pytest.raises(ConfigError):
        drain(session.set_cache(CacheConfig(**wrong)))
    with pytest.raises(ConfigError):
        talk.say("go on", CacheConfig(**wrong))
    assert session.cache_state().tokens == tokens  # type: ignore[union-attr]
    assert talk.say("go on")[1].result.reused_tokens > 10


def test_a_context_that_memory_cannot_hold_is_refused_and_nothing_is_lost(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    talk = Talk(session)
    talk.say("hello")
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=100_000, total=2**34))
    with pytest.raises(ModelError, match=r"A cache for 512 tokens takes .* are free") as caught:
        drain(session.set_cache(CacheConfig(capacity=512)))
    assert "tokens or fewer" in caught.value.hint
    assert session.cache_state().capacity == 256  # type: ignore[union-attr]
    model = session.loaded.model
    int8 = replace(INT8, capacity=None)
    assert planned_capacity(model, replace(EXACT, capacity=None)) < planned_capacity(model, int8) <= 512


def test_no_memory_for_both_caches_reads_again(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    talk = Talk(session)
    talk.say("hello, who are you?", EXACT, 30)
    small = replace(INT8, capacity=128)
    monkeypatch.setattr("workbench.chatting.free_memory", lambda _: 6_000.0)
    _, change = drain(session.set_cache(small))
    assert (change.how, change.tokens) == ("recomputed", 0)


def test_another_adapter_or_model_empties_it(session: Session, folder: Path) -> None:
    talk = Talk(session)
    talk.say("hello")
    session.use_adapter(None)
    assert session.cache_state().tokens == 0  # type: ignore[union-attr]
    assert talk.say("go on")[1].result.reused_tokens == 0
    drain(session.load(folder))
    assert session.cache_state() is None


# ---- looking at it -------------------------------------------------------------------------------------------------


def test_what_is_held_is_reported_slot_by_slot(session: Session) -> None:
    talk = Talk(session)
    config = replace(INT8, sinks=4, window=20, track_error=True)
    _, reply = talk.say("hello, who are you?", config, 30)
    found = session.cache_state()
    assert found is not None
    assert (found.tokens, found.nbytes) == (reply.result.prompt_tokens + 29, reply.result.cache_bytes)
    assert found.nbytes <= found.allocated_nbytes
    assert found.float16_nbytes == found.tokens * 2 * 2 * 32 * 2
    assert len(found.layers) == 2
    for layer in found.layers:
        assert len(layer.exact) == len(layer.key_error) == len(layer.value_error) == found.tokens
        assert layer.exact[:4].all()
        assert 0 < np.nanmax(layer.key_error) < 0.01


def test_a_reply_can_be_watched_but_not_disturbed(session: Session) -> None:
    talk = Talk(session)
    steps = talk.steps("hello", EXACT, 20)
    sizes = []
    for event in steps:
        if event.name == "token":
            sizes.append(session.cache_state().tokens)  # type: ignore[union-attr]
            with pytest.raises(BusyError):
                drain(session.set_cache(INT8))
    assert sizes == list(range(sizes[0], sizes[0] + 20))


def test_in_the_middle_of_a_step_the_last_look_is_shown(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    talk = Talk(session)
    talk.say("hello")
    seen = session.cache_state()
    began, go_on = threading.Event(), threading.Event()
    hidden = session.loaded.model.hidden

    def slow(*args: Any, **more: Any) -> Any:
        began.set()
        assert go_on.wait(10)
        return hidden(*args, **more)

    monkeypatch.setattr(session.loaded.model, "hidden", slow)
    worker = threading.Thread(target=lambda: talk.say("go on"))
    worker.start()
    assert began.wait(10)
    assert session.cache_state() is seen
    go_on.set()
    worker.join()
    assert session.cache_state().tokens > seen.tokens  # type: ignore[union-attr]


def test_without_a_model_there_is_nothing_to_set(home: Path) -> None:
    empty = Session(home, device="cpu")
    assert empty.cache_state() is None
    with pytest.raises(WorkbenchError, match="No model is loaded"):
        drain(empty.set_cache(EXACT))


# ---- a conversation that outgrows it -------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["rolling", "sinks"])
@pytest.mark.parametrize("codec", ["exact", "int8", "turboquant"])
def test_a_long_conversation_goes_on(session: Session, way: str, codec: str) -> None:
    """It re-uses what is truly there, drops what it must, and a reply that was broken off does no harm."""
    cache = CacheConfig(codec=codec, value_codec=codec, capacity=96, overflow=way, sinks=4 if way == "sinks" else 0)  # type: ignore[arg-type]
    talk = Talk(session)
    dropped = []
    for i in range(5):
        _, reply = talk.say(f"message {i}", cache, 24)
        dropped.append(reply.result.dropped_tokens)
        state = session.cache_state()
        assert state is not None
        assert state.tokens <= 96
        assert state.dropped == reply.result.dropped_tokens
        assert i not in (2, 3) or reply.result.reused_tokens > 40
        if i == 3:
            steps = talk.steps("broken off", cache, 24)
            for _ in range(9):
                next(steps)
            steps.close()
    assert dropped == sorted(dropped)
    assert dropped[-1] > 96
    assert talk.conversation.shown[-1].figures["dropped_tokens"] == dropped[-1]
    said = reply.result.ids
    session.use_adapter(None)  # forgets everything
    talk.conversation = talk.conversation.before(8)
    assert codec != "exact" or talk.say("message 4", cache, 24)[1].result.ids == said


@pytest.mark.parametrize("use_cache", [True, False])
def test_a_long_chat_leaves_out_its_oldest_messages(session: Session, use_cache: bool) -> None:
    cache = CacheConfig(use_cache=use_cache, capacity=160, overflow="truncate")
    talk = Talk(session)
    left_out, said = [], []
    for i in range(6):
        events, reply = talk.say(f"message number {i}", cache, 20)
        left_out.append(reply.left_out_messages)
        said.append(notices(events))
        assert reply.result.stop_reason == "length"
        assert reply.result.prompt_tokens + 20 <= 160
        assert reply.to_json()["left_out_messages"] == reply.left_out_messages
    assert left_out[0] == 0
    assert left_out == sorted(left_out)
    assert left_out[-1] > 0
    assert all(n % 2 == 0 for n in left_out), "what is kept begins with a person's message"
    assert [bool(n) for n in said] == [bool(n) for n in left_out]
    assert f"The {left_out[-1]} oldest messages were left out" in said[-1][0]
    assert len(talk.conversation.shown) == 12
    if use_cache:
        kept = [i for i in range(1, 6) if left_out[i] == left_out[i - 1]]
        assert kept, "enough is left out for several turns"
