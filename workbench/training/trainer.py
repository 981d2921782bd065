"""The training loop, as a generator of events."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import Tensor

from workbench.adapters.dropout import mixed
from workbench.core.control import Control
from workbench.core.errors import ConfigError, DataError
from workbench.core.events import Event, Notice, Phase
from workbench.core.fields import require_usable, to_dict
from workbench.data import Batch, Dataset, batches, batches_per_epoch
from workbench.model import Transformer
from workbench.training.bench import Bench, bench_for, training_dtype
from workbench.training.best import BEST, Best, best_parameters, save_best
from workbench.training.config import TrainConfig
from workbench.training.evaluate import evaluate
from workbench.training.events import EvalEvent, ProbeEvent, SaveEvent, StepEvent, TrainEvent, TrainingDiverged, TrainResult
from workbench.training.loss import summed_loss
from workbench.training.memory import give_back_memory
from workbench.training.objectives import NextToken, Objective, Task
from workbench.training.pace import ClockPace, Pace, StepPace
from workbench.training.plan import identity
from workbench.training.precision import multiplying
from workbench.training.probes import Probes
from workbench.training.schedule import SCHEDULES
from workbench.training.shapes import settled
from workbench.training.state import (
    TrainState,
    load_state,
    newest_checkpoint,
    optimizer_tensors,
    restore_optimizer,
    restore_parameters,
    same_plan,
    save_state,
)

Export = Callable[[Path], object]
_FREE = (
    "save_steps", "save_total_limit", "eval_steps", "dtype", "gradient_checkpointing", "probe_every", "sample_every", "sample_tokens",
    "sample_prompt", "early_stopping_patience", "load_best_model_at_end",
)  # fmt: skip
"""Settings that may differ between a stopped run and its resume, because they do not change what is computed per update
(the precision and recomputation do so only within rounding, and are a person's way out of a full memory)."""


def train(
    model: Transformer,
    data: Dataset,
    config: TrainConfig,
    *,
    adapter: str | None = "default",
    validation: Dataset | None = None,
    folder: Path | None = None,
    export: Export | None = None,
    objective: Objective | None = None,
    pace: Pace | None = None,
    resume: bool = False,
    control: Control | None = None,
) -> Generator[Event, None, TrainResult]:
    """Train the adapter of that name (None: all weights) in place, yielding after each update, evaluation and save.

    The model itself stays as it is and may be used by others meanwhile; only the trained parameters change. `folder`
    receives `checkpoint-<step>` folders, each with what `export(path)` writes (an adapter in PEFT's format); `resume` goes
    on from the newest one, with the losses of a run that was never stopped. A stop (`control`) ends within one micro-batch;
    it saves unless `control.save_on_stop` is off, and the result's reason is "stopped". `objective` says what is learnt (None:
    the next token); `pace` is for those who share one among runs. Changes no global torch state.

    Raises `TrainingDiverged` naming the step, with the parameters back at the last good one; `ConfigError`, `DataError`.
    """
    require_usable(config)
    if not data.trained_tokens:
        raise DataError("There is nothing to learn: no token of the data is a target.", hint="Look at the pre-flight report.")
    if resume and folder is None:
        raise ConfigError("A run without a folder has nothing to resume.", hint="Name the folder of the run.")
    control = control or Control()
    objective = objective or NextToken()
    if model.config.causal != objective.causal:
        raise ConfigError("A model that sees the whole text learns by masked tokens, any other by the next one.", hint="See objective_for.")
    run = _Run(model, data, config, adapter, validation, folder, export, objective, pace)
    try:
        yield Phase(word="Loading")
        if resume:
            run.restore()
        yield Phase(word="Training")
        return (yield from run.events(control))
    finally:
        run.close()
        del run  # and with it the narrowed weights
        give_back_memory()


def planned_steps(config: TrainConfig, data: Dataset) -> int:
    """Updates of a run that no clock ends: `max_steps`, or as many as the epochs take."""
    if config.max_steps is not None:
        return config.max_steps
    per_epoch = batches_per_epoch(data, config.per_device_train_batch_size) / config.gradient_accumulation_steps
    return max(1, math.ceil(per_epoch * config.num_train_epochs))


@dataclass
class _Good:
    """The last state whose loss was finite: what a diverged run falls back to."""

    step: int
    parameters: list[Tensor] = field(default_factory=list)


class _Run:
    """One run's moving parts. Events come from `events`; everything else is a step of it."""

    def __init__(
        self, model: Transformer, data: Dataset, config: TrainConfig, adapter: str | None, validation: Dataset | None,
        folder: Path | None, export: Export | None, objective: Objective, pace: Pace | None,
    ) -> None:  # fmt: skip
        self.config, self.data, self.validation, self.folder, self.export = config, data, validation, folder, export
        self.objective = objective
        steps = planned_steps(config, data) if config.max_minutes is None else None
        self.pace = pace or (ClockPace(60 * (config.max_minutes or 0)) if steps is None else StepPace(steps))
        with torch.inference_mode(False):  # a caller may hold it; tensors made inside could not be trained
            self.bench: Bench = bench_for(model, adapter, training_dtype(config.dtype, model))
        self.step = 0
        self.saved_step = -1
        self.final: dict[str, float] = {}
        self.best = Best()
        self._parameters = list(self.bench.parameters.values())
        self._wanted_gradients = [p.requires_grad for p in self._parameters]
        for parameter in self._parameters:
            parameter.requires_grad_(True)
            parameter.grad = None
        self.bench.model.train()
        self.optimizer = self._optimizer()
        self.good = self._remembered()
        self._probes = Probes(self.bench.model, self.bench.parameters)
        self._seen: dict[str, float] = {}
        self._process = psutil.Process()
        free = {k: v for k, v in to_dict(config).items() if k not in _FREE}
        self.plan: dict[str, Any] = {**free, "steps": steps, "data": data.fingerprint(), "trained": self.bench.about}
        self.plan |= identity(model, self.bench.parameters)

    def _optimizer(self) -> torch.optim.AdamW:
        c = self.config
        matrices = [p for p in self._parameters if p.dim() >= 2]
        vectors = [p for p in self._parameters if p.dim() < 2]
        groups = [{"params": matrices, "weight_decay": c.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
        betas = (c.adam_beta1, c.adam_beta2)
        return torch.optim.AdamW([g for g in groups if g["params"]], lr=c.learning_rate, betas=betas, eps=c.adam_epsilon, fused=True)

    def _remembered(self) -> _Good:
        with torch.inference_mode(False):
            return _Good(self.step, [p.detach().clone() for p in self._parameters])

    def close(self) -> None:
        """Give the parameters back as they were found, without gradients."""
        for parameter, wanted in zip(self._parameters, self._wanted_gradients, strict=True):
            parameter.grad = None
            parameter.requires_grad_(wanted)

    # ---- the loop ------------------------------------------------------------------------------------------------

    @property
    def of(self) -> int:
        """Updates of the whole run, an estimate while the clock decides."""
        return self.pace.planned(self.step)

    def events(self, control: Control) -> Generator[Event, None, TrainResult]:
        begun, first = time.perf_counter(), self.step
        micro = batches(
            self.data, self.config.per_device_train_batch_size, self.config.seed, None, self.step * self.config.gradient_accumulation_steps
        )
        while not self.pace.over(self.step):
            if control.paused:
                yield Phase(word="Paused")
                give_back_memory()
                paused = time.perf_counter()
                control.wait_while_paused()
                self.pace.away(time.perf_counter() - paused)
                yield Phase(word="Training")
            started = time.perf_counter()
            with torch.inference_mode(False):
                group = None if control.stopping else self._update(micro, control)
            if group is None:
                return (yield from self._ended("stopped", save=control.save_on_stop))
            yield self._told(group, time.perf_counter() - started, (time.perf_counter() - begun) / (self.step - first))
            if self._seen:
                yield ProbeEvent(step=self.step, of=self.of, metrics=self._seen)
            yield from self._evaluation(control)
            if self._gave_up():
                yield Notice(message=f"The loss on the held-out examples was lowest at step {self.best.step:,}; the run ends early.")
                break
            if self._due(self.config.save_steps) and not self.pace.over(self.step):
                yield from self._save()
        return (yield from self._ended("done", save=True))

    def _told(self, group: list[Batch], seconds: float, seconds_each: float) -> StepEvent:
        """The event of the update that was just made; `seconds_each` is an update's share of the run so far."""
        tokens = sum(b.tokens for b in group)
        self.final["train_tokens_per_second"] = tokens / seconds
        self.final["process_bytes"] = float(self._process.memory_info().rss)
        return StepEvent(
            step=self.step, of=self.of, tokens=tokens, trained_tokens=self._targets, seconds=seconds,
            eta_seconds=self.pace.left(self.step, seconds_each), metrics=self._measured(),
        )  # fmt: skip

    def _measured(self) -> dict[str, float]:
        return {k: v for k, v in self.final.items() if k != "eval_loss"}

    def _due(self, every: int | None) -> bool:
        return every is not None and self.step % every == 0

    def _ended(self, reason: str, save: bool) -> Generator[TrainEvent | Phase, None, TrainResult]:
        saved = None
        if save and self.folder is not None:
            yield Phase(word="Saving")
            saved = yield from self._save()
        adapter = saved / "adapter" if saved is not None and self.export is not None else None
        best = self.best.step if self.best.known else None
        if best not in (None, self.step) and self.config.load_best_model_at_end and adapter is not None and self.folder is not None:
            adapter = self.folder / BEST / "adapter"
        elif best not in (None, self.step) and self.config.load_best_model_at_end and saved is not None:
            restore_parameters(self.bench.parameters, best_parameters(saved.parent))
        return TrainResult(reason=reason, steps=self.step, final=dict(self.final), adapter=adapter, best_step=best)

    def _update(self, micro: Iterator[Batch], control: Control) -> list[Batch] | None:
        """One update of the parameters; None when a stop came first (nothing is changed then)."""
        group = [next(micro) for _ in range(self.config.gradient_accumulation_steps)]
        tasks = [self.objective.task(batch, self._noise(number)) for number, batch in enumerate(group)]
        self._targets = sum(t.count for t in tasks)
        rate, loss = self._rate(), 0.0
        probed = self.config.probe_every is not None and (self.step + 1) % self.config.probe_every == 0
        for number, task in enumerate(tasks):
            if control.stopping:
                self._forget_gradients()
                return None
            loss += self._accumulate(task, max(1, self._targets), number, probed)
        self._seen = self._probes.values() if probed else {}
        norm = self._clip()
        if not math.isfinite(loss) or not math.isfinite(norm):
            self._diverged(loss, norm)
        self.good = _Good(self.step, [g.copy_(p.detach()) for g, p in zip(self.good.parameters, self._parameters, strict=True)])
        for group_of in self.optimizer.param_groups:
            group_of["lr"] = rate
        self.optimizer.step()
        self._forget_gradients()
        self.step += 1
        self.final |= {"loss": loss, "learning_rate": rate, "gradient_norm": norm}
        return group

    def _noise(self, number: int) -> int:
        """Seed of what is drawn for one micro-batch of the next update."""
        return mixed(self.config.seed, self.step, number)

    def _accumulate(self, task: Task, targets: int, number: int, probed: bool) -> float:
        """Add the gradients of one micro-batch, weighted so that all targets of the update count alike; returns its share
        of the update's mean loss."""
        bench = self.bench
        task = settled(task, bench.model.config.max_positions)
        if bench.selection is not None:
            bench.selection.noise = self._noise(number)
        with torch.enable_grad(), multiplying(bench):
            with self._probes.watching(task.positions) if probed else nullcontext():
                hidden = bench.hidden(task, recompute=self.config.gradient_checkpointing)
            loss = summed_loss(bench.model, hidden, task.targets.to(hidden.device)) / targets
        loss.backward()  # type: ignore[no-untyped-call]
        return float(loss.detach())

    def _rate(self) -> float:
        c = self.config
        return c.learning_rate * self.pace.factor(self.step, SCHEDULES[c.lr_scheduler_type], c.warmup_ratio)

    def _clip(self) -> float:
        limit = self.config.max_grad_norm or math.inf
        return float(torch.nn.utils.clip_grad_norm_(self._parameters, limit, foreach=True))

    def _forget_gradients(self) -> None:
        for parameter in self._parameters:
            parameter.grad = None

    @torch.no_grad()
    def _diverged(self, loss: float, norm: float) -> None:
        self._forget_gradients()
        for parameter, good in zip(self._parameters, self.good.parameters, strict=True):
            parameter.copy_(good)
        failed, self.step = self.step + 1, self.good.step
        saved = None
        if self.folder is not None and self.export is not None:
            saved = self.folder / "last-good-adapter"
            self.export(saved)
        what = f"the loss is {loss}" if not math.isfinite(loss) else f"the gradient norm is {norm}"
        raise TrainingDiverged(
            f"Training diverged at step {failed}: {what}.",
            hint=f"That of step {self.good.step} is kept. Lower the rate ({self.config.learning_rate:g}) or warm up longer.",
            step=failed, good_step=self.good.step, saved=saved,
        )  # fmt: skip

    # ---- evaluation and saving -----------------------------------------------------------------------------------

    def _evaluation(self, control: Control) -> Generator[TrainEvent, None, None]:
        every = self.config.eval_steps
        if every is None or self.validation is None or not len(self.validation) or not (self._due(every) or self.pace.over(self.step)):
            return
        started = time.perf_counter()
        batch = self.config.per_device_train_batch_size
        found = evaluate(self.bench, self.validation, batch, lambda: control.stopping, self.objective)
        if found is not None:
            self.final["eval_loss"] = found[0]
            seconds = time.perf_counter() - started
            yield EvalEvent(step=self.step, of=self.of, tokens=found[1], seconds=seconds, metrics={"eval_loss": found[0]})
            if self.best.judge(self.step, found[0]):
                self._save_best()

    def _save_best(self) -> None:
        """An adapter is small and always kept; all weights only where they are asked for."""
        wanted = self.export is not None or self.config.load_best_model_at_end
        if self.folder is not None and wanted:
            save_best(self.folder, self.best, self.bench.parameters if self.export is None else None, self.export)

    def _gave_up(self) -> bool:
        patience = self.config.early_stopping_patience
        return patience is not None and self.best.since >= patience and not self.pace.over(self.step)

    def _save(self) -> Generator[TrainEvent, None, Path | None]:
        """Write a checkpoint, unless the newest one is of this very step already."""
        if self.folder is None:
            return None
        if self.step == self.saved_step:
            return newest_checkpoint(self.folder)
        tensors = optimizer_tensors(self.optimizer, self.bench.parameters)
        parameters: dict[str, Tensor] = dict(self.bench.parameters)
        state = TrainState(self.step, parameters, tensors, dict(self.final), self.plan, self.pace.spent(self.step), self.best.to_dict())
        path = save_state(self.folder, state, self.export, self.config.save_total_limit)
        self.saved_step = self.step
        yield SaveEvent(step=self.step, of=self.of, path=path)
        return path

    @torch.no_grad()
    def restore(self) -> None:
        """Go on where the newest checkpoint stopped."""
        assert self.folder is not None  # `train` has seen to it
        with torch.inference_mode(False):
            state = load_state(newest_checkpoint(self.folder))
        same_plan(state.plan, self.plan)
        restore_parameters(self.bench.parameters, state.parameters)
        restore_optimizer(self.optimizer, self.bench.parameters, state.optimizer)
        self.step = self.saved_step = state.step
        self.final = dict(state.final)
        self.best = Best.from_dict(state.best)
        self.pace.resume(state.step, state.spent)
        self.good = self._remembered()
