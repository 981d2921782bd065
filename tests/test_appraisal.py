"""What a model is, from its headers; what cannot be opened says why."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from workbench import appraisal
from workbench.appraisal import appraise, appraise_all, free_memory, known_architecture
from workbench.checkpoints import save_checkpoint
from workbench.core.control import Control
from workbench.core.events import Progress
from workbench.model import ModelConfig, build_model

CONFIG = ModelConfig(vocab_size=32, n_layers=2, d_model=16, n_heads=4, n_kv_heads=2, d_ff=24, max_positions=64)


def saved(folder: Path, config: ModelConfig = CONFIG) -> Path:
    save_checkpoint(build_model(config, seed=1), None, None, folder, format="workbench")
    return folder


def test_counts_are_those_of_the_model(tmp_path: Path) -> None:
    known = appraise(saved(tmp_path / "m"))
    assert known.parameters == sum(p.numel() for p in build_model(CONFIG, device="meta", init=False).parameters())
    assert (known.kv_values_per_token, known.context, known.problem) == (2 * 2 * 2 * 4, 64, "")
    assert (known.dtype, known.chat) == ("float32", False)


def test_what_cannot_be_opened_says_why(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "mamba"}')
    assert "'mamba', which is not known" in appraise(tmp_path).problem
    assert "does not exist" in appraise(tmp_path / "gone").problem


def test_a_model_is_looked_at_again_only_when_it_has_changed(tmp_path: Path) -> None:
    path = saved(tmp_path / "m")
    first = appraise(path)
    before = appraisal._appraise.cache_info().misses
    assert appraise(path) is first
    assert appraisal._appraise.cache_info().misses == before
    os.utime(path / "model.safetensors", (1, 1))
    appraise(path)
    assert appraisal._appraise.cache_info().misses == before + 1


def test_a_stop_returns_what_is_known(tmp_path: Path) -> None:
    paths = [saved(tmp_path / name) for name in "ab"]
    control = Control()
    work = appraise_all(paths, control)
    assert isinstance(next(work), Progress)
    control.stop()
    with pytest.raises(StopIteration) as end:
        next(work)
    assert set(end.value.value) == {paths[0]}


def test_architectures_are_those_of_the_families() -> None:
    assert known_architecture("llama", gguf=True)
    assert known_architecture("gpt2", gguf=False)
    assert not known_architecture("mamba", gguf=False)
    assert known_architecture("RefinedWebModel", gguf=False)
    assert not known_architecture("RefinedWebModel", gguf=True)


def test_free_memory_is_a_number_of_bytes() -> None:
    assert free_memory(torch.device("cpu")) > 1e6
