"""The facade on a tiny chat model: load, talk, train, use what was trained."""

from __future__ import annotations

import errno
import json
import shutil
import threading
from collections.abc import Generator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import torch

from workbench.adapters import LoraConfig
from workbench.caches import CacheConfig
from workbench.chatting import new_cache
from workbench.checkpoints import load_checkpoint, save_checkpoint
from workbench.core.control import Control
from workbench.core.errors import BusyError, DataError, FileError, WorkbenchError
from workbench.data import DataConfig
from workbench.finetuning import run as finetuning
from workbench.generation import Conversation, GenerationConfig
from workbench.model import ModelConfig, build_model
from workbench.requests import ChatRequest, FinetuneRequest, PromptRequest, ScoreRequest
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
    """A checkpoint of our own: two blocks, bytes as tokens, a chat template."""
    tokenizer = ByteTokenizer()
    model = build_model(ModelConfig(vocab_size=tokenizer.vocab_size, n_layers=2, d_model=32, n_heads=4, d_ff=48, max_positions=512), seed=2)
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
    row = {"messages": [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "aaaaaaaaaaaaaaaaaaaaaaaa"}]}
    path.write_text("\n".join([json.dumps(row)] * 12))
    return path


def ask(session: Session, text: str = "hello", **changes: Any) -> Any:
    generation = GenerationConfig(do_sample=False, max_new_tokens=12)
    request = ChatRequest(conversation=Conversation().add("user", text), generation=generation, **changes)
    return drain(session.reply(request))[1]


def request(lesson: Path, **changes: Any) -> FinetuneRequest:
    train = TrainConfig(max_steps=25, learning_rate=2e-2, max_length=200, dtype="float32", eval_steps=None, save_steps=10)
    lora = LoraConfig(r=8, lora_alpha=32.0)
    return FinetuneRequest(**{"data": DataConfig(sources=(str(lesson),)), "lora": lora, "train": train, **changes})


def test_a_loaded_model_is_summed_up(session: Session, folder: Path) -> None:
    summary = session.model
    assert summary is not None
    assert (summary.format, summary.chat, summary.context) == ("workbench", True, 512)
    assert summary.parameters == session.account().parameters
    assert summary.parameter_bytes == 4 * summary.parameters
    assert session.library.recent() == [folder]
    json.dumps(summary.to_json())


def test_nothing_works_before_a_model_is_there(home: Path) -> None:
    empty = Session(home, device="cpu")
    with pytest.raises(WorkbenchError, match="No model is loaded"):
        ask(empty)


def test_a_missing_model_leaves_the_old_one(session: Session, tmp_path: Path) -> None:
    before = session.model
    with pytest.raises(FileError):
        drain(session.load(tmp_path / "nothing"))
    assert session.model is before


def test_cached_and_uncached_replies_are_the_same(session: Session) -> None:
    cached, plain = ask(session), ask(session, cache=CacheConfig(use_cache=False))
    assert cached.result.ids == plain.result.ids
    assert cached.cached
    assert not plain.cached
    assert plain.result.cache_bytes == 0
    tokens = cached.result.prompt_tokens + cached.result.new_tokens - 1
    assert cached.result.cache_bytes == tokens * session.account().kv_bytes_per_token(4)


def test_the_next_message_reuses_the_conversation(session: Session) -> None:
    first = ask(session)
    longer = first.conversation.add("user", "and now?")
    _, second = drain(session.reply(ChatRequest(conversation=longer, generation=GenerationConfig(do_sample=False, max_new_tokens=4))))
    assert second.result.reused_tokens >= first.result.prompt_tokens


def test_only_one_reply_at_a_time(session: Session) -> None:
    events = session.reply(ChatRequest(conversation=Conversation().add("user", "hi")))
    next(events)
    with pytest.raises(BusyError, match="being written"):
        ask(session)
    with pytest.raises(BusyError, match="load another model"):
        drain(session.load("starter" if session.library.starter_installed else session.model.path))  # type: ignore[union-attr]
    events.close()
    assert ask(session).text


def test_a_fine_tune_changes_the_reply_and_can_be_switched(session: Session, lesson: Path) -> None:
    before = ask(session)
    events, result = drain(session.finetune(request(lesson)))
    words = [e.word for e in events if e.name == "phase"]
    assert words[0] == "Checking data"
    assert "Training" in words
    assert result.reason == "done"
    assert ask(session).result.ids == before.result.ids, "nothing acts on the chat before it is chosen"
    state = session.use_adapter(result.adapter)
    assert state is not None
    assert state.name == result.adapter.parent.name
    assert ask(session).text.startswith("aaaa")
    session.set_strength(0.0)
    assert ask(session).result.ids == before.result.ids
    session.use_adapter(None)
    assert session.adapter is None
    assert ask(session).result.ids == before.result.ids


def test_the_run_is_on_disk(session: Session, lesson: Path, tmp_path: Path) -> None:
    _, result = drain(session.finetune(request(lesson, out=tmp_path / "run")))
    info = open_run(tmp_path / "run")
    assert (info.status, info.steps) == ("done", 25)
    assert info.adapter == result.adapter
    assert info.manifest["data"]["kept"] == 12


def test_a_stopped_run_resumes(session: Session, lesson: Path, tmp_path: Path) -> None:
    control = Control()
    for event in session.finetune(request(lesson, out=tmp_path / "run"), control):
        if event.name == "step" and event.step == 12:
            control.stop()
    assert open_run(tmp_path / "run").status == "stopped"
    events, result = drain(session.finetune(request(lesson, out=tmp_path / "run", resume=True)))
    assert next(e.step for e in events if e.name == "step") == 13
    assert (result.reason, result.steps) == ("done", 25)
    assert open_run(tmp_path / "run").status == "done"


def test_a_refused_resume_leaves_the_finished_run(session: Session, lesson: Path, tmp_path: Path) -> None:
    train = TrainConfig(max_steps=2, max_length=200, dtype="float32", eval_steps=None)
    drain(session.finetune(request(lesson, out=tmp_path / "run", train=train)))
    before = (tmp_path / "run" / "run.json").read_bytes()
    with pytest.raises(FileError, match="max_steps"):
        drain(session.finetune(request(lesson, out=tmp_path / "run", resume=True)))
    assert (tmp_path / "run" / "run.json").read_bytes() == before
    with pytest.raises(FileError, match="no checkpoint"):
        drain(session.finetune(request(lesson, out=tmp_path / "new", resume=True)))
    assert not (tmp_path / "new").exists()


def test_a_run_that_is_left_is_stopped_and_tidied_in_order(
    session: Session, lesson: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    detach, inner = finetuning.adapters.detach, finetuning.train

    def watched(*args: Any, **kwargs: Any) -> Generator[Any, None, Any]:
        try:
            return (yield from inner(*args, **kwargs))
        finally:
            order.append("training closed")

    def detached(model: Any, name: str) -> None:
        order.append("adapter detached")
        detach(model, name)

    monkeypatch.setattr(finetuning, "train", watched)
    monkeypatch.setattr(finetuning.adapters, "detach", detached)
    events = session.finetune(request(lesson, out=tmp_path / "run"))
    while next(events).name != "step":
        pass
    events.close()
    assert order == ["training closed", "adapter detached"]
    info = open_run(tmp_path / "run")
    assert (info.status, info.message) == ("stopped", "")


def test_a_full_disk_at_the_end_has_a_sentence(session: Session, lesson: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    train = TrainConfig(max_steps=1, max_length=200, dtype="float32", eval_steps=None)
    with monkeypatch.context() as patch:
        patch.setattr(finetuning.shutil, "copyfile", full)
        with pytest.raises(FileError, match="disk is full: adapter"):
            drain(session.finetune(request(lesson, out=tmp_path / "run", train=train)))
    assert open_run(tmp_path / "run").adapter is None
    _, result = drain(session.finetune(request(lesson, out=tmp_path / "run", train=train, resume=True)))
    assert open_run(tmp_path / "run").adapter == result.adapter, "the run is finished once there is room"


def test_chat_goes_on_during_a_run(session: Session, lesson: Path) -> None:
    before = ask(session)
    seen: list[tuple[int, ...]] = []

    def chat() -> None:
        seen.extend(ask(session).result.ids for _ in range(3))

    thread: threading.Thread | None = None
    for event in session.finetune(request(lesson)):
        if event.name == "step" and event.step == 3:
            thread = threading.Thread(target=chat)
            thread.start()
    assert thread is not None
    thread.join()
    assert seen == [before.result.ids] * 3


def test_data_that_teach_nothing_do_not_start(session: Session, tmp_path: Path) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text('{"messages": [{"role": "user", "content": "hi"}]}\n{"broken\n')
    with pytest.raises(DataError, match="row 1"):
        drain(session.finetune(request(path)))
    _, report = drain(session.preflight(DataConfig(sources=(str(path),)), 64))
    assert not report.usable
    assert [p.row for p in report.problems] == [1, 2]


def test_an_adapter_folder_that_was_trained_again_is_read_again(session: Session, lesson: Path, tmp_path: Path) -> None:
    _, first = drain(session.finetune(request(lesson)))
    folder = tmp_path / "mine"
    shutil.copytree(first.adapter, folder)
    session.use_adapter(folder)
    before = ask(session)
    other = tmp_path / "other.jsonl"
    row = {"messages": [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "zzzzzzzzzzzzzzzzzzzzzzzz"}]}
    other.write_text("\n".join([json.dumps(row)] * 12))
    _, second = drain(session.finetune(request(other)))
    shutil.rmtree(folder)
    shutil.copytree(second.adapter, folder)
    session.use_adapter(folder)
    after = ask(session)
    assert before.text.startswith("aaaa")
    assert after.text.startswith("zzzz")
    assert after.result.reused_tokens == 0, "keys and values of the old weights are not the new ones'"


def test_an_adapter_is_not_exchanged_under_a_text(session: Session, lesson: Path) -> None:
    _, result = drain(session.finetune(request(lesson)))
    session.use_adapter(result.adapter)
    events = session.complete(PromptRequest(prompt="abc", generation=GenerationConfig(do_sample=False, max_new_tokens=6)))
    next(events)
    with pytest.raises(BusyError, match="at work"):
        session.use_adapter(None)
    assert drain(events)[1].new_tokens == 6
    session.use_adapter(None)


def test_a_home_that_cannot_be_written_does_not_undo_a_load(home: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = Session(home, device="cpu", dtype="float32", threads=2)

    def refuse(path: Path) -> None:
        raise FileError("library.json cannot be written.")

    monkeypatch.setattr(session.library, "remember", refuse)
    events, summary = drain(session.load(folder))
    assert summary is session.model
    assert any("library.json" in e.message for e in events if e.name == "notice")


def test_a_context_that_no_memory_holds_is_cut_to_what_is_free(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    model = session.loaded.model
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=300 * 2 * session.account().kv_bytes_per_token(4)))
    cache = new_cache(model, CacheConfig())
    assert cache is not None
    assert cache.capacity == 300


def test_merging_writes_what_the_adapter_computes(session: Session, lesson: Path, tmp_path: Path) -> None:
    _, result = drain(session.finetune(request(lesson)))
    session.use_adapter(result.adapter, 0.5)
    with_adapter = ask(session)
    _, report = drain(session.merge(result.adapter, 0.5, tmp_path / "merged", "workbench"))
    assert report.max_abs_logit_difference == 0
    other = Session(session.home, device="cpu", dtype="float32", threads=2)
    drain(other.load(tmp_path / "merged"))
    assert ask(other).result.ids == with_adapter.result.ids
    assert session.adapter is not None, "the session's own model is as it was"


def test_prompts_and_scores(session: Session, tmp_path: Path) -> None:
    _, result = drain(session.complete(PromptRequest(prompt="abc", generation=GenerationConfig(do_sample=False, max_new_tokens=3))))
    assert result.new_tokens == 3
    text = tmp_path / "text.txt"
    text.write_text("the quick brown fox")
    _, scored = drain(session.score(ScoreRequest(file=text)))
    ids = torch.tensor([ByteTokenizer().encode("the quick brown fox")])
    with torch.inference_mode():
        logits = load_checkpoint(session.model.path).model(ids)[0, :-1].log_softmax(-1)  # type: ignore[union-attr]
    wanted = -float(logits.gather(1, ids[0, 1:, None]).sum())
    assert scored.nll == pytest.approx(wanted, rel=1e-5)
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(FileError, match="UTF-8"):
        drain(session.score(ScoreRequest(file=tmp_path / "bytes")))
