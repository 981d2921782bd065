"""The best state on the held-out examples: kept, given back at the end, and a reason to end early."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.training.tools import dataset, drain
from workbench.adapters import trainable_parameters
from workbench.core.control import Control
from workbench.core.errors import FileError
from workbench.data import Dataset
from workbench.model import Transformer
from workbench.training import TrainConfig, train
from workbench.training.best import Best, best_parameters, save_best

Make = Callable[..., Transformer]
HELD_OUT = dataset(6, seed=9)


def settings(**changes: object) -> TrainConfig:
    base = {"max_steps": 40, "learning_rate": 0.3, "dtype": "float32", "eval_steps": 2, "save_steps": None, "lr_scheduler_type": "constant"}
    return TrainConfig(**{**base, **changes})  # type: ignore[arg-type]


def export_of(model: Transformer) -> Callable[[Path], None]:
    def export(path: Path) -> None:
        path.mkdir()
        torch.save({k: v.detach().clone() for k, v in trainable_parameters(model).items()}, path / "weights")

    return export


def evaluations(events: list[object]) -> dict[int, float]:
    return {e.step: e.metrics["eval_loss"] for e in events if getattr(e, "name", "") == "eval"}  # type: ignore[attr-defined]


def test_judging() -> None:
    best = Best()
    assert not best.known
    assert [best.judge(step, loss) for step, loss in ((1, 3.0), (2, 2.0), (3, 2.0), (4, float("nan")), (5, 1.0))] == [
        True, True, False, False, True,
    ]  # fmt: skip
    assert (best.step, best.loss, best.since) == (5, 1.0, 0)
    assert Best.from_dict(best.to_dict()) == best
    assert Best.from_dict(Best().to_dict()) == Best()


def test_the_result_names_the_best_step(make_model: Make, data: Dataset) -> None:
    events, result = drain(train(make_model(), data, settings(), validation=HELD_OUT))
    seen = evaluations(events)
    assert result.best_step == min(seen, key=lambda step: seen[step])
    assert result.best_step < result.steps, "so coarse a rate must overshoot, or this test shows nothing"


def test_without_evaluations_no_step_is_the_best(make_model: Make, data: Dataset) -> None:
    _, result = drain(train(make_model(), data, settings(eval_steps=None, max_steps=3)))
    assert result.best_step is None


def test_the_best_adapter_is_the_result(make_model: Make, data: Dataset, tmp_path: Path) -> None:
    model = make_model()
    config = settings(load_best_model_at_end=True)
    _, result = drain(train(model, data, config, validation=HELD_OUT, folder=tmp_path, export=export_of(model)))
    assert result.adapter == tmp_path / "best" / "adapter"
    twin = make_model()
    drain(train(twin, data, settings(max_steps=result.best_step), validation=HELD_OUT))
    kept = torch.load(result.adapter / "weights", weights_only=True)
    assert all(torch.equal(kept[name], value) for name, value in trainable_parameters(twin).items())


def test_the_last_adapter_is_the_result_unless_the_best_is_wanted(make_model: Make, data: Dataset, tmp_path: Path) -> None:
    model = make_model()
    _, result = drain(train(model, data, settings(), validation=HELD_OUT, folder=tmp_path, export=export_of(model)))
    assert result.adapter.parent.name == f"checkpoint-{result.steps:06d}"
    assert (tmp_path / "best" / "adapter" / "weights").exists(), "it is small, and kept all the same"


def test_all_weights_go_back_to_the_best(make_model: Make, data: Dataset, tmp_path: Path) -> None:
    model = make_model(adapted=False)
    config = settings(load_best_model_at_end=True, learning_rate=0.05)
    _, result = drain(train(model, data, config, adapter=None, validation=HELD_OUT, folder=tmp_path))
    assert result.best_step < result.steps
    kept = load_file(tmp_path / "best" / "parameters.safetensors")
    assert kept
    assert all(torch.equal(kept[name], value) for name, value in model.state_dict().items() if name in kept)


def test_the_run_ends_when_nothing_gets_better(make_model: Make, data: Dataset) -> None:
    patient = settings(early_stopping_patience=3, max_steps=200)
    events, result = drain(train(make_model(), data, patient, validation=HELD_OUT))
    assert result.reason == "done"
    assert result.steps == result.best_step + 3 * 2 < 200
    assert any("ends early" in e.message for e in events if e.name == "notice")


def test_patience_survives_a_resume(make_model: Make, data: Dataset, tmp_path: Path) -> None:
    config = settings(early_stopping_patience=3, max_steps=200, save_steps=1)
    _, whole = drain(train(make_model(), data, config, validation=HELD_OUT))
    control = Control()
    steps = train(make_model(), data, config, validation=HELD_OUT, folder=tmp_path, control=control)
    for event in steps:
        if event.name == "step" and event.step == whole.best_step + 3:
            control.stop(save=True)
    _, resumed = drain(train(make_model(), data, config, validation=HELD_OUT, folder=tmp_path, resume=True))
    assert (resumed.steps, resumed.best_step) == (whole.steps, whole.best_step)


@pytest.mark.parametrize("wish", [{"early_stopping_patience": 1}, {"load_best_model_at_end": True}])
def test_without_evaluations_nothing_can_be_the_best(wish: dict[str, Any]) -> None:
    assert [p.field for p in TrainConfig(eval_steps=None, **wish).problems()] == list(wish)
    assert not TrainConfig(eval_steps=5, **wish).problems()


def test_a_damaged_best_state_has_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="damaged"):
        best_parameters(tmp_path)
    save_best(tmp_path, Best(3, 1.5, 0), {"a": torch.ones(3)}, None)
    assert torch.equal(best_parameters(tmp_path)["a"], torch.ones(3))
    (tmp_path / "best" / "parameters.safetensors").write_bytes(b"short")
    with pytest.raises(FileError, match="damaged"):
        best_parameters(tmp_path)
