"""From a model in memory to a file or folder, and the proof that it arrived."""

from __future__ import annotations

import math
import shutil
from collections.abc import Generator
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from workbench.checkpoints.formats import Content, Format, Writing, writer_of
from workbench.checkpoints.load import expected_shapes, is_out_of_memory, load_checkpoint, parameters_of
from workbench.checkpoints.quantized import form_of, in_full
from workbench.core.control import Control
from workbench.core.errors import FileError, ModelError, WorkbenchError
from workbench.core.events import Event, Notice, Progress
from workbench.core.format import bytes_text
from workbench.core.layouts import stranger_in
from workbench.core.store import move_in, staged
from workbench.model import Transformer
from workbench.tokenizers import Tokenizer

OWN = "workbench"
_PROBE_TOKENS = 32
_PROBE_NUMBERS = 1 << 22
"""Numbers of a parameter that are compared at once."""
_ROUNDING = {torch.float32: 1e-3, torch.float64: 1e-3}
"""Difference of logits, relative to the largest, that the order of sums explains; `_LOW_ROUNDING` in half precision."""
_LOW_ROUNDING = 0.1
_PROBE_TEXTS = (
    "Hello, world! It's 2024 and they'll pay $3.14 (or 12345 ¥).", "  two  spaces,\ttab\n\nlines \r\n", "naïve café Ünïcödé — „so“",
    "日本語のテキスト 한국어 русский язык", "🙂👩‍👩‍👧 x² ½", "def f(x):\n    return x**2  # comment", "DON'T shout",
)  # fmt: skip


@dataclass(frozen=True)
class SaveReport:
    """What was written. `max_abs_logit_difference` compares the saved model with what reading the files back gives.

    `type` is how the weights are stored. `exact`: every weight reads back as the number it was; otherwise each was proven to
    be that number rounded to `type`, and the difference is what the rounding costs. `proven` is False when there was no memory
    to read the files back: `exact` and the difference, which is NaN, say nothing then.
    """

    path: Path
    format: str
    family: str
    nbytes: int
    max_abs_logit_difference: float
    type: str = ""
    exact: bool = True
    notices: tuple[str, ...] = ()
    proven: bool = True

    @property
    def proof(self) -> str:
        """What is known of how the weights arrived, in words."""
        if not self.proven:
            return "there was no memory to read it back, so that it is the model is not proven"
        return "every weight reads back as it is" if self.exact else f"every weight reads back as itself rounded to {self.type}"


def save_checkpoint(
    model: Transformer,
    tokenizer: Tokenizer | None,
    chat_template: str | None,
    path: str | Path,
    format: str = "workbench",
    family: str | None = None,
    overwrite: bool = False,
    control: Control | None = None,
    type: str | None = None,
) -> SaveReport:
    """Write a checkpoint and read it back. See `save_events`; `WorkbenchError` when `control` stopped it."""
    events = save_events(model, tokenizer, chat_template, path, format, family, overwrite, control, type)
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
    type: str | None = None,
) -> Generator[Event, None, SaveReport | None]:
    """Write `model` as `format` ("workbench" keeps everything; "hf" and "gguf" for other programs), yielding `Progress`.

    `type` is how weights are stored (one of the format's `types`); None keeps the model's own. The checkpoint appears whole
    or not at all, once it was read back (a second model in memory) and every weight compared with what rounding to `type`
    gives; without memory for that it is kept, unproven. `family` names the kind of model in that format; None finds one. An
    existing checkpoint of the same format is replaced only with `overwrite`, anything else never, and stays when its successor
    did not arrive. Returns None when `control` stopped it. Raises `ModelError` for a model that the family cannot express, that
    carries adapters, or that did not arrive (nothing of it is left then); `FileError` when the place is taken, too small, or
    cannot be written.
    """
    control = control or Control()
    place = Path(path).expanduser()
    kind = writer_of(format, type)
    _check_place(place, kind, overwrite)
    _check_plain(model)
    model = writable(model, format, type)
    writing = kind.prepare(Content(model, tokenizer, chat_template, type), family)
    _check_room(place, writing.nbytes)
    for message in writing.notices:
        yield Notice(message=message, level="warning")
    total, done = writing.nbytes, 0
    yield Progress(message=f"Saving {place.name}", done=0, total=total, unit="B")
    with staged(place) as new:
        steps = writing.write(new)
        try:
            for nbytes in steps:
                done += nbytes
                if control.stopping:
                    return None
                yield Progress(message=f"Saving {place.name}", done=done, total=total, unit="B")
        finally:
            steps.close()  # an unfinished save removes what it wrote
        yield Progress(message=f"Checking {place.name}", done=total, total=total, unit="B")
        report = _checked(model, tokenizer, new, place, format, writing)
        move_in(new, place)
    if not report.proven:
        yield Notice(message=report.notices[-1], level="warning")
    return report


def writable(model: Transformer, format: str, type: str | None) -> Transformer:
    """`model` as that format can hold it: only our own keeps weights in few bits as they lie, others get the numbers they stand for."""
    return model if is_own(format, type) else in_full(model)


def is_own(format: str, type: str | None) -> bool:
    """Whether weights are written as they lie in memory."""
    return format == OWN and type is None


def _checked(model: Transformer, tokenizer: Tokenizer | None, new: Path, place: Path, format: str, writing: Writing) -> SaveReport:
    """The report on what was written as `new` and is to be `place`; unproven when memory does not allow more."""
    try:
        return replace(_proven(model, tokenizer, new, format, writing), path=place)
    except (ModelError, MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
    notice = f"{place.name} is written, but there was no memory to read it back: that it is the model is not proven."
    return SaveReport(
        place, format, writing.family, writing.nbytes, math.nan, writing.type, False, (*writing.notices, notice), proven=False
    )  # fmt: skip


def _proven(model: Transformer, tokenizer: Tokenizer | None, place: Path, format: str, writing: Writing) -> SaveReport:
    """Read back what was written and hold it against `model`. Raises `ModelError` when it is not the same."""
    again = load_checkpoint(place, device=model.device, dtype=model.dtype)
    exact, found = True, parameters_of(again.model)
    for name, parameter in parameters_of(model).items():
        step = max(1, _PROBE_NUMBERS * len(parameter) // parameter.numel())
        for start in range(0, len(parameter), step):
            ours = parameter[start : start + step]
            wanted = writing.rounded(name, ours).to(ours.dtype)
            exact = exact and torch.equal(wanted, ours)
            if not torch.equal(found[name][start : start + step], wanted):
                raise _not_arrived(place, f"{name} reads back as other numbers than were written")
    if tokenizer is not None and again.tokenizer is not None:
        for text in (*_PROBE_TEXTS, "".join(tokenizer.special)[:1000]):
            if tokenizer.encode(text, special=True) != again.tokenizer.encode(text, special=True):
                raise _not_arrived(place, f"its tokenizer reads {text[:40]!r} as other tokens")
    difference, size = _logit_difference(model, again.model)
    allowed = size * _ROUNDING.get(model.dtype, _LOW_ROUNDING)
    if exact and difference > allowed:
        raise _not_arrived(
            place, f"with the same weights its logits differ by {difference:.3g}, of which rounding explains {allowed:.3g}"
        )  # fmt: skip
    return SaveReport(place, format, again.source.family, again.source.nbytes, difference, writing.type, exact, writing.notices)


def _not_arrived(place: Path, what: str) -> ModelError:
    return ModelError(
        f"{place.name} is not the model that was saved, and was removed: {what}.",
        hint="This is a fault of the program or of the disk; save as a workbench checkpoint, and report it.",
    )


def _logit_difference(one: Transformer, other: Transformer) -> tuple[float, float]:
    """(max |Δ logit|, max |logit|) of two models of one vocabulary on the same random tokens. Where `one` has no finite logit
    nothing is compared; where only `other` has none, the difference is infinite."""
    length = min(_PROBE_TOKENS, one.config.max_positions, other.config.max_positions)
    draw = torch.Generator().manual_seed(0)
    ids = torch.randint(one.config.vocab_size, (1, length), generator=draw).to(one.device)
    with torch.no_grad():
        ours, theirs = one(ids).float(), other(ids.to(other.device)).float().to(one.device)
    known = torch.isfinite(ours)
    if not bool(known.any()):
        return math.nan, math.nan
    ours, theirs = ours[known], theirs[known]
    moved = (ours - theirs).abs().nan_to_num(nan=math.inf, posinf=math.inf)
    return float(moved.max()), float(ours.abs().max())


def _check_place(path: Path, kind: Format, overwrite: bool) -> None:
    """The place is free, or holds a checkpoint that may be replaced."""
    if kind.single_file:
        if path.is_dir():
            raise FileError(
                f"{path} is a folder; this kind of checkpoint is a single file.", hint=f"Add a name such as model{kind.suffix}."
            )
        if path.suffix.lower() != kind.suffix:
            raise FileError(f"The file name {path.name} does not end in {kind.suffix}.", hint=f"Name it {path.name}{kind.suffix}.")
        if not path.exists():
            return
        if not kind.recognises(path):
            raise FileError(f"{path} is a file of another kind.", hint="Choose another name.")
    else:
        if path.is_file():
            raise FileError(f"{path} is a file; this kind of checkpoint is a folder.", hint="Choose another name.")
        if not path.is_dir() or not any(path.iterdir()):
            return
        if not kind.recognises(path):
            raise FileError(f"{path} holds something else than a checkpoint of this kind.", hint="Choose a new or an empty folder.")
        if overwrite and (stranger := stranger_in(path)):
            raise FileError(
                f"{path} also holds {stranger}, which would be lost if the folder were replaced.", hint="Choose a new or an empty folder."
            )
    if not overwrite:
        raise FileError(f"{path} holds a checkpoint already.", hint="Choose another place, or allow it to be replaced.")


def _check_room(path: Path, nbytes: int) -> None:
    """The disk has room for it; what is replaced is kept until the new one is whole."""
    place = next(folder for folder in (path.absolute().parent, *path.absolute().parents) if folder.exists())
    free = shutil.disk_usage(place).free
    if free < nbytes:
        raise FileError(
            f"{path.name} takes {bytes_text(nbytes)}, and {bytes_text(free)} are free in {place}.",
            hint="Free some space, choose another disk, or store the weights in a smaller type.",
        )


def _check_plain(model: Transformer) -> None:
    """Only what the configuration describes can be saved: adapters and replaced layers would be lost."""
    found = {name: tuple(p.shape) for name, p in parameters_of(model).items()}
    expected = expected_shapes(model.config, form_of(model))
    if found != expected:
        extra = sorted(set(found) ^ set(expected)) or sorted(n for n in found if found[n] != expected[n])
        raise ModelError(
            f"The model is not as its configuration says ({extra[0]}), so it cannot be saved as a checkpoint.",
            hint="Merge or detach its adapters first.",
            details="\n".join(extra),
        )
