"""The cache's speed against its memory: the growth that is fitted, the figures, and a verdict that follows from them."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from workbench.caches import CacheConfig, cache_nbytes
from workbench.checkpoints import Loaded
from workbench.checkpoints.formats import Source
from workbench.core.control import Control
from workbench.core.errors import ConfigError, DataError, WorkbenchError
from workbench.core.events import Progress
from workbench.devices import choose_compute
from workbench.model import ModelConfig, build_model
from workbench.studies import STUDIES, StudyContext, StudyResult
from workbench.studies.kv_cache import KvCacheOptions
from workbench.studies.kv_findings import Fit, Kept, Place, fitted, growth, verdict
from workbench.tokenizers import ByteTokenizer

SMALL = {"longest": 120, "points": 4, "prompt": 90, "reply": 12}


def drain(events: Generator[Any, None, Any]) -> tuple[list[Any], Any]:
    seen = []
    while True:
        try:
            seen.append(next(events))
        except StopIteration as end:
            return seen, end.value


def context(folder: Path, **changes: Any) -> StudyContext:
    model = build_model(ModelConfig(vocab_size=259, n_layers=2, d_model=32, n_heads=2, max_positions=128, **changes))
    source = Source(Path("tiny"), "workbench", "workbench", 0, "tiny")
    return StudyContext(Loaded(model, ByteTokenizer(mask=False), model.config, None, source), folder, choose_compute("cpu", "float32"))


def answer(where: StudyContext, **options: Any) -> StudyResult:
    found: StudyResult = drain(STUDIES.choose("kv-cache", {**SMALL, **options}).make().run(where, Control()))[1]
    return found


# ---- growth --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("terms", [(5.0, 0.0, 0.0), (2.0, 0.5, 0.0), (1.0, 0.25, 0.003), (0.0, 0.0, 0.01)])
def test_a_curve_is_found_again(terms: tuple[float, float, float]) -> None:
    t = list(range(50, 1000, 80))
    fit = fitted(t, [terms[0] + terms[1] * x + terms[2] * x * x for x in t])
    assert (fit.constant, fit.linear, fit.quadratic) == pytest.approx(terms, abs=1e-6)
    assert fit.r2 == pytest.approx(1.0)
    assert fit.seconds(700) == pytest.approx(sum(terms[0] + terms[1] * x + terms[2] * x * x for x in range(1, 701)) / 1000)


def test_noise_never_makes_a_step_cheaper_with_its_position() -> None:
    noise = np.random.default_rng(0).normal(30, 3, 12)
    fit = fitted(range(100, 1300, 100), sorted(noise.tolist(), reverse=True))
    assert (fit.linear, fit.quadratic) == (0.0, 0.0)
    assert fit.constant == pytest.approx(noise.mean())


@pytest.mark.parametrize(
    ("fit", "word"), [(Fit(10, 0, 0, 1), "linearly"), (Fit(0, 1, 0, 1), "quadratically"), (Fit(400, 1, 0, 1), "faster than linearly")]
)
def test_words_follow_from_what_twice_the_text_costs(fit: Fit, word: str) -> None:
    assert growth(fit.doubling(1000)) == word


# ---- the verdict ---------------------------------------------------------------------------------------------------


OFF = Kept("none", (Place(100, 100.0, 0, 0.0), Place(1000, 1000.0, 0, 0.0)), 9.0, 64, 64, 0.0, 30.0)
EXACT = Kept("exact", (Place(100, 25.0, 1_000_000, 1e-5), Place(1000, 25.0, 10_000_000, 2e-5)), 1.6, 64, 64, 2e-5, 30.0)
LOSSY = Kept("small", (Place(100, 25.0, 200_000, 0.5), Place(1000, 30.0, 2_000_000, 1.5)), 1.6, 64, 61, 1.5, 30.0)


def test_the_verdict_says_what_the_figures_say() -> None:
    lines = verdict((OFF, EXACT, LOSSY)).splitlines()
    assert "grows quadratically" in lines[0]
    assert "100 ms at position 100 and 1.0 s at 1,000" in lines[0]
    assert "grows linearly" in lines[1]
    assert "8 min 20 s against 25 s: the cache makes it 20.0 times as fast, for 10.0 MB" in lines[2]
    assert "the same but for rounding" in lines[3]
    assert "identical tokens 64/64" in lines[3]
    assert "2.0 MB at position 1,000, 5.00 times less than the exact cache, at 1.20 of its time" in lines[4]
    assert "identical tokens 61/64" in lines[4]
    assert len(verdict((OFF, EXACT)).splitlines()) == 4


@pytest.mark.parametrize("change", [{"same": 63}, {"difference": 0.1}])
def test_a_cache_that_computes_something_else_is_named(change: dict[str, Any]) -> None:
    assert "does not compute the same" in verdict((OFF, replace(EXACT, **change)))


def test_a_cache_that_gains_nothing_is_not_praised() -> None:
    assert "no faster" in verdict((EXACT, EXACT))


# ---- on a model ----------------------------------------------------------------------------------------------------


def test_bytes_are_measured_and_the_exact_cache_changes_nothing(tmp_path: Path) -> None:
    where = context(tmp_path)
    assert where.loaded is not None
    found = answer(where, other="int8")
    rows = {row["cache"]: row for row in found.rows}
    assert list(rows) == ["none", "exact", "int8"]
    assert rows["none"]["cache_bytes"] == 0
    assert rows["exact"]["cache_bytes"] == cache_nbytes(CacheConfig(), where.loaded.config, 120)
    assert rows["exact"]["identical"] == "12/12"
    assert float(rows["exact"]["difference"] or 0) < 1e-4 < float(rows["int8"]["difference"] or 0)
    assert int(rows["int8"]["cache_bytes"] or 0) < int(rows["exact"]["cache_bytes"] or 0) / 2
    places = [row["position"] for row in found.tables[1].rows if row["cache"] == "exact"]
    assert places == sorted(set(places))
    assert places[-1] == 120
    assert "the same but for rounding" in found.verdict
    assert answer(where, other=None).rows[-1]["cache"] == "exact"


def test_positions_end_with_the_models_and_short_texts_are_repeated(tmp_path: Path) -> None:
    text = tmp_path / "short.txt"
    text.write_text("Once upon a time. ", encoding="utf-8")
    found = answer(context(tmp_path), longest=5000, text=str(text), prompt=8, other=None)
    assert found.tables[1].rows[-1]["position"] == 128
    assert "short.txt" in found.notes[0]


def test_progress_ends_at_its_total(tmp_path: Path) -> None:
    events, _ = drain(STUDIES.choose("kv-cache", {**SMALL, "other": None}).make().run(context(tmp_path), Control()))
    steps = [event for event in events if isinstance(event, Progress)]
    assert [step.done for step in steps] == list(range(16))
    assert {step.total for step in steps} == {16}


def test_what_cannot_be_measured_is_refused(tmp_path: Path) -> None:
    where = context(tmp_path)
    with pytest.raises(WorkbenchError, match="no model"):
        answer(replace(where, loaded=None))
    with pytest.raises(DataError, match="longer than the model’s 128 positions"):
        answer(where, prompt=120)
    with pytest.raises(WorkbenchError):
        answer(context(tmp_path, causal=False))
    with pytest.raises(ConfigError):
        answer(where, other="zip")
    assert [p.field for p in KvCacheOptions(longest=16, points=16).problems()] == ["points"]
