"""Training from scratch, from text to a model that loads: runs, resumes, pairs, and what cannot be started."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from workbench.checkpoints import load_checkpoint, save_checkpoint
from workbench.core.control import Control
from workbench.core.errors import ConfigError, DataError, FileError, ModelError, WorkbenchError
from workbench.data import DataConfig
from workbench.model import ModelConfig, build_model
from workbench.pretraining import pair as pair_module
from workbench.pretraining import request_of
from workbench.requests import PairRequest, PretrainRequest
from workbench.runs import open_run, read_metrics
from workbench.session import Session
from workbench.tokenizers import ByteTokenizer, tokenizer_from_folder
from workbench.tokenizers.config import TokenizerConfig
from workbench.training import PretrainConfig, TrainingDiverged
from workbench.training.pace import ClockPace

Make = Callable[..., PretrainRequest]
TEXT = "".join(
    f"The {size} {word} sits under the {place}.\n" for size in ("small", "large", "hungry") for word in ("cat", "dog", "blackbird")
    for place in ("mat", "roof", "apple tree")
) * 4  # fmt: skip
SIZES = {"n_layers": 2, "d_model": 16, "n_heads": 2, "d_ff": 24, "max_positions": 32}
STEPS = {
    "max_steps": 6, "learning_rate": 1e-2, "per_device_train_batch_size": 4, "max_length": 16, "dtype": "float32", "eval_steps": 3,
    "save_steps": 3, "sample_every": 2, "sample_tokens": 5,
}  # fmt: skip


@pytest.fixture
def session(home: Path) -> Session:
    return Session(home, device="cpu", threads=2)


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """A request on a small text; changes of the training settings, or whole parts."""
    (tmp_path / "text.txt").write_text(TEXT)

    def request(model: ModelConfig | None = None, tokenizer: TokenizerConfig | None = None, **train: Any) -> PretrainRequest:
        return PretrainRequest(
            model=model or ModelConfig(**SIZES),
            data=DataConfig(sources=(str(tmp_path / "text.txt"),), validation_fraction=0.1),
            tokenizer=tokenizer or TokenizerConfig(kind="bytes"),
            train=PretrainConfig(**{**STEPS, **train}),
            out=tmp_path / "run",
        )

    return request


def drain(events: Any) -> tuple[list[Any], Any]:
    seen = []
    while True:
        try:
            seen.append(next(events))
        except StopIteration as end:
            return seen, end.value


def losses(events: list[Any], run: str = "") -> list[float]:
    key = f"loss_{run.lower()}" if run else "loss"
    return [e.metrics[key] for e in events if e.name == "step" and e.run == run]


def weights(path: Path) -> dict[str, torch.Tensor]:
    return dict(load_checkpoint(path).model.state_dict())


def same(one: Path, other: Path) -> bool:
    a, b = weights(one), weights(other)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


# ---- one run -----------------------------------------------------------------------------------------------------------


def test_from_text_to_a_model_that_writes(session: Session, make: Make, tmp_path: Path) -> None:
    events, result = drain(session.pretrain(make(max_steps=30, learning_rate=2e-2)))
    assert (result.reason, result.steps) == ("done", 30)
    assert result.folder == tmp_path / "run"
    assert result.model == tmp_path / "run" / "model"
    curve = losses(events)
    assert sum(curve[-3:]) < 0.8 * sum(curve[:3])
    samples = [e for e in events if e.name == "sample"]
    assert [e.step for e in samples] == list(range(2, 31, 2))
    assert {e.metrics["eval_loss"] > 0 for e in events if e.name == "eval"} == {True}
    _, summary = drain(session.load(str(tmp_path / "run")))
    assert summary.config == replace(ModelConfig(**SIZES), vocab_size=259)
    assert summary.path == result.model
    assert session.loaded.chat_template is None


def test_the_record_says_what_was_asked_and_written(session: Session, make: Make, tmp_path: Path) -> None:
    request = make()
    events, result = drain(session.pretrain(request))
    info = open_run(tmp_path / "run")
    assert (info.status, info.steps, info.model) == ("done", 6, result.model)
    assert info.manifest["data"]["vocabulary"] == 259
    assert request_of(tmp_path / "run") == request
    kept = list(read_metrics(tmp_path / "run"))
    assert [e["text"] for e in kept if e["event"] == "sample"] == [e.text for e in events if e.name == "sample"]
    assert [e["metrics"]["loss"] for e in kept if e["event"] == "step"] == losses(events)
    json.dumps([info.to_json(), result.to_json(), *(e.to_json() for e in events)])


def test_the_vocabulary_follows_from_the_tokenizer(session: Session, make: Make, tmp_path: Path) -> None:
    events, result = drain(session.pretrain(make(tokenizer=TokenizerConfig(kind="bpe", vocab_size=300))))
    words = " ".join(e.message for e in events if e.name == "notice")
    assert "vocabulary is 300 tokens" in words
    assert result.model is not None
    loaded = load_checkpoint(result.model)
    found = tokenizer_from_folder(tmp_path / "run" / "tokenizer")
    assert loaded.config.vocab_size == 300
    assert loaded.tokenizer is not None
    assert found is not None
    assert found.to_json() == loaded.tokenizer.to_json()
    assert loaded.tokenizer.decode(loaded.tokenizer.encode("The cat, größer")) == "The cat, größer"


def test_more_vocabulary_than_the_data_give_is_said(session: Session, make: Make) -> None:
    events, result = drain(session.pretrain(make(tokenizer=TokenizerConfig(kind="bpe", vocab_size=50_000), max_length=8, max_steps=1)))
    assert any("not 50,000" in e.message for e in events if e.name == "notice")
    assert result.reason == "done"


def test_another_models_tokenizer(session: Session, make: Make, tmp_path: Path) -> None:
    drain(session.pretrain(make(tokenizer=TokenizerConfig(kind="bpe", vocab_size=300), max_steps=1)))
    for number, path in enumerate(("run/model", "run/tokenizer", "run/tokenizer/tokenizer.json", "run")):
        asked = TokenizerConfig(kind="existing", path=str(tmp_path / path))
        _, result = drain(session.pretrain(replace(make(tokenizer=asked, max_steps=1), out=tmp_path / f"other-{number}")))
        assert load_checkpoint(result.model).config.vocab_size == 300


def test_conversations_give_a_chat_template(session: Session, make: Make, tmp_path: Path) -> None:
    row = {"messages": [{"role": "user", "content": "Which one?"}, {"role": "assistant", "content": "The second one."}]}
    (tmp_path / "chats.jsonl").write_text("\n".join([json.dumps(row)] * 30))
    request = replace(make(max_steps=1), data=DataConfig(sources=(str(tmp_path / "chats.jsonl"),)))
    _, result = drain(session.pretrain(request))
    assert "<|im_start|>" in (load_checkpoint(result.model).chat_template or "")


def test_a_bidirectional_model_fills_in_masked_tokens(session: Session, make: Make, tmp_path: Path) -> None:
    blind = ModelConfig(**SIZES, causal=False, position="learned", norm="layernorm", mlp="gelu")
    events, result = drain(session.pretrain(make(model=blind, max_steps=60, learning_rate=2e-2, max_length=32, sample_tokens=32)))
    curve = losses(events)
    assert sum(curve[-5:]) < 0.8 * sum(curve[:5])
    assert all("[" in e.text for e in events if e.name == "sample")
    loaded = load_checkpoint(result.model)
    assert loaded.config.vocab_size == 260
    assert loaded.tokenizer is not None
    assert loaded.tokenizer.special["[MASK]"] == 259
    save_checkpoint(build_model(ModelConfig(**SIZES)), ByteTokenizer(), None, tmp_path / "bytes")
    other = replace(make(model=blind, tokenizer=TokenizerConfig(kind="existing", path=str(tmp_path / "bytes"))), out=tmp_path / "other")
    with pytest.raises(ConfigError, match="no mask token"):
        drain(session.pretrain(other))


@pytest.mark.parametrize("tokenizer", [TokenizerConfig(kind="bytes"), TokenizerConfig(kind="bpe", vocab_size=300)], ids=lambda t: t.kind)
@pytest.mark.parametrize("causal", [True, False])
def test_resumed_equals_never_stopped(session: Session, make: Make, tmp_path: Path, tokenizer: TokenizerConfig, causal: bool) -> None:
    request = make(model=ModelConfig(**SIZES, causal=causal), tokenizer=tokenizer)
    straight, whole = drain(session.pretrain(request))
    control = Control()
    again = replace(request, out=tmp_path / "again")
    first = []
    for event in session.pretrain(again, control):
        first.append(event)
        if event.name == "step" and event.step == 5:
            control.stop()
    assert open_run(tmp_path / "again").status == "stopped"
    assert load_checkpoint(tmp_path / "again" / "model").config.vocab_size > 256, "a stopped run has its model as far as it is"
    rest, result = drain(session.pretrain(request_of(tmp_path / "again", resume=True)))
    assert losses(first) + losses(rest) == losses(straight)
    assert same(result.model, whole.model)
    assert [e["text"] for e in read_metrics(tmp_path / "again") if e["event"] == "sample"] == [
        e.text for e in straight if e.name == "sample"
    ]


def test_a_stop_without_saving_leaves_no_model(session: Session, make: Make, tmp_path: Path) -> None:
    control = Control()
    for event in session.pretrain(make(save_steps=None), control):
        if event.name == "step":
            control.stop(save=False)
    assert open_run(tmp_path / "run").model is None


def test_a_diverged_run_keeps_its_last_good_model(session: Session, make: Make, tmp_path: Path) -> None:
    with pytest.raises(TrainingDiverged) as caught:
        drain(session.pretrain(make(learning_rate=10.0, max_grad_norm=0.0, max_steps=400, warmup_ratio=0.0, adam_epsilon=1e-16,
                                    model=ModelConfig(**SIZES, norm="none", residual="pre", mlp="relu"))))  # fmt: skip
    assert caught.value.saved == tmp_path / "run" / "last-good-model"
    assert all(w.isfinite().all() for w in weights(caught.value.saved).values())
    assert open_run(tmp_path / "run").status == "failed"


# ---- what cannot be started ----------------------------------------------------------------------------------------------


def test_nothing_is_written_where_the_request_is_at_fault(session: Session, make: Make, tmp_path: Path) -> None:
    wrong: list[tuple[PretrainRequest, type[WorkbenchError], str]] = [
        (make(model=ModelConfig(**{**SIZES, "n_heads": 3})), ConfigError, "16 cannot be split over 3 heads"),
        (make(tokenizer=TokenizerConfig(kind="existing")), ConfigError, "No model is named"),
        (make(tokenizer=TokenizerConfig(kind="existing", path=str(tmp_path / "nothing"))), FileError, "There is no model or file"),
        (make(tokenizer=TokenizerConfig(kind="existing", path=str(tmp_path / "text.txt"))), WorkbenchError, "text.txt"),
        (make(learning_rate=-1.0), ConfigError, "Learning rate"),
        (replace(make(), data=DataConfig(sources=(str(tmp_path / "gone.txt"),))), DataError, "gone.txt does not exist"),
        (replace(make(), resume=True), FileError, "holds no checkpoint"),
        (replace(make(), resume=True, out=None), ConfigError, "no run to resume"),
    ]
    for request, kind, words in wrong:
        with pytest.raises(kind, match=words):
            drain(session.pretrain(request))
        assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("text", "words"), [("", "empty"), ("too short", r"10 tokens; one window of the training context takes 17")])
def test_too_little_text(session: Session, make: Make, tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "text.txt").write_text(text)
    with pytest.raises(DataError, match=words):
        drain(session.pretrain(make()))
    assert not (tmp_path / "run").exists()


def test_a_place_that_is_taken_is_said_at_once(session: Session, make: Make) -> None:
    drain(session.pretrain(make(max_steps=1, eval_steps=None, sample_every=None)))
    events = session.pretrain(make())
    with pytest.raises(FileError, match="already holds a run"):
        next(events)


def test_a_model_without_tokenizer_has_none_to_give(session: Session, make: Make, tmp_path: Path) -> None:
    save_checkpoint(build_model(ModelConfig(**SIZES)), None, None, tmp_path / "bare")
    with pytest.raises(ModelError, match="has no tokenizer"):
        drain(session.pretrain(make(tokenizer=TokenizerConfig(kind="existing", path=str(tmp_path / "bare")))))


def test_problems_name_the_part_and_the_field(make: Make) -> None:
    request = make(model=ModelConfig(**{**SIZES, "n_heads": 3}), max_length=1)
    assert {"model.n_heads", "train.max_length"} <= {p.field for p in request.problems()}


# ---- two runs --------------------------------------------------------------------------------------------------------------


def pair(request: PretrainRequest, **changes: Any) -> PairRequest:
    return PairRequest(a=request, b=replace(request, model=replace(request.model, **changes)), out=request.out)


def test_a_pair_is_two_ordinary_runs_on_the_same_batches(session: Session, make: Make, tmp_path: Path) -> None:
    request = make()
    events, result = drain(session.pretrain_pair(pair(request, norm="layernorm")))
    alone = {}
    for name, side in {"A": request, "B": replace(request, model=replace(request.model, norm="layernorm"))}.items():
        alone[name] = drain(session.pretrain(replace(side, out=tmp_path / f"alone-{name}")))
        assert losses(events, name) == losses(alone[name][0])
        assert same(result.runs[name].model, alone[name][1].model)
        assert open_run(tmp_path / "run" / name).status == "done"
    compared = [e.metrics for e in events if e.name == "pair" and "loss_difference" in e.metrics]
    wanted = [b - a for a, b in zip(losses(alone["A"][0]), losses(alone["B"][0]), strict=True)]
    assert [m["loss_difference"] for m in compared] == wanted
    assert [m["loss_b"] - m["loss_a"] for m in compared] == wanted
    order = [(e.run, e.step) for e in events if e.name == "step"]
    assert order == [(run, step) for step in range(1, 7) for run in "AB"]
    assert {"eval_loss_a", "eval_loss_b", "loss_difference"} <= set(result.final)
    manifest = json.loads((tmp_path / "run" / "pair.json").read_text())
    assert manifest["differences"] == [{"field": "norm", "a": "rmsnorm", "b": "layernorm"}]
    json.dumps([result.to_json(), *(e.to_json() for e in events)])


@pytest.mark.parametrize("run", ["A", "B"])
def test_a_pair_stopped_anywhere_goes_on_exactly(session: Session, make: Make, tmp_path: Path, run: str) -> None:
    request = pair(make(), tie_embeddings=False)
    straight, whole = drain(session.pretrain_pair(request))
    control = Control()
    again = replace(request, out=tmp_path / "again")
    first = []
    for event in session.pretrain_pair(again, control):
        first.append(event)
        if event.name == "step" and (event.run, event.step) == (run, 4):
            control.stop()
    rest, result = drain(session.pretrain_pair(replace(again, resume=True)))
    assert result.reason == "done"
    for name in "AB":
        assert losses(first, name) + losses(rest, name) == losses(straight, name)
        assert same(result.runs[name].model, whole.runs[name].model)


def test_a_pair_shares_one_clock(session: Session, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter(range(10_000))
    monkeypatch.setattr(pair_module, "ClockPace", lambda seconds: ClockPace(seconds, lambda: float(next(ticks))))
    events, result = drain(session.pretrain_pair(pair(make(max_minutes=5 / 60, eval_steps=None), norm="layernorm")))
    assert (result.reason, result.steps) == ("done", 5)
    rates = {run: [e.metrics["learning_rate"] for e in events if e.name == "step" and e.run == run] for run in "AB"}
    assert rates["A"] == rates["B"]


def test_one_of_them_may_diverge(session: Session, make: Make) -> None:
    request = make(learning_rate=10.0, max_grad_norm=0.0, max_steps=60, warmup_ratio=0.0, adam_epsilon=1e-16, sample_every=None,
                   model=ModelConfig(**SIZES, mlp="relu"))  # fmt: skip
    events, result = drain(session.pretrain_pair(pair(request, norm="none")))
    assert (result.runs["A"].reason, result.runs["B"].reason) == ("done", "diverged")
    assert any(e.name == "notice" and e.level == "warning" and e.message.startswith("Run B:") for e in events)
    assert result.runs["A"].steps == 60


def test_pairs_that_compare_nothing_are_refused(session: Session, make: Make, tmp_path: Path) -> None:
    request = make()
    for other, words in (
        (replace(request, train=replace(request.train, seed=1)), "differ in seed"),
        (replace(request, tokenizer=TokenizerConfig(kind="bpe")), "differ in kind"),
        (request, "the same architecture"),
        (replace(request, model=replace(request.model, vocab_size=999)), "the same architecture"),
        (replace(request, model=replace(request.model, causal=False)), "next token"),
    ):
        with pytest.raises(ConfigError, match=words):
            drain(session.pretrain_pair(PairRequest(a=request, b=other, out=tmp_path / "run")))
    assert not (tmp_path / "run").exists()
