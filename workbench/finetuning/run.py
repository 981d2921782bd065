"""One fine-tune from data to adapter: the steps between the rooms, for the session to run."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Generator
from contextlib import closing
from dataclasses import replace
from itertools import count
from pathlib import Path

import torch

from workbench import adapters
from workbench.adapters.peft import save_adapter
from workbench.appraisal import free_memory
from workbench.checkpoints import Loaded, save_events
from workbench.core.control import Control
from workbench.core.errors import ConfigError, ModelError
from workbench.core.events import Event, Notice, Phase
from workbench.core.fields import require_usable
from workbench.core.format import bytes_text
from workbench.core.store import atomic_folder
from workbench.data import DataConfig, DataReport, Prepared, load_data
from workbench.finetuning.samples import Samples
from workbench.model import Transformer
from workbench.quantization import is_quantized
from workbench.requests import FinetuneRequest, ModelSummary
from workbench.runs import DONE, STOPPED, Run, fresh_folder, require_checkpoint, writing
from workbench.tokenizers import Tokenizer, chat_template
from workbench.training import StepEvent, TrainingDiverged, TrainResult, train

BASE, MODEL = "base", "model"
"""Folders, inside a run's: of a base model that lay nowhere else, and of a model all of whose weights were trained."""
_COPIES = 5
"""Copies of all weights that training them takes: the weights, their gradients, two moments, the last good state."""
_HIGHEST_FULL_RATE = 3e-4
_names = count()


def prepare_data(
    loaded: Loaded, tokenizer: Tokenizer, config: DataConfig, max_length: int, control: Control
) -> Generator[Event, None, Prepared]:
    """Read and encode the data with the model's own chat template (ChatML for a model that has none)."""
    require_usable(config)
    yield Phase(word="Checking data")
    template = chat_template(loaded.chat_template, tokenizer)
    longest = min(max_length, loaded.config.max_positions)
    return (yield from load_data(config, tokenizer, template, longest, control))


def finetune(
    loaded: Loaded, summary: ModelSummary, tokenizer: Tokenizer, request: FinetuneRequest, runs_folder: Path, control: Control
) -> Generator[Event, None, TrainResult]:
    """Train an adapter of `loaded`, or all weights of a copy, in a run folder; the model itself stays as it is and may be used
    meanwhile.

    The adapter is taken off the model again at the end: who wants to use it reads it from the folder. A converted model, which
    is not on disk, is saved into the run's folder first, so that the adapter has a base. Raises what the rooms raise; the run
    then says "failed" and why.
    """
    require_usable(request.lora)
    require_usable(request.train)
    if request.resume and request.out is None:
        raise ConfigError("There is no run to resume.", hint="Name its folder.")
    if request.resume and request.out is not None:
        require_checkpoint(request.out.expanduser())
    prepared = yield from prepare_data(loaded, tokenizer, request.data, request.train.max_length, control)
    if control.stopping:
        return TrainResult(reason="stopped", steps=0)
    prepared.report.require_usable()
    if prepared.report.dropped:
        yield Notice(message=_dropped(prepared.report), level="warning")
    if request.full and request.train.learning_rate > _HIGHEST_FULL_RATE:
        rate = f"{request.train.learning_rate:g}"
        yield Notice(message=f"A learning rate of {rate} suits adapters; for all weights 1e-5 to 1e-4 is usual.", level="warning")
    folder = (request.out or fresh_folder(runs_folder, "full" if request.full else request.lora.method)).expanduser()
    if summary.converted:
        summary = replace(summary, path=(folder / BASE).absolute(), format="workbench", family="workbench")
    model = {"name": summary.name, "path": str(summary.path), "format": summary.format, "family": summary.family}
    with writing(folder, request.to_dict(), model, resume=request.resume) as run:
        run.update(data=_data_facts(prepared))
        if summary.converted and not (request.resume and summary.path.exists()):
            yield from _save_base(loaded, summary.path)
        if request.full:
            return (yield from _run_all(loaded, tokenizer, request, prepared, run, control))
        return (yield from _run(loaded, summary, tokenizer, request, prepared, run, control))


def _save_base(loaded: Loaded, path: Path) -> Generator[Event, None, None]:
    yield Notice(message=f"The converted model is saved beside the run, in {path}: without it the result could not be used again.")
    with torch.inference_mode(False):
        bare = _bare_copy(loaded.model) if adapters.adapter_names(loaded.model) else loaded.model
    yield from save_events(bare, loaded.tokenizer, loaded.chat_template, path, overwrite=True, control=Control())


def _bare_copy(model: Transformer) -> Transformer:
    """A copy of the model without its adapters."""
    twin = copy.deepcopy(model)
    for name in adapters.adapter_names(twin):
        adapters.detach(twin, name)
    return twin


def _run(
    loaded: Loaded, summary: ModelSummary, tokenizer: Tokenizer, request: FinetuneRequest, prepared: Prepared, run: Run, control: Control
) -> Generator[Event, None, TrainResult]:
    name = f"run-{next(_names)}"
    training, validation = prepared.dataset.split(request.data.validation_fraction, request.train.seed)
    adapters.attach(loaded.model, request.lora, name, seed=request.train.seed, strength=0.0)  # only the run feels it
    try:

        def export(path: Path) -> None:
            save_adapter(loaded.model, name, path, summary.family, base_model=str(summary.path))

        steps = train(
            loaded.model, training, request.train, adapter=name, validation=validation, folder=run.folder, export=export,
            resume=request.resume, control=control,
        )  # fmt: skip
        samples = Samples(loaded, tokenizer, loaded.model, name, request.data, request.train)
        result = yield from _recorded(steps, run, samples, control, resumed=request.resume)
    finally:
        adapters.detach(loaded.model, name)
    status = {"done": DONE, "stopped": STOPPED}[result.reason]
    adapter = _publish(result.adapter, run.folder) if result.adapter is not None else None
    run.update(status=status, steps=result.steps, final=dict(result.final), best_step=result.best_step)
    return replace(result, adapter=adapter, folder=run.folder)


def _recorded(
    steps: Generator[Event, None, TrainResult], run: Run, samples: Samples, control: Control, *, resumed: bool
) -> Generator[Event, None, TrainResult]:
    """The events of training, kept in the run's record, with answers to the questions before it, on the way and at its end."""
    asked = -1
    with closing(steps):  # it gives the parameters back before they are taken off
        while True:
            try:
                event = next(steps)
            except StopIteration as end:
                result: TrainResult = end.value
                break
            run.record(event)
            yield event
            if isinstance(event, Phase) and event.word == "Training" and asked < 0 and not resumed:
                asked = 0
                yield from _answers(samples, 0, 0, run, control)
            elif isinstance(event, StepEvent) and samples.due(event.step):
                asked = event.step
                yield from _answers(samples, event.step, event.of, run, control)
        if result.reason == "done" and asked != result.steps:
            yield from _answers(samples, result.steps, result.steps, run, control)
    return result


def _answers(samples: Samples, step: int, of: int, run: Run, control: Control) -> Generator[Event, None, None]:
    for answer in samples.events(step, of, control):
        run.record(answer)
        yield answer


def _run_all(
    loaded: Loaded, tokenizer: Tokenizer, request: FinetuneRequest, prepared: Prepared, run: Run, control: Control
) -> Generator[Event, None, TrainResult]:
    """Train every weight of a copy; the result is a checkpoint of our own in the run's folder."""
    if is_quantized(loaded.model):
        raise ModelError("Quantized weights cannot be trained.", hint="Train an adapter over them, or go back to full precision first.")
    needed, free = _COPIES * sum(p.nbytes for p in loaded.model.parameters()), free_memory(loaded.model.device)
    if needed > free:
        raise ModelError(
            f"Training all weights takes {bytes_text(needed)} of memory; {bytes_text(free)} are free.",
            hint="Train an adapter (LoRA) instead, which takes a fraction of that.",
        )
    training, validation = prepared.dataset.split(request.data.validation_fraction, request.train.seed)
    with torch.inference_mode(False):
        model = _bare_copy(loaded.model)
    steps = train(
        model, training, request.train, adapter=None, validation=validation, folder=run.folder, resume=request.resume, control=control
    )
    samples = Samples(loaded, tokenizer, model, None, request.data, request.train)
    try:
        result = yield from _recorded(steps, run, samples, control, resumed=request.resume)
    except TrainingDiverged as error:
        error.saved = run.folder / f"last-good-{MODEL}"
        yield from save_events(model, loaded.tokenizer, loaded.chat_template, error.saved, overwrite=True, control=Control())
        raise
    keep = result.reason == "done" or control.save_on_stop
    if keep:
        yield Phase(word="Saving")
        yield from save_events(model, loaded.tokenizer, loaded.chat_template, run.folder / MODEL, overwrite=True, control=Control())
    status = {"done": DONE, "stopped": STOPPED}[result.reason]
    run.update(status=status, steps=result.steps, final=dict(result.final), best_step=result.best_step)
    return replace(result, model=run.folder / MODEL if keep else None, folder=run.folder)


def _publish(saved: Path, folder: Path) -> Path:
    """Copy the last checkpoint's adapter to where people and programs look for it. Raises `FileError` when it cannot be."""
    target = folder / "adapter"
    with atomic_folder(target) as part:
        for source in sorted(saved.rglob("*")):  # not copytree, whose errors no longer say that the disk is full
            copy = part / source.relative_to(saved)
            copy.mkdir() if source.is_dir() else shutil.copyfile(source, copy)
    return target


def _data_facts(prepared: Prepared) -> dict[str, object]:
    report = prepared.report
    return {
        "fingerprint": prepared.dataset.fingerprint(), "rows": report.rows, "kept": report.kept, "dropped": report.dropped,
        "truncated": report.truncated, "tokens": report.tokens, "trained_tokens": report.trained_tokens,
    }  # fmt: skip


def _dropped(report: DataReport) -> str:
    first = report.problems[0]
    where = f"row {first.row} of {first.file}" if first.row else first.file
    return f"{report.dropped} of {report.rows} rows are left out; the first is {where}: {first.reason}"
