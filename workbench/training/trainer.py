"""The training loop, as a generator of events."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import Tensor

from workbench.adapters.dropout import mixed
from workbench.core.control import Control
from workbench.core.errors import ConfigError, DataError
from workbench.core.events import Event, Phase
from workbench.core.fields import require_usable, to_dict
from workbench.data import Batch, Dataset, batches, batches_per_epoch
from workbench.model import Transformer
from workbench.training.bench import Bench, bench_for, training_dtype
from workbench.training.config import TrainConfig
from workbench.training.evaluate import evaluate
from workbench.training.events import EvalEvent, SaveEvent, StepEvent, TrainEvent, TrainingDiverged, TrainResult
from workbench.training.loss import summed_loss
from workbench.training.memory import give_back_memory
from workbench.training.plan import identity
from workbench.training.precision import multiplying
from workbench.training.schedule import SCHEDULES, warmup_steps
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
_FREE = ("save_steps", "save_total_limit", "eval_steps", "dtype", "gradient_checkpointing")
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
    resume: bool = False,
    control: Control | None = None,
) -> Generator[Event, None, TrainResult]:
    """Train the adapter of that name (None: all weights) in place, yielding after each update, evaluation and save.

    The model itself stays as it is and may be used by others meanwhile; only the trained parameters change. `folder`
    receives `checkpoint-<step>` folders, each with what `export(path)` writes (an adapter in PEFT's format); `resume` goes
    on from the newest one, with the losses of a run that was never stopped. A stop (`control`) ends within one micro-batch;
    it saves unless `control.save_on_stop` is off, and the result's reason is "stopped". Changes no global torch state.

    Raises `TrainingDiverged` naming the step, with the parameters back at the last good one; `ConfigError`, `DataError`.
    """
    require_usable(config)
    if not data.trained_tokens:
        raise DataError("There is nothing to learn: no token of the data is a target.", hint="Look at the pre-flight report.")
    if resume and folder is None:
        raise ConfigError("A run without a folder has nothing to resume.", hint="Name the folder of the run.")
    control = control or Control()
    run = _Run(model, data, config, adapter, validation, folder, export)
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
    """Updates of a run: `max_steps`, or as many as the epochs take."""
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
        folder: Path | None, export: Export | None,
    ) -> None:  # fmt: skip
        self.config, self.data, self.validation, self.folder, self.export = config, data, validation, folder, export
        with torch.inference_mode(False):  # a caller may hold it; tensors made inside could not be trained
            self.bench: Bench = bench_for(model, adapter, training_dtype(config.dtype, model))
        self.steps = planned_steps(config, data)
        self.step = 0
        self.saved_step = -1
        self.final: dict[str, float] = {}
        self._parameters = list(self.bench.parameters.values())
        self._wanted_gradients = [p.requires_grad for p in self._parameters]
        for parameter in self._parameters:
            parameter.requires_grad_(True)
            parameter.grad = None
        self.bench.model.train()
        self.optimizer = self._optimizer()
        self.good = self._remembered()
        self._process = psutil.Process()
        free = {k: v for k, v in to_dict(config).items() if k not in _FREE}
        self.plan: dict[str, Any] = {**free, "steps": self.steps, "data": data.fingerprint(), "trained": self.bench.about}
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

    def events(self, control: Control) -> Generator[Event, None, TrainResult]:
        begun, first = time.perf_counter(), self.step
        micro = batches(
            self.data, self.config.per_device_train_batch_size, self.config.seed, None, self.step * self.config.gradient_accumulation_steps
        )
        while self.step < self.steps:
            if control.paused:
                yield Phase(word="Paused")
                give_back_memory()
                control.wait_while_paused()
                yield Phase(word="Training")
            started = time.perf_counter()
            with torch.inference_mode(False):
                group = None if control.stopping else self._update(micro, control)
            if group is None:
                return (yield from self._ended("stopped", save=control.save_on_stop))
            seconds = time.perf_counter() - started
            eta = (time.perf_counter() - begun) / (self.step - first) * (self.steps - self.step)
            tokens = sum(b.tokens for b in group)
            self.final["train_tokens_per_second"] = tokens / seconds
            self.final["process_bytes"] = float(self._process.memory_info().rss)
            targets = sum(b.targets for b in group)
            yield StepEvent(
                step=self.step, of=self.steps, tokens=tokens, trained_tokens=targets, seconds=seconds, eta_seconds=eta,
                metrics=self._measured(),
            )  # fmt: skip
            yield from self._evaluation(control)
            if self._due(self.config.save_steps) and self.step < self.steps:
                yield from self._save()
        return (yield from self._ended("done", save=True))

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
        return TrainResult(reason=reason, steps=self.step, final=dict(self.final), adapter=adapter)

    def _update(self, micro: Iterator[Batch], control: Control) -> list[Batch] | None:
        """One update of the parameters; None when a stop came first (nothing is changed then)."""
        group = [next(micro) for _ in range(self.config.gradient_accumulation_steps)]
        targets = max(1, sum(b.targets for b in group))
        rate, loss = self._rate(), 0.0
        for number, batch in enumerate(group):
            if control.stopping:
                self._forget_gradients()
                return None
            loss += self._accumulate(batch, targets, number)
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

    def _accumulate(self, batch: Batch, targets: int, number: int) -> float:
        """Add the gradients of one micro-batch, weighted so that all tokens of the update count alike; returns its share
        of the update's mean loss."""
        bench = self.bench
        batch = settled(batch, bench.model.config.max_positions)
        if bench.selection is not None:
            bench.selection.noise = mixed(self.config.seed, self.step, number)
        with torch.enable_grad(), multiplying(bench):
            hidden = bench.hidden(batch, recompute=self.config.gradient_checkpointing)
            loss = summed_loss(bench.model, hidden, batch.labels.to(hidden.device)) / targets
        loss.backward()  # type: ignore[no-untyped-call]
        return float(loss.detach())

    def _rate(self) -> float:
        c = self.config
        warmup = warmup_steps(self.steps, c.warmup_ratio)
        return c.learning_rate * SCHEDULES[c.lr_scheduler_type].factor(self.step, self.steps, warmup)

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
            hint=f"The adapter of step {self.good.step} is kept. Lower the rate ({self.config.learning_rate:g}) or warm up longer.",
            step=failed, good_step=self.good.step, saved=saved,
        )  # fmt: skip

    # ---- evaluation and saving -----------------------------------------------------------------------------------

    def _evaluation(self, control: Control) -> Generator[TrainEvent, None, None]:
        every = self.config.eval_steps
        if every is None or self.validation is None or not len(self.validation) or not (self._due(every) or self.step == self.steps):
            return
        started = time.perf_counter()
        found = evaluate(self.bench, self.validation, self.config.per_device_train_batch_size, lambda: control.stopping)
        if found is not None:
            self.final["eval_loss"] = found[0]
            seconds = time.perf_counter() - started
            yield EvalEvent(step=self.step, of=self.steps, tokens=found[1], seconds=seconds, metrics={"eval_loss": found[0]})

    def _save(self) -> Generator[TrainEvent, None, Path | None]:
        """Write a checkpoint, unless the newest one is of this very step already."""
        if self.folder is None:
            return None
        if self.step == self.saved_step:
            return newest_checkpoint(self.folder)
        tensors = optimizer_tensors(self.optimizer, self.bench.parameters)
        parameters: dict[str, Tensor] = dict(self.bench.parameters)
        state = TrainState(self.step, parameters, tensors, dict(self.final), self.plan)
        path = save_state(self.folder, state, self.export, self.config.save_total_limit)
        self.saved_step = self.step
        yield SaveEvent(step=self.step, of=self.steps, path=path)
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
        self.good = self._remembered()
