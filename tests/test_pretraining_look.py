"""The look before a run from scratch: what it counts is what the run reads, and it leaves nothing behind."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from workbench.core.control import Control
from workbench.core.errors import ConfigError, DataError
from workbench.data import DataConfig
from workbench.model import PRESETS
from workbench.pretraining import PretrainCheck, preflight
from workbench.requests import PretrainRequest
from workbench.tokenizers.config import TokenizerConfig
from workbench.training import PretrainConfig


@pytest.fixture
def request_for(tmp_path: Path) -> PretrainRequest:
    text = tmp_path / "text.txt"
    text.write_text("The cat sat on the mat. " * 200)
    return PretrainRequest(
        model=PRESETS["tiny-llama"].config,
        data=DataConfig(sources=(str(text),)),
        tokenizer=TokenizerConfig(kind="bytes"),
        train=PretrainConfig(max_length=64),
    )


def look(request: PretrainRequest, control: Control | None = None) -> PretrainCheck:
    steps = preflight(request, Path, control or Control())
    while True:
        try:
            next(steps)
        except StopIteration as end:
            found: PretrainCheck = end.value
            return found


def test_tokens_windows_and_vocabulary_are_counted(request_for: PretrainRequest, tmp_path: Path) -> None:
    found = look(request_for)
    assert found.tokens == 24 * 200 + 1, "each byte, and the end of the text"
    assert 64 * (found.windows + found.held_out) == pytest.approx(found.tokens, abs=3 * 64)
    assert (found.length, found.vocabulary) == (64, 259)
    assert "".join(found.beginning).startswith("The cat sat")
    assert not any("259" in notice for notice in found.notices), "that bytes are 259 tokens is no news"
    assert [p.name for p in tmp_path.iterdir()] == ["text.txt"]


def test_the_context_of_the_model_bounds_the_windows(request_for: PretrainRequest) -> None:
    found = look(replace(request_for, model=replace(request_for.model, max_positions=32)))
    assert found.length == 32
    assert any("32" in notice for notice in found.notices)


def test_what_the_run_would_refuse_is_refused(request_for: PretrainRequest) -> None:
    with pytest.raises(DataError, match="window"):
        look(replace(request_for, train=PretrainConfig(max_length=100_000), model=replace(request_for.model, max_positions=100_000)))
    with pytest.raises(ConfigError):
        look(replace(request_for, data=DataConfig(sources=())))


def test_a_stop_ends_it_without_an_answer(request_for: PretrainRequest) -> None:
    control = Control()
    control.stop(save=False)
    assert look(request_for, control).stopped
