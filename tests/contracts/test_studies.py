"""Every registered study keeps the promises of `STUDIES`."""

from __future__ import annotations

import json
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from workbench.checkpoints import Loaded
from workbench.checkpoints.formats import Source
from workbench.core.control import Control
from workbench.core.fields import field_problems, from_dict, to_dict
from workbench.devices import choose_compute
from workbench.model import ModelConfig, build_model
from workbench.studies import STUDIES, StudyContext, write
from workbench.studies.files import share
from workbench.tokenizers import ByteTokenizer

EACH = pytest.mark.parametrize("name", STUDIES.names())
QUICK: dict[str, dict[str, Any]] = {
    "norm-int8": {"contrast": False, "tokens": 32},
    "kv-cache": {"longest": 40, "points": 4, "prompt": 8, "reply": 8, "other": "int8"},
}
"""Options with which a study ends in a second on a tiny model."""


def drain(events: Generator[Any, None, Any]) -> tuple[list[Any], Any]:
    seen = []
    while True:
        try:
            seen.append(next(events))
        except StopIteration as end:
            return seen, end.value


@pytest.fixture
def context(tmp_path: Path) -> StudyContext:
    model = build_model(ModelConfig(vocab_size=259, n_layers=1, d_model=16, n_heads=2, max_positions=64))
    source = Source(Path("tiny"), "workbench", "workbench", 0, "tiny")
    return StudyContext(Loaded(model, ByteTokenizer(mask=False), model.config, None, source), tmp_path, choose_compute("cpu", "float32"))


@EACH
def test_says_what_it_is_and_its_options_are_usable_and_kept(name: str) -> None:
    entry = STUDIES[name]
    assert entry.label
    assert entry.source
    assert entry.help.endswith(".")
    options = entry.options()
    assert options.problems() == field_problems(options) == []
    assert from_dict(entry.options, json.loads(json.dumps(to_dict(options)))) == options


@EACH
def test_answers_with_a_table_a_verdict_and_files(name: str, context: StudyContext, tmp_path: Path) -> None:
    events, answer = drain(STUDIES.choose(name, QUICK[name]).make().run(context, Control()))
    assert events
    assert answer.study == name
    assert answer.rows
    assert answer.verdict.endswith(".")
    for table in answer.tables:
        names = [c.name for c in table.columns]
        assert all(c.label for c in table.columns)
        assert all(set(row) <= set(names) for row in table.rows)
    json.dumps(answer.to_json(), allow_nan=False)
    assert all(0 <= share(answer.figure, bar.value) <= 1 for _, bars in answer.figure.groups for bar in bars)
    for path in write(answer, tmp_path / "out"):
        assert path.stat().st_size > 0


@EACH
def test_a_stop_before_the_start_gives_no_answer(name: str, context: StudyContext) -> None:
    control = Control()
    control.stop()
    assert drain(STUDIES.choose(name, QUICK[name]).make().run(context, control))[1] is None
