"""Figures with their uncertainty, labels by thresholds, and work that goes on where it was stopped."""

from __future__ import annotations

import json
import math
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from workbench.__main__ import main
from workbench.caches import CacheConfig, cache_nbytes
from workbench.checkpoints import save_checkpoint
from workbench.core.control import Control
from workbench.core.errors import ConfigError, DataError
from workbench.model import ModelConfig, build_model
from workbench.quality import FLOOR, LABELS, QualityConfig, QualityRequest, QualitySide
from workbench.quality.copying import LENGTH, copied, copy_texts
from workbench.quality.figures import LOSSLESS, LOSSY, NEAR, SMALL, TokenFigures, compare, interval, joined, summed
from workbench.quantization import QuantizationConfig
from workbench.session import Session
from workbench.tokenizers import CHATML, ByteTokenizer

INT8 = CacheConfig(codec="int8", value_codec="int8")  # type: ignore[arg-type]
COARSE = CacheConfig(codec={"kind": "turboquant", "bits": 1}, value_codec={"kind": "turboquant", "bits": 1})  # type: ignore[arg-type]
SIDES = (QualitySide(name="int8", cache=INT8), QualitySide(name="one bit", cache=COARSE))


def drain(events: Generator[Any, None, Any]) -> tuple[list[Any], Any]:
    seen = []
    while True:
        try:
            seen.append(next(events))
        except StopIteration as end:
            return seen, end.value


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    sizes = {"n_layers": 2, "d_model": 64, "n_heads": 4, "n_kv_heads": 2, "d_ff": 96, "max_positions": 512}
    path = tmp_path_factory.mktemp("model") / "tiny"
    save_checkpoint(build_model(ModelConfig(vocab_size=ByteTokenizer().vocab_size, **sizes), seed=2), ByteTokenizer(), CHATML, path)
    return path


@pytest.fixture
def session(home: Path, folder: Path) -> Session:
    session = Session(home, device="cpu", dtype="float32", threads=2)
    drain(session.load(folder))
    return session


def config(**changes: Any) -> QualityConfig:
    return QualityConfig(**{"contexts": (128, 256), "tokens": 600, **changes})


# ---- figures ---------------------------------------------------------------------------------------------------------


def figures(delta: np.ndarray, kl: float = 0.0, same: float = 1.0) -> TokenFigures:
    count = len(delta)
    before = np.full(count, 2.0, dtype=np.float32)
    agree = np.arange(count) < same * count
    return TokenFigures(before, (before + delta).astype(np.float32), np.full(count, kl, dtype=np.float32), agree)


def test_the_interval_holds_the_mean_of_independent_draws() -> None:
    draw = np.random.default_rng(1)
    inside = 0
    for _ in range(100):
        low, high = interval(draw.normal(0.5, 1.0, 4096))
        inside += low <= 0.5 <= high
    assert 85 <= inside <= 100
    assert all(math.isnan(bound) for bound in interval(np.zeros(100)))


def test_neighbours_that_move_together_widen_the_interval() -> None:
    draw = np.random.default_rng(1)
    alone = draw.normal(size=6400)
    together = np.repeat(draw.normal(size=100), 64)
    assert interval(together)[1] - interval(together)[0] > 4 * (interval(alone)[1] - interval(alone)[0])


@pytest.mark.parametrize(
    ("delta", "kl", "same", "floor", "label"),
    [
        (0.0, 1e-8, 1.0, 1e-8, LOSSLESS),
        (0.0, 1e-3, 1.0, 1e-8, NEAR),
        (0.004, 1e-3, 0.985, 1e-8, NEAR),
        (0.004, 1e-3, 0.97, 1e-8, SMALL),
        (0.015, 1e-3, 0.99, 1e-8, SMALL),
        (0.03, 1e-2, 0.95, 1e-8, LOSSY),
        (math.nan, 1e-2, 0.95, 1e-8, LOSSY),
    ],
)
def test_labels_follow_the_thresholds(delta: float, kl: float, same: float, floor: float, label: str) -> None:
    noise = np.random.default_rng(0).normal(0, 1e-4, 2048)
    found = summed(figures(noise - noise.mean() + delta, kl, same))
    assert found.label(floor) == label
    assert label in LABELS


def test_figures_of_known_predictions() -> None:
    model = build_model(ModelConfig(vocab_size=50, n_layers=1, d_model=16, n_heads=2, d_ff=24, max_positions=64), seed=1)
    hidden = torch.randn(40, 16, generator=torch.Generator().manual_seed(0))
    targets = torch.arange(40)
    found = compare((model, model), (hidden, hidden), targets)
    assert found.delta.max() == 0
    assert found.kl.max() < 1e-6
    assert found.same.all()
    moved = compare((model, model), (hidden, hidden * 1.3), targets)
    p, q = (torch.log_softmax(model.head(h), -1) for h in (hidden, hidden * 1.3))
    np.testing.assert_allclose(moved.kl, (p.exp() * (p - q)).sum(-1).detach().numpy(), rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(moved.after, -q[torch.arange(40), targets].detach().numpy(), rtol=1e-5)
    assert joined([found, moved]).tokens == 80


def test_what_is_copied_is_counted() -> None:
    texts = copy_texts(list(range(100, 400)), list(range(1000, 1100)), 256)
    assert len({tuple(t) for t in texts}) == len(texts) == 4
    for text in texts:
        assert len(text) == 256
        needle = text[-LENGTH:]
        assert any(text[i : i + LENGTH] == needle for i in range(256 - 2 * LENGTH + 1))

    class Perfect:
        def head(self, hidden: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.one_hot(hidden[:, 0].long(), 1200).float()

    answers = torch.tensor([*texts[0][1:], 0])[:, None].float()
    assert copied(Perfect(), answers, texts[0]) == LENGTH - 1  # type: ignore[arg-type]
    answers[-3] = 0
    assert copied(Perfect(), answers, texts[0]) == LENGTH - 2  # type: ignore[arg-type]


# ---- a whole measurement ---------------------------------------------------------------------------------------------


def test_sides_are_held_against_the_exact_cache(session: Session) -> None:
    weights = QualitySide(name="int4 weights", weights=QuantizationConfig(scheme="int4", skip=()))  # type: ignore[arg-type]
    events, report = drain(session.quality(QualityRequest(sides=(*SIDES, weights), config=config())))
    rows = {(row.side, row.context): row for row in report.rows}
    assert list(rows) == [(name, n) for n in (128, 256) for name in (FLOOR.name, "int8", "one bit", "int4 weights")]
    for context in (128, 256):
        floor, int8, one, int4 = (rows[name, context] for name in (FLOOR.name, "int8", "one bit", "int4 weights"))
        assert floor.label == ""
        assert floor.kl < 1e-7
        assert floor.kl < int8.kl < one.kl
        assert int8.low <= int8.delta <= int8.high
        assert int8.tokens == one.tokens >= 600
        assert int8.nats == one.nats == floor.nats
        assert int8.nbytes == cache_nbytes(INT8, session.loaded.config, context)
        assert int4.weight_bytes < 0.3 * int8.weight_bytes
        assert int4.kl > floor.kl
        assert 0 <= int8.copied <= 1
    shown = [event.row for event in events if event.name == "quality"]
    assert shown[-1].side == "int4 weights"
    assert session.quantization is None


def test_a_stopped_measurement_goes_on_where_it_was(session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, wanted = drain(session.quality(QualityRequest(sides=SIDES, config=config())))
    control, kept = Control(), QualityRequest(sides=SIDES, config=config(), folder=tmp_path / "kept")
    steps = session.quality(kept, control)
    for number, _ in enumerate(steps):
        if number == 12:
            control.stop()
    _, part = drain(session.quality(kept, control))
    assert part.stopped
    hidden, passes = session.loaded.model.hidden, []
    monkeypatch.setattr(session.loaded.model, "hidden", lambda *a, **b: passes.append(1) or hidden(*a, **b))
    _, whole = drain(session.quality(kept))
    assert not whole.stopped
    for found, row in zip(whole.rows, wanted.rows, strict=True):
        ours, theirs = found.to_json(), row.to_json()
        assert [ours.pop(n) for n in ("side", "label")] == [theirs.pop(n) for n in ("side", "label")]
        assert ours == pytest.approx(theirs, rel=1e-4, abs=1e-6)
    assert passes
    passes.clear()
    assert drain(session.quality(kept))[1] == whole
    assert not passes  # all of it was known
    next((tmp_path / "kept").glob("*.json")).write_text("{broken")
    assert drain(session.quality(kept))[1].rows[0].tokens == whole.rows[0].tokens


@pytest.mark.parametrize(
    ("request_", "error", "words"),
    [
        (QualityRequest(sides=()), ConfigError, "nothing to measure"),
        (QualityRequest(sides=(SIDES[0], SIDES[0])), ConfigError, "same name"),
        (QualityRequest(sides=SIDES, config=config(contexts=(9999,))), ConfigError, "512 tokens at most"),
        (QualityRequest(sides=SIDES, config=config(contexts=())), ConfigError, "context"),
        (QualityRequest(sides=(QualitySide(name="off", cache=CacheConfig(use_cache=False)),), config=config()), ConfigError, "off"),
    ],
)
def test_what_cannot_be_measured_is_explained(session: Session, request_: QualityRequest, error: type, words: str) -> None:
    with pytest.raises(error, match=words):
        drain(session.quality(request_))


def test_a_text_that_is_too_short(session: Session, tmp_path: Path) -> None:
    text = tmp_path / "short.txt"
    text.write_text("hello")
    with pytest.raises(DataError, match=r"short.txt has 5 tokens"):
        drain(session.quality(QualityRequest(sides=SIDES, config=config(text=str(text)))))


def test_on_the_command_line(folder: Path, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = tmp_path / "text.txt"
    text.write_text("A line that is read by the model. " * 60)
    words = ["score", str(folder), str(text), "--cache", "turboquant", "--window", "128", "--compare", "--json", "--threads", "1"]
    assert main([*words, "--cache-set", "bits=3", "--dtype", "float32"]) == 0
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert [row["side"] for row in last["rows"]] == [FLOOR.name, "turboquant"]
    assert last["rows"][1]["kl"] > last["rows"][0]["kl"]
