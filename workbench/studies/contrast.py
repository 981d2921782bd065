"""A small model that is trained once, on data every machine has, and found again: what a study sets beside the loaded one."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import torch

from workbench.checkpoints import Loaded, load_checkpoint, save_checkpoint
from workbench.core.control import Control
from workbench.core.errors import WorkbenchError
from workbench.core.events import Event, Notice, Phase, Progress
from workbench.data import DataConfig, read_documents, windows
from workbench.model import PRESETS, build_model
from workbench.studies.base import StudyContext
from workbench.tokenizers import CHATML, ByteTokenizer, chat_template
from workbench.training import PretrainConfig, StepEvent, train
from workbench.training.objectives import NextToken

_ROWS = 600
"""Docstrings read: about as many bytes as a few hundred steps see."""


def small_model(
    context: StudyContext, preset: str, steps: int, control: Control, *, rows: int = _ROWS, length: int = 128
) -> Generator[Event, None, Loaded | None]:
    """A byte-level model of a preset's architecture after `steps` updates on the built-in documentation; read from
    `context.home` when it was trained before. None when `control` stopped it: half a training is not kept."""
    place = context.home / f"{preset}-{steps}"
    if place.is_dir():
        try:
            return load_checkpoint(place, context.compute.device)
        except WorkbenchError as error:
            yield Notice(message=f"The small model of an earlier study cannot be read and is trained again: {error.message}")
    if not (yield from _trained(context, preset, steps, control, place, rows, length)):
        return None
    return load_checkpoint(place, context.compute.device)


def _trained(
    context: StudyContext, preset: str, steps: int, control: Control, place: Path, rows: int, length: int
) -> Generator[Event, None, bool]:
    yield Phase(word="Training")
    documents = yield from read_documents(DataConfig(sources=("stdlib-docstrings",), max_rows=rows), control)
    if documents.stopped:
        return False
    tokenizer = ByteTokenizer(mask=False)
    corpus = yield from windows(
        documents, tokenizer, chat_template(CHATML, tokenizer), length=length, lookahead=1, fraction=0.0, seed=0, control=control
    )
    if corpus.stopped:
        return False
    config = replace(PRESETS[preset].config, vocab_size=tokenizer.vocab_size, max_positions=length)
    settings = PretrainConfig(
        max_steps=steps, per_device_train_batch_size=16, max_length=length, eval_steps=None, save_steps=None, sample_every=None, seed=0
    )
    with torch.inference_mode(False):
        model = build_model(config, device=context.compute.device, seed=0)
    run = train(model, corpus.training, settings, adapter=None, objective=NextToken(), control=control)
    with closing(run):
        while True:
            try:
                event = next(run)
            except StopIteration as end:
                if end.value.reason != "done":
                    return False
                break
            if isinstance(event, StepEvent):
                loss = event.metrics["loss"]
                yield Progress(message=f"Training the small model, loss {loss:.2f}", done=event.step, total=steps, unit="steps")
    place.parent.mkdir(parents=True, exist_ok=True)
    save_checkpoint(model, tokenizer, None, place, overwrite=True)
    return True
