"""The loaded model in another architecture: planned, measured, made current, healed, undone."""

from __future__ import annotations

import json
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from workbench import converting
from workbench import session as session_module
from workbench.adapters import LoraConfig
from workbench.checkpoints import load_checkpoint, save_checkpoint
from workbench.core.control import Control
from workbench.core.errors import BusyError, ConfigError, DataError, ModelError, WorkbenchError
from workbench.core.events import Notice, Progress
from workbench.data import DataConfig
from workbench.generation import Conversation, GenerationConfig
from workbench.model import ModelConfig, account, build_model
from workbench.requests import ChatRequest, FinetuneRequest
from workbench.runs import open_run
from workbench.session import Session
from workbench.tokenizers import CHATML, ByteTokenizer
from workbench.training import TrainConfig


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
    sizes: dict[str, Any] = {"vocab_size": tokenizer.vocab_size, "n_layers": 2, "d_model": 32, "n_heads": 4, "n_kv_heads": 2, "d_ff": 48}
    model = build_model(ModelConfig(**sizes, max_positions=512), seed=2)
    with torch.no_grad():
        for parameter in model.parameters():  # large enough that heads matter
            if parameter.dim() == 2:
                parameter.mul_(6)
    path = tmp_path_factory.mktemp("model") / "tiny"
    save_checkpoint(model, tokenizer, CHATML, path)
    return path


@pytest.fixture
def session(home: Path, folder: Path) -> Session:
    session = Session(home, device="cpu", dtype="float32", threads=2)
    drain(session.load(folder))
    return session


@pytest.fixture
def lesson(tmp_path: Path) -> Path:
    path = tmp_path / "lesson.jsonl"
    row = {"messages": [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "aaaaaaaaaaaaaaaa"}]}
    path.write_text("\n".join([json.dumps(row)] * 8))
    return path


def ask(session: Session) -> list[int]:
    generation = GenerationConfig(do_sample=False, max_new_tokens=8)
    request = ChatRequest(conversation=Conversation().add("user", "hello"), generation=generation)
    return list(drain(session.reply(request))[1].result.ids)


def wanted(session: Session, **changes: Any) -> ModelConfig:
    return replace(session.loaded.config, **changes)


def heal(lesson: Path, out: Path, **changes: Any) -> FinetuneRequest:
    train = TrainConfig(max_steps=4, learning_rate=5e-3, max_length=200, dtype="float32", eval_steps=None, save_steps=2)
    base = {"data": DataConfig(sources=(str(lesson),)), "lora": LoraConfig(r=4), "train": train, "out": out}
    return FinetuneRequest(**{**base, **changes})


# ---- planning and measuring ----------------------------------------------------------------------------------------


def test_a_plan_needs_a_model_and_a_usable_architecture(session: Session, home: Path) -> None:
    assert session.plan_conversion(wanted(session, n_kv_heads=4)).verdict == "exact"
    with pytest.raises(ConfigError):
        session.plan_conversion(wanted(session, n_kv_heads=3))
    with pytest.raises(WorkbenchError, match="No model"):
        Session(home, device="cpu").plan_conversion(ModelConfig())


def test_measuring_compares_token_by_token_and_changes_nothing(session: Session) -> None:
    before = session.model
    _, exact = drain(session.measure_conversion(wanted(session, n_kv_heads=4)))
    assert (exact.plan.verdict, exact.tokens, exact.sample) == ("exact", 1023, "built-in prose")
    assert exact.difference == pytest.approx(0, abs=1e-5)
    assert exact.max_abs_logit_difference < 1e-4
    events, pooled = drain(session.measure_conversion(wanted(session, n_kv_heads=1)))
    assert pooled.nats_before == exact.nats_before
    assert pooled.difference == pytest.approx(pooled.nats_after - pooled.nats_before, abs=1e-9)
    assert abs(pooled.difference) > 1e-3
    assert pooled.standard_error > 0
    assert [e.done for e in events if isinstance(e, Progress)][-1] < next(e.total for e in events if isinstance(e, Progress))
    json.dumps(pooled.to_json())
    assert session.model is before
    assert session.conversion is None


def test_measuring_on_a_text_of_ones_own(session: Session, tmp_path: Path) -> None:
    path = tmp_path / "mine.txt"
    path.write_text("short text of my own")
    _, found = drain(session.measure_conversion(wanted(session, n_kv_heads=1), path))
    assert (found.sample, found.tokens) == ("mine.txt", len("short text of my own") - 1)
    path.write_text("x")
    with pytest.raises(DataError, match="1 tokens"):
        drain(session.measure_conversion(wanted(session, n_kv_heads=1), path))


def test_what_the_new_model_cannot_be_scored_on_is_said(session: Session) -> None:
    _, found = drain(session.measure_conversion(wanted(session, causal=False)))
    assert found.nats_after is found.difference is None
    assert found.max_abs_logit_difference > 0
    with pytest.raises(DataError, match="vocabulary ends at 100"):
        drain(session.measure_conversion(wanted(session, vocab_size=100)))


def test_a_model_that_sees_its_targets_has_no_loss_before_either(session: Session) -> None:
    drain(session.convert(wanted(session, causal=False)))
    _, found = drain(session.measure_conversion(wanted(session, causal=False, mlp="geglu")))
    assert found.nats_before is found.nats_after is found.difference is None
    assert found.tokens == 1023


def test_a_window_that_only_far_tokens_feel_is_measured(session: Session) -> None:
    _, found = drain(session.measure_conversion(wanted(session, sliding_window=400)))
    assert found.max_abs_logit_difference > 0
    assert not found.unseen


def test_what_cannot_show_in_the_text_is_not_called_zero(session: Session, tmp_path: Path) -> None:
    path = tmp_path / "mine.txt"
    path.write_text("short text of my own")
    _, found = drain(session.measure_conversion(wanted(session, sliding_window=400), path))
    assert found.plan.verdict == "approximate"
    assert found.unseen
    _, felt = drain(session.measure_conversion(wanted(session, sliding_window=4), path))
    assert not felt.unseen


def test_a_short_context_is_measured_in_short_windows(session: Session) -> None:
    _, found = drain(session.measure_conversion(wanted(session, max_positions=64)))
    assert found.tokens == 1023
    assert found.difference is not None


def test_measuring_keeps_nobody_waiting(session: Session, folder: Path) -> None:
    events = session.measure_conversion(wanted(session, n_kv_heads=1))
    while not isinstance(next(events), Progress):
        pass
    drain(session.load(folder))
    drain(session.convert(wanted(session, n_kv_heads=4)))
    assert drain(events)[1].difference is not None


def test_measuring_stops(session: Session) -> None:
    control = Control()
    events = session.measure_conversion(wanted(session, n_kv_heads=1), None, control)
    next(events)
    control.stop()
    assert drain(events)[1] is None


def test_no_memory_for_a_copy_is_said_before(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(converting, "free_memory", lambda device: 1000)
    for act in (session.measure_conversion, session.convert):
        with pytest.raises(ModelError, match=r"1\.0 kB are free"):
            drain(act(wanted(session, n_kv_heads=1)))


# ---- converting and undoing ----------------------------------------------------------------------------------------


def test_an_exact_conversion_answers_alike_and_is_undone(session: Session, folder: Path) -> None:
    answer, before = ask(session), session.model
    _, report = drain(session.convert(wanted(session, n_kv_heads=4, tie_embeddings=False)))
    assert report is session.conversion
    assert report.verdict == "exact"
    assert ask(session) == answer
    summary = session.model
    assert summary is not None
    assert before is not None
    assert summary.converted
    assert summary.name == f"{before.name} (converted)"
    assert summary.family == summary.format == "workbench"
    assert summary.config.n_kv_heads == 4
    assert summary.parameters == session.account().parameters > before.parameters
    assert "computes the same" in summary.notices[0]
    json.dumps(summary.to_json())
    assert session.can_undo_conversion
    assert session.undo_conversion() is session.model is before
    assert session.conversion is None
    assert ask(session) == answer
    with pytest.raises(WorkbenchError, match="no conversion to undo"):
        session.undo_conversion()


def test_a_second_conversion_is_undone_to_the_first(session: Session) -> None:
    first = drain(session.convert(wanted(session, n_kv_heads=4)))[1]
    drain(session.convert(wanted(session, d_ff=64)))
    summary = session.model
    assert summary is not None
    assert summary.name.count("(converted)") == 1
    session.undo_conversion()
    assert session.conversion is first
    assert not session.can_undo_conversion  # one model is kept, not all of them


def test_an_adapter_stays_with_the_old_model(session: Session, lesson: Path, tmp_path: Path) -> None:
    adapter = drain(session.finetune(heal(lesson, tmp_path / "run")))[1].adapter
    session.use_adapter(adapter)
    adapted = ask(session)
    events, _ = drain(session.convert(wanted(session, n_kv_heads=4)))
    assert any("does not act" in e.message for e in events if isinstance(e, Notice))
    assert session.adapter is None
    session.undo_conversion()
    assert session.adapter is not None
    assert ask(session) == adapted


def test_a_conversion_waits_for_nobody(session: Session) -> None:
    request = ChatRequest(conversation=Conversation().add("user", "hello"), generation=GenerationConfig(max_new_tokens=8))
    reply = session.reply(request)
    next(reply)
    with pytest.raises(BusyError):
        next(session.convert(wanted(session, n_kv_heads=4)))
    reply.close()
    converting = session.convert(wanted(session, n_kv_heads=4))
    next(converting)
    reply = session.reply(request)
    next(reply)
    with pytest.raises(BusyError):
        drain(converting)
    reply.close()
    assert session.conversion is None
    drain(session.convert(wanted(session, n_kv_heads=4)))
    reply = session.reply(request)
    next(reply)
    with pytest.raises(BusyError):
        session.undo_conversion()
    reply.close()


def test_a_stop_and_a_load_leave_nothing_behind(session: Session, folder: Path) -> None:
    before, control = session.model, Control()
    events = session.convert(wanted(session, n_kv_heads=4), control)
    next(events)
    control.stop()
    assert drain(events)[1] is None
    assert session.model is before
    drain(session.convert(wanted(session, n_kv_heads=4)))
    drain(session.load(folder))
    assert session.conversion is None
    assert not session.can_undo_conversion


def test_without_memory_the_old_model_is_let_go(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module, "room_for_undo", lambda model: False)
    events, report = drain(session.convert(wanted(session, n_kv_heads=4)))
    assert any("load it again" in e.message for e in events if isinstance(e, Notice))
    assert session.conversion is report
    with pytest.raises(WorkbenchError, match="no conversion to undo"):
        session.undo_conversion()


# ---- healing -------------------------------------------------------------------------------------------------------


def test_an_adapter_of_a_converted_model_has_its_base_beside_it(session: Session, lesson: Path, tmp_path: Path, home: Path) -> None:
    drain(session.convert(wanted(session, n_kv_heads=1)))
    run = tmp_path / "healed"
    events, result = drain(session.finetune(heal(lesson, run)))
    assert any("saved beside the run" in e.message for e in events if isinstance(e, Notice))
    session.use_adapter(result.adapter)
    healed = ask(session)
    assert open_run(run).manifest["model"]["path"] == str(run / "base")
    other = Session(home, device="cpu", dtype="float32", threads=2)
    drain(other.load(run / "base"))
    other.use_adapter(result.adapter)
    assert ask(other) == healed


def test_all_weights_of_a_copy_can_be_trained(session: Session, lesson: Path, tmp_path: Path) -> None:
    drain(session.convert(wanted(session, n_kv_heads=1)))
    before = {name: p.clone() for name, p in session.loaded.model.named_parameters()}
    run = tmp_path / "full"
    _, result = drain(session.finetune(heal(lesson, run, full=True)))
    assert (result.reason, result.steps, result.adapter) == ("done", 4, None)
    assert result.model == run / "model"
    assert result.final["loss"] < 6
    trained = load_checkpoint(result.model).model
    assert trained.config == session.loaded.config
    differ = [name for name, p in trained.named_parameters() if not torch.equal(p, before[name])]
    assert len(differ) == len(before)  # every weight has moved in the result, and none in the model that is loaded
    assert all(torch.equal(before[name], p) and p.requires_grad for name, p in session.loaded.model.named_parameters())
    assert open_run(run).model == result.model


def test_a_full_run_goes_on_where_it_stopped(session: Session, lesson: Path, tmp_path: Path) -> None:
    whole = drain(session.finetune(heal(lesson, tmp_path / "whole", full=True)))[1]
    control = Control()
    steps = session.finetune(heal(lesson, tmp_path / "halves", full=True), control)
    while getattr(next(steps), "step", 0) < 2:
        pass
    control.stop()
    assert drain(steps)[1].reason == "stopped"
    resumed = drain(session.finetune(heal(lesson, tmp_path / "halves", full=True, resume=True)))[1]
    one, other = (load_checkpoint(r.model).model for r in (whole, resumed))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_a_high_rate_for_all_weights_is_warned_of(session: Session, lesson: Path, tmp_path: Path) -> None:
    events, _ = drain(session.finetune(heal(lesson, tmp_path / "run", full=True)))
    assert any("suits adapters" in e.message for e in events if isinstance(e, Notice))


# ---- the starter ---------------------------------------------------------------------------------------------------


@pytest.mark.starter
@pytest.mark.slow
def test_the_starter_keeps_its_function_where_it_is_said_to(starter_path: Path, home: Path) -> None:
    session = Session(home, device="cpu", dtype="float32", threads=2)
    drain(session.load(starter_path))
    config = session.loaded.config
    style = "interleaved" if config.position.options.style == "half" else "half"
    position = replace(config.position, options=replace(config.position.options, style=style))
    exact = replace(config, tie_embeddings=False, n_kv_heads=9, position=position)
    _, found = drain(session.measure_conversion(exact))
    assert found.plan.verdict == "exact"
    assert found.max_abs_logit_difference < 1e-3
    assert found.difference == pytest.approx(0, abs=1e-4)
    _, pooled = drain(session.measure_conversion(replace(config, n_kv_heads=1)))
    assert pooled.plan.verdict == "approximate"
    assert 0.5 < pooled.difference < 8


def test_memory_is_asked_for_both_models_and_what_changes_between_them(session: Session) -> None:
    model = session.loaded.model
    own = sum(p.nbytes for p in model.parameters())
    assert converting.memory_needed(model, model.config) >= 2 * own
    wider = wanted(session, d_ff=64 * model.config.d_model)
    assert converting.memory_needed(model, wider) >= 2 * account(wider).parameter_bytes(4)
