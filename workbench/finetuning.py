"""One fine-tune from data to adapter: the steps between the rooms, for the session to run."""

from __future__ import annotations

import shutil
from collections.abc import Generator
from contextlib import closing
from itertools import count
from pathlib import Path

from workbench import adapters
from workbench.adapters.peft import save_adapter
from workbench.checkpoints import Loaded
from workbench.core.control import Control
from workbench.core.errors import ConfigError
from workbench.core.events import Event, Notice, Phase
from workbench.core.fields import require_usable
from workbench.core.store import atomic_folder
from workbench.data import DataConfig, DataReport, Prepared, load_data
from workbench.requests import FinetuneRequest, ModelSummary
from workbench.runs import DONE, STOPPED, Run, fresh_folder, require_checkpoint, writing
from workbench.tokenizers import Tokenizer, chat_template
from workbench.training import TrainResult, train

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
    """Train an adapter of `loaded` in a run folder; the model itself stays as it is and may be used meanwhile.

    The adapter is taken off the model again at the end: who wants to use it reads it from the folder. Raises what the rooms
    raise; the run then says "failed" and why.
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
    folder = (request.out or fresh_folder(runs_folder, request.lora.method)).expanduser()
    model = {"name": summary.name, "path": str(summary.path), "format": summary.format, "family": summary.family}
    with writing(folder, request.to_dict(), model, resume=request.resume) as run:
        run.update(data=_data_facts(prepared))
        return (yield from _run(loaded, summary, request, prepared, run, control))


def _run(
    loaded: Loaded, summary: ModelSummary, request: FinetuneRequest, prepared: Prepared, run: Run, control: Control
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
        with closing(steps):  # it gives the parameters back before they are taken off
            while True:
                try:
                    event = next(steps)
                except StopIteration as end:
                    result: TrainResult = end.value
                    break
                run.record(event)
                yield event
    finally:
        adapters.detach(loaded.model, name)
    status = {"done": DONE, "stopped": STOPPED}[result.reason]
    adapter = _publish(result.adapter, run.folder) if result.adapter is not None else None
    run.update(status=status, steps=result.steps, final=dict(result.final))
    return TrainResult(reason=result.reason, steps=result.steps, final=result.final, adapter=adapter)


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
