"""The same message with two settings: in turn, each with its own cache and weights, and how far both are the same."""

from __future__ import annotations

import json
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from workbench import pairing
from workbench.adapters import LoraConfig, attach, detach
from workbench.adapters.peft import save_adapter
from workbench.caches import KV_CODECS, CacheConfig
from workbench.checkpoints import load_checkpoint, save_checkpoint
from workbench.core.control import Control
from workbench.core.errors import BusyError, ConfigError, ModelError
from workbench.core.events import Progress
from workbench.generation import Conversation, GenerationConfig, TokenEvent
from workbench.model import ModelConfig, build_model
from workbench.pairing import PairReply, SideEvent, first_difference
from workbench.quantization import QuantizationConfig
from workbench.requests import ChatRequest, PairChatRequest, SideSettings
from workbench.session import Session
from workbench.tokenizers import CHATML, ByteTokenizer

EXACT, OFF = SideSettings(), SideSettings(cache=CacheConfig(use_cache=False))
INT4 = SideSettings(quantization=QuantizationConfig(scheme="int4"))
GREEDY = GenerationConfig(do_sample=False, max_new_tokens=12)
ASKED = Conversation().add("user", "What is a cache?")


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
    sizes: dict[str, Any] = {"vocab_size": tokenizer.vocab_size, "n_layers": 2, "d_model": 64, "n_heads": 4, "n_kv_heads": 2, "d_ff": 96}
    model = build_model(ModelConfig(**sizes, max_positions=512), seed=5)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.mul_(5)
    path = tmp_path_factory.mktemp("model") / "tiny"
    save_checkpoint(model, tokenizer, CHATML, path)
    return path


@pytest.fixture
def session(home: Path, folder: Path) -> Session:
    session = Session(home, device="cpu", dtype="float32", threads=2)
    drain(session.load(folder))
    return session


def pair(session: Session, a: SideSettings, b: SideSettings, **more: Any) -> tuple[list[Any], PairReply]:
    given = {"conversation_a": ASKED, "conversation_b": ASKED, "generation": GREEDY, **more}
    return drain(session.reply_pair(PairChatRequest(a=a, b=b, **given)))


def alone(session: Session, side: SideSettings) -> tuple[int, ...]:
    _, reply = drain(session.reply(ChatRequest(conversation=ASKED, generation=GREEDY, cache=side.cache)))
    ids: tuple[int, ...] = reply.result.ids
    return ids


def test_each_side_writes_what_it_would_write_alone_a_token_in_turn(session: Session) -> None:
    events, found = pair(session, EXACT, OFF)
    assert found.a.result.ids == alone(session, EXACT) == found.b.result.ids == alone(session, OFF)
    assert (found.compared, found.first_difference) == (12, None)
    assert found.logprob_difference is not None
    assert found.logprob_difference < 1e-3
    turns = [e.side for e in events if isinstance(e, SideEvent) and isinstance(e.event, TokenEvent)]
    assert turns == ["A", "B"] * 12
    assert (found.a.cached, found.b.cached) == (True, False)
    assert found.a.result.cache_bytes > found.b.result.cache_bytes == 0
    assert set(found.cache_tokens) == {"A"}
    assert found.exact == ("A",)
    sizes = session.loaded.config
    assert found.a.result.cache_bytes == found.cache_tokens["A"] * 2 * sizes.n_layers * sizes.n_kv_heads * 16 * 4


def test_a_cache_off_is_the_proof_that_the_cache_changes_nothing(session: Session) -> None:
    _, found = pair(session, OFF, EXACT, generation=GenerationConfig(max_new_tokens=30, temperature=1.3))
    assert found.first_difference is None
    assert found.a.text == found.b.text
    assert found.a.result.seed == found.b.result.seed


def test_prompts_are_read_as_precisely_with_a_cache_as_without(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Conversation().add("user", "What is a cache? " * 20)
    monkeypatch.setattr(session, "compute", replace(session.compute, prefill_dtype=torch.bfloat16))
    _, found = pair(session, EXACT, OFF, conversation_a=asked, conversation_b=asked)
    assert found.first_difference is None
    assert found.logprob_difference < 1e-3


def test_a_cache_says_whether_all_is_exact_still(session: Session) -> None:
    kind = KV_CODECS.choose("int8")
    wide, none = (SideSettings(cache=CacheConfig(codec=kind, value_codec=kind, window=window)) for window in (256, 0))
    _, found = pair(session, wide, none)
    assert found.exact == ("A",)


def test_quantized_weights_are_a_twins_and_the_model_stays_as_it_was(session: Session) -> None:
    model = session.loaded.model
    before = {name: p.clone() for name, p in model.named_parameters()}
    modules = dict(model.named_modules())
    events, found = pair(session, EXACT, INT4, generation=GenerationConfig(do_sample=False, max_new_tokens=40))
    assert set(quantizing(events)) == {"B"}
    assert found.first_difference is not None
    assert found.a.result.ids[: found.first_difference] == found.b.result.ids[: found.first_difference]
    assert found.a.result.ids[found.first_difference] != found.b.result.ids[found.first_difference]
    assert dict(model.named_modules()) == modules
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())
    events, again = pair(session, INT4, EXACT, generation=GenerationConfig(do_sample=False, max_new_tokens=40))
    assert not quantizing(events), "the twin is kept"
    assert again.first_difference == found.first_difference
    assert (again.a.text, again.b.text) == (found.b.text, found.a.text)


def test_beside_a_quantized_chat_a_side_may_have_the_weights_as_loaded(session: Session) -> None:
    as_loaded, int8 = alone(session, EXACT), SideSettings(quantization=QuantizationConfig(scheme="int8"))
    _, wanted = pair(session, int8, INT4)
    drain(session.quantize(int8.quantization))
    model = session.loaded.model
    events, found = pair(session, EXACT, int8)
    assert not quantizing(events), "the chat's own weights are what side B asks for"
    assert (found.a.result.ids, found.b.result.ids) == (as_loaded, wanted.a.result.ids)
    events, found = pair(session, INT4, int8)
    assert set(quantizing(events)) == {"A"}
    assert (found.a.result.ids, found.b.result.ids) == (wanted.b.result.ids, wanted.a.result.ids)
    assert session.loaded.model is model
    assert session.quantization_config == int8.quantization


def test_both_sides_may_share_a_twin(session: Session) -> None:
    _, found = pair(session, INT4, SideSettings(quantization=INT4.quantization, cache=CacheConfig(use_cache=False)))
    assert found.first_difference is None


def test_each_side_goes_on_with_its_own_conversation_and_cache(session: Session) -> None:
    _, first = pair(session, EXACT, INT4)
    more = {"conversation_a": first.a.conversation.add("user", "More?"), "conversation_b": first.b.conversation.add("user", "More?")}
    _, second = pair(session, EXACT, INT4, **more)
    assert second.a.result.reused_tokens > 0
    assert second.b.result.reused_tokens > 0
    session.end_pair()
    _, third = pair(session, EXACT, INT4, **more)
    assert (third.a.result.reused_tokens, third.b.result.reused_tokens) == (0, 0)
    assert (third.a.text, third.b.text) == (second.a.text, second.b.text)


def test_other_weights_forget_what_the_old_ones_stored(session: Session) -> None:
    _, first = pair(session, EXACT, INT4)
    more = {"conversation_a": first.b.conversation.add("user", "More?"), "conversation_b": first.b.conversation.add("user", "More?")}
    _, kept = pair(session, EXACT, EXACT, **more)
    assert kept.b.result.reused_tokens == 0
    assert kept.a.text == kept.b.text


def test_an_adapter_acts_on_the_side_that_wants_it(session: Session, folder: Path, tmp_path: Path) -> None:
    other = load_checkpoint(folder).model
    attach(other, LoraConfig(r=4), "trained")
    with torch.no_grad():
        for name, parameter in other.named_parameters():
            if "lora" in name.lower() or "adapter" in name.lower():
                parameter.normal_(std=0.3)
    save_adapter(other, "trained", tmp_path / "adapter", "workbench")
    detach(other, "trained")
    bare = alone(session, EXACT)
    session.use_adapter(tmp_path / "adapter")
    with_it = alone(session, EXACT)
    assert with_it != bare
    _, found = pair(session, EXACT, SideSettings(adapter=False))
    assert (found.a.result.ids, found.b.result.ids) == (with_it, bare)
    _, found = pair(session, SideSettings(quantization=INT4.quantization), SideSettings(quantization=INT4.quantization, adapter=False))
    assert found.a.result.ids != found.b.result.ids


def test_a_stop_ends_both_and_their_texts_stay(session: Session) -> None:
    control = Control()
    request = PairChatRequest(conversation_a=ASKED, conversation_b=ASKED, generation=GREEDY, a=EXACT, b=OFF)
    steps = session.reply_pair(request, control)
    seen = 0
    for event in steps:
        seen += isinstance(event.event, TokenEvent)
        if seen == 5:
            control.stop()
            break
    _, found = drain(steps)
    assert (found.a.result.new_tokens, found.b.result.new_tokens) == (3, 2)
    assert {found.a.result.stop_reason, found.b.result.stop_reason} == {"stopped"}
    assert (found.compared, found.first_difference) == (2, None)


def quantizing(events: list[Any]) -> list[str]:
    """Sides whose weights were quantized meanwhile."""
    return [e.side for e in events if isinstance(e.event, Progress) and e.event.message.startswith("Quantizing")]


@pytest.mark.parametrize("side", ["A", "B"])
def test_a_stop_while_weights_are_quantized_leaves_what_was_written(session: Session, side: str) -> None:
    control = Control()
    a, b = (INT4, EXACT) if side == "A" else (EXACT, INT4)
    steps = session.reply_pair(PairChatRequest(conversation_a=ASKED, conversation_b=ASKED, generation=GREEDY, a=a, b=b), control)
    while not quantizing([next(steps)]):
        pass
    control.stop()
    _, found = drain(steps)
    assert not found.failures
    assert (found.a if side == "A" else found.b) is None
    kept = found.b if side == "A" else found.a
    assert (kept.result.new_tokens, kept.result.stop_reason) == (0 if side == "A" else 1, "stopped")
    assert (found.compared, found.first_difference) == (0, None)
    assert pair(session, EXACT, INT4)[1].b.text


def test_an_error_of_one_side_leaves_the_other_its_reply(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    real = pairing.reply

    def breaking(*args: Any, **more: Any) -> Generator[Any, None, Any]:
        for index, event in enumerate(real(*args, **more)):
            if index == 3 and not more["limits"].use_cache:
                raise RuntimeError("mat1 and mat2")
            yield event

    def faithful(*args: Any, **more: Any) -> Generator[Any, None, Any]:
        if more["limits"].use_cache:
            return (yield from real(*args, **more))
        return (yield from breaking(*args, **more))

    monkeypatch.setattr(pairing, "reply", faithful)
    _, found = pair(session, EXACT, OFF)
    assert found.a is not None
    assert found.a.result.new_tokens == 12
    assert found.b is None
    assert isinstance(found.failures["B"], RuntimeError)
    assert found.first_difference is None, "breaking off is no difference of the tokens"
    assert 0 < found.compared < 12
    last = json.loads(json.dumps(found.to_json()))
    assert (last["b"], last["failures"]) == (None, {"B": "mat1 and mat2"})
    with pytest.raises(RuntimeError, match="mat1"):
        pair(session, OFF, OFF)
    monkeypatch.undo()
    _, again = pair(session, EXACT, OFF)
    assert again.a is not None
    assert again.first_difference is None


def test_weights_without_room_are_an_error_of_their_side(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workbench.quantizing.free_memory", lambda _device: 10)
    _, found = pair(session, INT4, EXACT)
    assert found.a is None
    assert isinstance(found.failures["A"], ModelError)
    assert "free" in found.failures["A"].message
    assert found.b.result.new_tokens == 12
    assert (found.compared, found.first_difference) == (0, None)


def test_what_cannot_be_is_said_before_anything_is_written(session: Session) -> None:
    with pytest.raises(ConfigError):
        pair(session, EXACT, SideSettings(cache=CacheConfig(window=-1)))
    steps = session.reply_pair(PairChatRequest(conversation_a=ASKED, conversation_b=ASKED, generation=GREEDY))
    next(steps)
    with pytest.raises(BusyError):
        pair(session, EXACT, EXACT)
    with pytest.raises(BusyError):
        session.end_pair()
    steps.close()
    session.end_pair()


def test_the_events_and_the_answer_are_json(session: Session) -> None:
    events, found = pair(session, EXACT, OFF)
    said = [json.loads(json.dumps(e.to_json())) for e in events]
    assert {s["side"] for s in said} == {"A", "B"}
    assert said[-1]["said"]["event"] == "token"
    last = json.loads(json.dumps(found.to_json()))
    assert (last["compared"], last["first_difference"], last["a"]["stop_reason"]) == (12, None, "length")


def test_where_two_texts_part() -> None:
    assert first_difference([1, 2, 3], [1, 2, 3]) == (3, None)
    assert first_difference([1, 2, 3], [1, 5, 3]) == (3, 1)
    assert first_difference([1, 2], [1, 2, 3]) == (3, 2)
    assert first_difference([1, 2], [1, 2, 3], broken=True) == (2, None)
    assert first_difference([], []) == (0, None)
    assert first_difference([1], [2, 3], broken=True) == (2, 0)


@pytest.mark.starter
@pytest.mark.slow
def test_the_starter_writes_the_same_with_and_without_a_cache(home: Path, starter_path: Path) -> None:
    session = Session(home, device="cpu", dtype="float32", threads=2)
    drain(session.load(starter_path))
    asked = Conversation().add("user", "What is the capital of France?")
    briefly = GenerationConfig(do_sample=False, max_new_tokens=8)
    _, found = pair(session, EXACT, OFF, conversation_a=asked, conversation_b=asked, generation=briefly)
    assert (found.compared, found.first_difference) == (len(found.a.result.ids), None)
    assert found.a.result.tokens_per_second > found.b.result.tokens_per_second
