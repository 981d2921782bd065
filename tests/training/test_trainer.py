"""The loop: it learns, stops, saves, resumes as if never stopped, and never leaves a mess."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.training.tools import dataset, drain, losses
from workbench.adapters import LoraConfig, adapters_of, attach, selected, trainable_parameters
from workbench.core.control import Control
from workbench.core.errors import ConfigError, DataError, FileError
from workbench.data import Dataset
from workbench.model import Transformer
from workbench.training import TrainConfig, TrainingDiverged, planned_steps, train
from workbench.training.state import checkpoints

Make = Callable[..., Transformer]


def settings(**changes: object) -> TrainConfig:
    base = {"max_steps": 6, "learning_rate": 1e-2, "dtype": "float32", "eval_steps": None, "save_steps": None, "max_length": 32}
    return TrainConfig(**{**base, **changes})  # type: ignore[arg-type]


def test_the_loss_falls_and_only_the_adapter_changes(make_model: Make, data: Dataset) -> None:
    model = make_model()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    events, result = drain(train(model, data, settings(max_steps=60, learning_rate=3e-2)))
    curve = losses(events)
    assert sum(curve[-5:]) < 0.9 * sum(curve[:5])
    assert result.reason == "done"
    assert result.steps == 60
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_the_model_is_left_as_it_was_found(make_model: Make, data: Dataset) -> None:
    model = make_model()
    drain(train(model, data, settings()))
    assert not model.training
    assert all(p.grad is None for p in model.parameters())
    assert all(p.requires_grad for p in trainable_parameters(model).values())


def test_others_may_use_the_model_between_steps(make_model: Make, data: Dataset) -> None:
    model = make_model()
    ids = torch.tensor([[1, 2, 3]])
    with torch.inference_mode(), selected(model, {}):
        bare = model(ids)
    for _ in train(model, data, settings()):
        with torch.inference_mode(), selected(model, {}):
            assert torch.equal(model(ids), bare)


def test_accumulation_equals_one_large_batch(make_model: Make) -> None:
    data = dataset(8, lengths=(9, 10))
    large, small = make_model(), make_model()
    drain(train(large, data, settings(max_steps=3, per_device_train_batch_size=8)))
    drain(train(small, data, settings(max_steps=3, per_device_train_batch_size=2, gradient_accumulation_steps=4)))
    for name, parameter in trainable_parameters(large).items():
        torch.testing.assert_close(trainable_parameters(small)[name], parameter, rtol=1e-4, atol=1e-5)


def test_recomputation_changes_nothing(make_model: Make, data: Dataset) -> None:
    plain, lean = make_model(lora=LoraConfig(r=4, lora_dropout=0.2)), make_model(lora=LoraConfig(r=4, lora_dropout=0.2))
    a, _ = drain(train(plain, data, settings()))
    b, _ = drain(train(lean, data, settings(gradient_checkpointing=True)))
    assert losses(a) == pytest.approx(losses(b), rel=1e-5)


def test_rslora_is_lora_with_a_larger_alpha(make_model: Make, data: Dataset) -> None:
    rs, plain = make_model(lora=LoraConfig(method="rslora", r=4, lora_alpha=8.0)), make_model(lora=LoraConfig(r=4, lora_alpha=16.0))
    a, _ = drain(train(rs, data, settings()))
    b, _ = drain(train(plain, data, settings()))
    assert losses(a) == losses(b)


@pytest.mark.parametrize(("method", "ratio"), [("lora", 2.0), ("rslora", 1.0)])
def test_first_gradient_norm_against_rank(make_model: Make, data: Dataset, method: str, ratio: float) -> None:
    """‖∂L/∂B‖ at the start is ∝ γ√r: halved by four times the rank for α/r, unchanged for α/√r (arXiv:2312.03732)."""
    norms = []
    for rank in (16, 64):
        runs = []
        for seed in range(6):
            model = make_model(adapted=False, d_model=64, d_ff=96)
            attach(model, LoraConfig(method=method, r=rank, lora_alpha=8.0), seed=seed)
            events, _ = drain(train(model, data, settings(max_steps=1)))
            runs.append(next(e.metrics["gradient_norm"] for e in events if e.name == "step"))
        norms.append(sum(runs) / len(runs))
    assert norms[0] / norms[1] == pytest.approx(ratio, rel=0.05)


def test_bfloat16_is_near_float32(make_model: Make, data: Dataset) -> None:
    a, _ = drain(train(make_model(), data, settings()))
    b, _ = drain(train(make_model(), data, settings(dtype="bfloat16")))
    assert losses(b) == pytest.approx(losses(a), rel=0.03)


def test_all_weights_can_be_trained(make_model: Make, data: Dataset) -> None:
    model = make_model(adapted=False)
    events, _ = drain(train(model, data, settings(max_steps=30, learning_rate=1e-2), adapter=None))
    assert losses(events)[-1] < losses(events)[0]
    assert model.lm_head.weight is model.embedding.weight


# ---- stop, pause, save, resume -------------------------------------------------------------------------------------


def test_a_stop_ends_after_the_step_and_saves(make_model: Make, data: Dataset, tmp_path: Path) -> None:
    control = Control()
    events = train(make_model(), data, settings(max_steps=50), folder=tmp_path, control=control)
    seen = []
    try:
        while True:
            event = next(events)
            seen.append(event)
            if event.name == "step" and event.step == 3:
                control.stop()
    except StopIteration as end:
        result = end.value
    assert (result.reason, result.steps) == ("stopped", 3)
    assert [c.name for c in checkpoints(tmp_path)] == ["checkpoint-000003"]


class StopsAfter(Control):
    """Asks for a stop once it has been looked at `looks` times."""

    def __init__(self, looks: int) -> None:
        super().__init__()
        self.looks = looks

    @property
    def stopping(self) -> bool:
        self.looks -= 1
        return self.looks < 0


def test_a_stop_between_micro_batches_drops_the_half_update(make_model: Make, data: Dataset) -> None:
    config = settings(max_steps=50, gradient_accumulation_steps=8)
    whole, cut = make_model(), make_model()
    reference, _ = drain(train(whole, data, settings(max_steps=1, gradient_accumulation_steps=8)))
    events, result = drain(train(cut, data, config, control=StopsAfter(1 + 8 + 4)))
    assert (result.reason, result.steps) == ("stopped", 1)
    assert result.final["loss"] == losses(events)[-1] == losses(reference)[-1]
    assert all(p.grad is None for p in cut.parameters())


def test_a_pause_says_so_and_goes_on_unchanged(make_model: Make, data: Dataset) -> None:
    straight, _ = drain(train(make_model(), data, settings()))
    control = Control()
    words: list[str] = []
    curve: list[float] = []
    for event in train(make_model(), data, settings(), control=control):
        if event.name == "phase":
            words.append(event.word)
            if event.word == "Paused":
                control.resume()
        if event.name == "step":
            curve.append(event.metrics["loss"])
            if event.step == 2:
                control.pause()
    assert words == ["Loading", "Training", "Paused", "Training"]
    assert curve == losses(straight)


def test_a_run_left_in_the_middle_gives_the_model_back(make_model: Make, data: Dataset) -> None:
    model = make_model(adapted=False)
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    for wanted in ("phase", "step"):
        events = train(model, data, settings(), adapter=None)
        while next(events).name != wanted:
            pass
        events.close()
        assert all(p.grad is None and not p.requires_grad for p in model.parameters())


def test_a_stop_without_saving_writes_nothing(make_model: Make, data: Dataset, tmp_path: Path) -> None:
    control = Control()
    events = train(make_model(), data, settings(max_steps=50), folder=tmp_path, control=control)
    for event in events:
        if event.name == "step":
            control.stop(save=False)
    assert checkpoints(tmp_path) == []


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_resumed_equals_never_stopped(make_model: Make, data: Dataset, tmp_path: Path, dropout: float) -> None:
    lora = LoraConfig(r=4, lora_alpha=8.0, lora_dropout=dropout)
    config = settings(max_steps=8, save_steps=4, gradient_accumulation_steps=2)
    whole = make_model(lora=lora)
    straight, _ = drain(train(whole, data, config))
    control = Control()
    first: list[float] = []
    for event in train(make_model(lora=lora), data, config, folder=tmp_path, control=control):
        if event.name == "step":
            first.append(event.metrics["loss"])
            if event.step == 5:
                control.stop()
    other = make_model(lora=lora)
    rest, result = drain(train(other, data, config, folder=tmp_path, resume=True))
    assert first + losses(rest) == losses(straight)
    assert result.reason == "done"
    for name, parameter in trainable_parameters(whole).items():
        assert torch.equal(parameter, trainable_parameters(other)[name]), name


def test_resume_with_other_settings_is_refused(make_model: Make, data: Dataset, tmp_path: Path) -> None:
    drain(train(make_model(), data, settings(), folder=tmp_path))
    with pytest.raises(FileError, match="learning_rate"):
        drain(train(make_model(), data, settings(learning_rate=1e-3), folder=tmp_path, resume=True))
    with pytest.raises(FileError, match="data"):
        drain(train(make_model(), dataset(seed=5), settings(), folder=tmp_path, resume=True))
    for other in (
        LoraConfig(r=8, lora_alpha=8.0),
        LoraConfig(r=4, lora_alpha=9.0),
        LoraConfig(r=4, lora_alpha=8.0, target_modules=("mlp",)),
    ):
        with pytest.raises(FileError, match="trained = 'lora r=4 alpha=8"):
            drain(train(make_model(lora=other), data, settings(), folder=tmp_path, resume=True))


def test_resuming_a_finished_run_changes_nothing(make_model: Make, data: Dataset, tmp_path: Path) -> None:
    _, first = drain(train(make_model(), data, settings(), folder=tmp_path, export=Path.mkdir))
    written = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")}
    _, again = drain(train(make_model(), data, settings(), folder=tmp_path, export=Path.mkdir, resume=True))
    assert again == first
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")} == written


def test_resume_without_a_checkpoint_says_so(make_model: Make, data: Dataset, tmp_path: Path) -> None:
    with pytest.raises(FileError, match="no checkpoint"):
        drain(train(make_model(), data, settings(), folder=tmp_path, resume=True))


def test_old_checkpoints_go_once_newer_ones_are_safe(make_model: Make, data: Dataset, tmp_path: Path) -> None:
    drain(train(make_model(), data, settings(max_steps=8, save_steps=2, save_total_limit=2), folder=tmp_path))
    assert [c.name for c in checkpoints(tmp_path)] == ["checkpoint-000006", "checkpoint-000008"]


KILLED = """
    import sys; sys.path.insert(0, {root!r})
    from pathlib import Path
    import torch; torch.set_num_threads(1)
    from tests.training.tools import dataset, make
    from workbench.training import TrainConfig, train
    for event in train(make(), dataset(), TrainConfig({config}), folder=Path({folder!r}), resume={resume}):
        if event.name == "step":
            print(event.step, repr(event.metrics["loss"]), flush=True)
"""


@pytest.mark.slow
def test_a_killed_run_resumes_with_the_same_losses(make_model: Make, data: Dataset, tmp_path: Path) -> None:
    config = 'max_steps=12, learning_rate=1e-2, dtype="float32", eval_steps=None, save_steps=1, max_length=32'
    straight, _ = drain(train(make_model(), data, settings(max_steps=12, save_steps=1)))
    root = Path(__file__).parents[2]

    def start(resume: bool) -> subprocess.Popen[str]:
        code = textwrap.dedent(KILLED).format(root=str(root), config=config, folder=str(tmp_path), resume=resume)
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment)

    seen: dict[int, float] = {}
    process = start(resume=False)
    assert process.stdout is not None
    for line in process.stdout:
        step, loss = line.split()
        seen[int(step)] = float(loss)
        if int(step) == 5:
            process.send_signal(signal.SIGKILL)
            break
    process.wait()
    process.stdout.close()
    again = start(resume=True)
    out, _ = again.communicate(timeout=60)
    rest = {int(line.split()[0]): float(line.split()[1]) for line in out.splitlines()}
    assert min(rest) >= 4, "no more than the steps since the last save are lost"
    assert [({**seen, **rest})[i] for i in range(1, 13)] == pytest.approx(losses(straight), rel=1e-6)


# ---- evaluation, divergence, refusals ------------------------------------------------------------------------------


def test_evaluation_reports_the_mean_loss_of_the_held_out_tokens(make_model: Make, data: Dataset) -> None:
    held = dataset(6, seed=9)
    model = make_model()
    events, result = drain(train(model, data, settings(max_steps=4, eval_steps=2), validation=held))
    evaluations = [e for e in events if e.name == "eval"]
    assert [e.step for e in evaluations] == [2, 4]
    total = 0.0
    with torch.inference_mode():
        for i in range(len(held)):
            ids, mask = held.sequence(i)
            logits = model(torch.tensor(ids[None].astype("int64")))[0, :-1].log_softmax(-1)
            total -= sum(float(logits[t - 1, int(ids[t])]) for t in range(1, len(ids)) if mask[t])
    assert evaluations[-1].metrics["eval_loss"] == pytest.approx(total / held.trained_tokens, rel=1e-5)
    assert result.final["eval_loss"] == evaluations[-1].metrics["eval_loss"]


def test_a_diverged_run_returns_to_the_last_good_state(make_model: Make, data: Dataset, tmp_path: Path) -> None:
    model = make_model()
    exported: list[Path] = []
    events = train(model, data, settings(max_steps=20), folder=tmp_path, export=exported.append)
    while getattr(next(events), "step", 0) < 3:
        pass
    with torch.no_grad():
        next(iter(trainable_parameters(model).values()))[0, 0] = float("nan")
    with pytest.raises(TrainingDiverged, match="step 4") as caught:
        drain(events)
    assert caught.value.good_step == 2
    assert exported[-1].name == "last-good-adapter"
    assert all(p.isfinite().all() for p in trainable_parameters(model).values())


def test_nothing_to_learn_is_refused(make_model: Make) -> None:
    empty = Dataset.of([([1, 2, 3], [False] * 3)])
    with pytest.raises(DataError, match="nothing to learn"):
        drain(train(make_model(), empty, settings()))


def test_a_missing_adapter_is_named(make_model: Make, data: Dataset) -> None:
    with pytest.raises(ConfigError, match="other"):
        drain(train(make_model(), data, settings(), adapter="other"))


def test_length_by_steps_or_epochs(data: Dataset) -> None:
    assert planned_steps(settings(max_steps=9), data) == 9
    by_epochs = settings(max_steps=None, num_train_epochs=2.0, per_device_train_batch_size=4, gradient_accumulation_steps=2)
    assert planned_steps(by_epochs, data) == 6  # 24 sequences, 6 batches a pass, 3 updates a pass


def test_no_global_state_changes(make_model: Make, data: Dataset) -> None:
    model = make_model(lora=LoraConfig(r=4, lora_dropout=0.5))
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    with torch.inference_mode():
        drain(train(model, data, settings()))
        assert torch.is_inference_mode_enabled()
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), state)


def test_metrics_are_declared(make_model: Make, data: Dataset) -> None:
    from workbench.core.metrics import METRICS

    events, _ = drain(train(make_model(), data, settings(max_steps=2, eval_steps=1), validation=dataset(3)))
    assert {name for e in events for name in e.metrics} <= set(METRICS)
    assert adapters_of(make_model(), "default")
