"""Questions asked again and again during a run: before it, when due, at its end; each answer by the state of its step."""

from __future__ import annotations

import json
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from workbench.adapters import LoraConfig
from workbench.checkpoints import save_checkpoint
from workbench.core.control import Control
from workbench.data import DataConfig
from workbench.generation import Conversation, GenerationConfig
from workbench.model import ModelConfig, build_model
from workbench.requests import ChatRequest, FinetuneRequest
from workbench.runs import read_metrics
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


def session_with(home: Path, path: Path, template: str | None) -> Session:
    tokenizer = ByteTokenizer()
    model = build_model(ModelConfig(vocab_size=tokenizer.vocab_size, n_layers=2, d_model=32, n_heads=4, d_ff=48, max_positions=256), seed=2)
    save_checkpoint(model, tokenizer, template, path)
    session = Session(home, device="cpu", dtype="float32", threads=1)
    drain(session.load(path))
    return session


@pytest.fixture
def session(home: Path, tmp_path: Path) -> Session:
    return session_with(home, tmp_path / "tiny", CHATML)


@pytest.fixture
def lesson(tmp_path: Path) -> Path:
    rows = [
        {"messages": [{"role": "user", "content": f"hello {i}"}, {"role": "assistant", "content": "aaaaaaaaaaaaaaaa"}]} for i in range(8)
    ]
    path = tmp_path / "lesson.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return path


def request(lesson: Path, *, full: bool = False, resume: bool = False, out: Path | None = None, **train: Any) -> FinetuneRequest:
    base = {"max_steps": 7, "learning_rate": 2e-2, "max_length": 200, "dtype": "float32", "eval_steps": None, "sample_tokens": 8}
    return FinetuneRequest(
        data=DataConfig(sources=(str(lesson),), validation_fraction=0.0), lora=LoraConfig(r=8, lora_alpha=32.0),
        train=TrainConfig(**{**base, **train}), full=full, resume=resume, out=out,
    )  # fmt: skip


def samples(events: list[Any]) -> list[tuple[int, str, str]]:
    return [(e.step, e.prompt, e.text) for e in events if e.name == "sample"]


def test_off_unless_wanted(session: Session, lesson: Path) -> None:
    events, _ = drain(session.finetune(request(lesson)))
    assert not samples(events)


def test_the_first_questions_of_the_data_before_on_the_way_and_at_the_end(session: Session, lesson: Path) -> None:
    events, result = drain(session.finetune(request(lesson, sample_every=3)))
    assert [(step, prompt) for step, prompt, _ in samples(events)] == [(step, f"hello {i}") for step in (0, 3, 6, 7) for i in (0, 1)]
    kept = [(e["step"], e["prompt"], e["text"]) for e in read_metrics(result.folder) if e["event"] == "sample"]
    assert kept == samples(events)


@pytest.mark.parametrize("full", [False, True])
def test_the_answers_are_the_trained_models(session: Session, lesson: Path, full: bool) -> None:
    generation = GenerationConfig(do_sample=False, max_new_tokens=8)
    ask = ChatRequest(conversation=Conversation().add("user", "say"), generation=generation)
    bare = drain(session.reply(ask))[1].text
    events, result = drain(session.finetune(request(lesson, full=full, sample_every=7, sample_prompt="say")))
    first, last = samples(events)
    assert first == (0, "say", bare)
    if full:
        drain(session.load(result.model))
    else:
        session.use_adapter(result.adapter)
    assert last == (7, "say", drain(session.reply(ask))[1].text)
    assert last != first


def test_several_questions_of_ones_own(session: Session, lesson: Path) -> None:
    events, _ = drain(session.finetune(request(lesson, sample_every=7, sample_prompt=" one |two|| ")))
    assert [prompt for _, prompt, _ in samples(events)] == ["one", "two"] * 2


def test_asking_changes_nothing_of_the_run(session: Session, lesson: Path) -> None:
    quiet, _ = drain(session.finetune(request(lesson)))
    asked, _ = drain(session.finetune(request(lesson, sample_every=1)))
    assert [e.metrics["loss"] for e in quiet if e.name == "step"] == [e.metrics["loss"] for e in asked if e.name == "step"]


def test_a_resumed_run_asks_at_the_same_steps(session: Session, lesson: Path, tmp_path: Path) -> None:
    whole, _ = drain(session.finetune(request(lesson, sample_every=2, out=tmp_path / "whole")))
    control = Control()
    for event in session.finetune(request(lesson, sample_every=2, out=tmp_path / "cut"), control):
        if event.name == "step" and event.step == 3:
            control.stop(save=True)
    drain(session.finetune(request(lesson, sample_every=2, out=tmp_path / "cut", resume=True)))
    kept = [(e["step"], e["prompt"], e["text"]) for e in read_metrics(tmp_path / "cut") if e["event"] == "sample"]
    assert kept == samples(whole)


def test_plain_texts_are_continued(home: Path, tmp_path: Path) -> None:
    session = session_with(home, tmp_path / "bare", None)
    text = tmp_path / "story.txt"
    text.write_text(
        "\n\n".join(f"It was the {i}th night of rain, and nobody in the house had slept or eaten or said a word." for i in range(9))
    )
    events, _ = drain(session.finetune(request(text, sample_every=7)))
    assert samples(events)[0][1].startswith("It was the 0th night")
