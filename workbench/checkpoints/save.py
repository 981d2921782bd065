"""From a model in memory to a folder, and the proof that it arrived."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

import torch

from workbench.checkpoints.formats import FORMATS, Content, find_format, savable
from workbench.checkpoints.load import expected_shapes, load_checkpoint, parameters_of
from workbench.core.control import Control
from workbench.core.errors import FileError, ModelError, WorkbenchError
from workbench.core.events import Event, Progress
from workbench.model import Transformer
from workbench.tokenizers import Tokenizer

_PROBE_TOKENS = 32


@dataclass(frozen=True)
class SaveReport:
    """What was written. `max_abs_logit_difference` compares the saved model with what reading the files back gives."""

    path: Path
    format: str
    family: str
    nbytes: int
    max_abs_logit_difference: float


def save_checkpoint(
    model: Transformer,
    tokenizer: Tokenizer | None,
    chat_template: str | None,
    path: str | Path,
    format: str = "workbench",
    family: str | None = None,
    overwrite: bool = False,
    control: Control | None = None,
) -> SaveReport:
    """Write a checkpoint folder and read it back. See `save_events`; `WorkbenchError` when `control` stopped it."""
    events = save_events(model, tokenizer, chat_template, path, format, family, overwrite, control)
    while True:
        try:
            next(events)
        except StopIteration as end:
            if end.value is None:
                raise WorkbenchError(f"Saving {Path(path).name} was stopped; nothing was written.") from None
            report: SaveReport = end.value
            return report


def save_events(
    model: Transformer,
    tokenizer: Tokenizer | None,
    chat_template: str | None,
    path: str | Path,
    format: str = "workbench",
    family: str | None = None,
    overwrite: bool = False,
    control: Control | None = None,
) -> Generator[Event, None, SaveReport | None]:
    """Write `model` in its own dtype as `format` ("workbench" keeps everything; "hf" for other programs), yielding `Progress`.

    The folder appears whole or not at all; then it is read back (a second model in memory) and compared. `family` names
    the Hugging Face model type; None finds one. An existing checkpoint is replaced only with `overwrite`, anything else
    never. Returns None when `control` stopped it. Raises `ModelError` for a model that the family cannot express or that
    carries adapters, `FileError` when the place is taken or cannot be written.
    """
    control = control or Control()
    place = Path(path).expanduser()
    kind = FORMATS[format].make()
    if not kind.can_save:
        raise ModelError(f"{FORMATS[format].label} cannot be written.", hint=f"Choose one of: {', '.join(savable())}.")
    _check_place(place, overwrite)
    _check_plain(model)
    total = sum(p.nbytes for p in parameters_of(model).values())
    done = 0
    yield Progress(message=f"Saving {place.name}", done=0, total=total, unit="B")
    steps = kind.save(Content(model, tokenizer, chat_template), place, family)
    try:
        for nbytes in steps:
            done += nbytes
            if control.stopping:
                return None
            yield Progress(message=f"Saving {place.name}", done=done, total=total, unit="B")
    finally:
        steps.close()  # an unfinished save removes what it wrote
    yield Progress(message=f"Checking {place.name}", done=total, total=total, unit="B")
    again = load_checkpoint(place, device=model.device, dtype=model.dtype)
    return SaveReport(place, format, again.source.family, again.source.nbytes, logit_difference(model, again.model))


def logit_difference(one: Transformer, other: Transformer) -> float:
    """max |Δ logit| of two models of one vocabulary on the same random tokens."""
    config = one.config
    draw = torch.Generator().manual_seed(0)
    ids = torch.randint(config.vocab_size, (1, min(_PROBE_TOKENS, config.max_positions)), generator=draw).to(one.device)
    with torch.no_grad():
        return float((one(ids).float() - other(ids.to(other.device)).float().to(one.device)).abs().max())


def _check_place(path: Path, overwrite: bool) -> None:
    if path.is_file():
        raise FileError(f"{path} is a file; a checkpoint is a folder.", hint="Choose another name.")
    if not path.is_dir() or not any(path.iterdir()):
        return
    try:
        find_format(path)
    except FileError:
        raise FileError(f"{path} holds something else than a checkpoint.", hint="Choose a new or an empty folder.") from None
    if not overwrite:
        raise FileError(f"{path} holds a checkpoint already.", hint="Choose another folder, or allow it to be replaced.")


def _check_plain(model: Transformer) -> None:
    """Only what the configuration describes can be saved: adapters and replaced layers would be lost."""
    found = {name: tuple(p.shape) for name, p in parameters_of(model).items()}
    expected = expected_shapes(model.config)
    if found != expected:
        extra = sorted(set(found) ^ set(expected)) or sorted(n for n in found if found[n] != expected[n])
        raise ModelError(
            f"The model is not as its configuration says ({extra[0]}), so it cannot be saved as a checkpoint.",
            hint="Merge or detach its adapters first.",
            details="\n".join(extra),
        )
