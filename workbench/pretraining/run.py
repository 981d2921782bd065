"""One run from scratch, from the request to the finished model."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import torch

from workbench.checkpoints import save_events
from workbench.core.control import Control
from workbench.core.errors import FileError
from workbench.core.events import Event, Phase
from workbench.core.fields import to_dict
from workbench.devices import Compute
from workbench.model import Transformer, build_model
from workbench.pretraining.prepare import TOKENIZER, Prepared, Resolve, prepared, require_request
from workbench.pretraining.samples import Samples
from workbench.requests import PretrainRequest
from workbench.runs import DONE, STOPPED, Run, fresh_folder, open_run, require_checkpoint, require_unused, writing
from workbench.tokenizers.train_bpe import write_pipeline
from workbench.training import SampleEvent, StepEvent, TrainingDiverged, TrainResult, train
from workbench.training.pace import Pace

MODEL = "model"
"""Folder, inside a run's, of the finished model."""


def pretrain(
    request: PretrainRequest, runs_folder: Path, compute: Compute, resolve: Resolve, control: Control
) -> Generator[Event, None, TrainResult]:
    """Train a fresh model in a run folder; the finished one lies in its `model` folder as a checkpoint of our own.

    A stop saves the model as far as it is, and resuming goes on as if it had never stopped. Raises what the rooms raise,
    before anything is written where the request or the data are at fault; later the run says "failed" and why.
    """
    require_request(request)
    folder = (request.out or fresh_folder(runs_folder, "pretrain")).expanduser().absolute()
    (require_checkpoint if request.resume else require_unused)(folder)
    ready = yield from prepared(request, request.model.max_positions, folder if request.resume else None, resolve, control)
    if ready is None:
        return TrainResult(reason="stopped", steps=0)
    return (yield from trained(replace(request, out=folder), ready, compute, control))


def trained(
    request: PretrainRequest, ready: Prepared, compute: Compute, control: Control, pace: Pace | None = None
) -> Generator[Event, None, TrainResult]:
    """Train on prepared data in the folder `request.out`."""
    assert request.out is not None  # `pretrain` and `pretrain_pair` have seen to it
    folder = request.out
    about: dict[str, object] = {"name": folder.name, "path": str(folder / MODEL), "format": "workbench", "family": "workbench"}
    about |= {"config": to_dict(ready.config)}
    with writing(folder, request.to_dict(), about, resume=request.resume) as run:
        run.update(data=ready.facts())
        if ready.pipeline is not None:
            write_pipeline(folder / TOKENIZER, ready.pipeline)
        yield Phase(word="Loading")
        with torch.inference_mode(False):
            model = build_model(ready.config, device=compute.device, seed=request.train.seed)
        try:
            result = yield from _steps(model, request, ready, run, control, pace)
        except TrainingDiverged as error:
            yield from _saved(model, ready, folder / f"last-good-{MODEL}")
            error.saved = folder / f"last-good-{MODEL}"
            raise
        keep = result.reason == "done" or control.save_on_stop
        if keep:
            yield Phase(word="Saving")
            yield from _saved(model, ready, folder / MODEL)
        status = {"done": DONE, "stopped": STOPPED}[result.reason]
        run.update(status=status, steps=result.steps, final=dict(result.final))
        return replace(result, model=folder / MODEL if keep else None, folder=folder)


def _steps(
    model: Transformer, request: PretrainRequest, ready: Prepared, run: Run, control: Control, pace: Pace | None
) -> Generator[Event, None, TrainResult]:
    """The events of training, with a sample wherever one is due, and one of the finished model."""
    corpus, config = ready.corpus, request.train
    samples = Samples(model, ready.tokenizer, ready.objective, corpus, config)
    steps = train(
        model, corpus.training, config, adapter=None, validation=corpus.validation, folder=run.folder, objective=ready.objective,
        pace=pace, resume=request.resume, control=control,
    )  # fmt: skip
    with closing(steps):
        while True:
            try:
                event = next(steps)
            except StopIteration as end:
                result: TrainResult = end.value
                break
            run.record(event)
            yield event
            if isinstance(event, StepEvent) and samples.due(event.step) and not control.stopping:
                yield _sample(samples, event.step, event.of, run, control)
    if result.reason == "done" and config.sample_every is not None and not samples.due(result.steps):
        yield _sample(samples, result.steps, result.steps, run, control)
    return result


def _sample(samples: Samples, step: int, of: int, run: Run, control: Control) -> SampleEvent:
    sample = SampleEvent(step=step, of=of, prompt=samples.prompt, text=samples.text(step, control))
    run.record(sample)
    return sample


def _saved(model: Transformer, ready: Prepared, path: Path) -> Generator[Event, None, None]:
    """Write the model and read it back. A stop that was asked for does not stop this."""
    yield from save_events(model, ready.tokenizer, ready.template, path, overwrite=True, control=Control())


def request_of(folder: Path, resume: bool = False) -> PretrainRequest:
    """What a run from scratch was asked, to ask it again or to go on. Raises `FileError` when the folder holds no such run."""
    asked = open_run(folder).manifest.get("request")
    if not isinstance(asked, dict) or "model" not in asked or "tokenizer" not in asked:
        raise FileError(f"{folder} holds no run from scratch.", hint="Choose the folder of such a run.")
    return PretrainRequest.from_dict(asked, out=folder, resume=resume)
