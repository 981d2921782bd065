"""Converting the loaded model to another architecture: measuring what it costs, doing it, undoing it; for the session to run."""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from workbench import adapters
from workbench.appraisal import free_memory
from workbench.checkpoints import Loaded
from workbench.core.control import Control
from workbench.core.errors import DataError, ModelError
from workbench.core.events import Event, Phase, Progress
from workbench.core.format import bytes_text
from workbench.model import ModelConfig, Transformer, account
from workbench.model.convert import ConversionPlan, ConversionReport, convert_steps, plan
from workbench.quantization import is_quantized
from workbench.requests import ModelSummary
from workbench.tokenizers import Tokenizer

TOKENS = 1024
"""Tokens read at most, and at once if the contexts allow: two seconds for the starter on two cores. Windows shorter than this
would hide what acts on far tokens only."""
_ROUNDING = 1e-5
"""Share of the logits' size below which a difference is rounding."""

CONVERTED = " (converted)"
_ROWS = 128


@dataclass(frozen=True)
class ConversionMeasure:
    """What a conversion costs before any training, on `tokens` predicted tokens of a text.

    Nats per token of the model as it is and as converted; `difference` is the mean of the paired differences (positive: the
    text became harder to predict) and `standard_error` its standard error. The figures of a model that sees the tokens it is
    to predict do not exist and are None. `max_abs_logit_difference` is over the same tokens. `unseen`: a change that is not
    exact showed nothing beyond rounding, so that it can only act on texts longer than the one that was read.
    """

    sample: str
    tokens: int
    nats_before: float | None
    nats_after: float | None
    difference: float | None
    standard_error: float | None
    max_abs_logit_difference: float
    plan: ConversionPlan
    unseen: bool = False

    def to_json(self) -> dict[str, Any]:
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name != "plan"} | {"plan": self.plan.to_json()}


def measured(
    loaded: Loaded, tokenizer: Tokenizer, new: ModelConfig, text: str, sample: str, control: Control
) -> Generator[Event, None, ConversionMeasure | None]:
    """Convert a copy of the model and let both predict a text. None when `control` stopped it. Raises `ConfigError` for an
    unusable architecture, `DataError` for a text that is too short, `ModelError` when there is no memory for the copy."""
    planned = plan(loaded.config, new)
    ids = _sample_ids(tokenizer, text, new)
    size = min(TOKENS, loaded.config.max_positions, new.max_positions)
    windows = [ids[at : at + size] for at in range(0, len(ids) - 1, size - 1)]  # the last token of one is the first of the next
    made = yield from _made(loaded, new, control, extra=len(windows))
    if made is None:
        return None
    converted, _ = made
    found: list[_Compared] = []
    for number, window in enumerate(windows):
        yield Progress(message="Measuring the conversion", done=number, total=len(windows))
        control.wait_while_paused()
        if control.stopping:
            return None
        with adapters.disabled(loaded.model):
            found.append(_compared(loaded.model, converted, window))
    return _summed(found, windows, planned, sample)


def converted(loaded: Loaded, new: ModelConfig, control: Control) -> Generator[Event, None, tuple[Loaded, ConversionReport] | None]:
    """The model in another architecture, with its tokenizer and template; the loaded one stays as it is. None when `control`
    stopped it. Raises `ConfigError` or `ModelError`."""
    plan(loaded.config, new)  # says what is wrong before anything is counted
    made = yield from _made(loaded, new, control)
    if made is None:
        return None
    model, report = made
    words = {"exact": "it computes the same", "approximate": "it computes nearly the same", "fresh": "it needs training"}[report.verdict]
    notice = f"Converted from {loaded.source.name}: {words}. The converted model is in memory only until it is exported."
    source = replace(loaded.source, format="workbench", family="workbench")
    return replace(loaded, model=model, config=model.config, source=source, notices=(notice,)), report


def converted_summary(loaded: Loaded, before: ModelSummary) -> ModelSummary:
    """What a person is told about the converted model."""
    return replace(
        before, name=before.name.removesuffix(CONVERTED) + CONVERTED, format="workbench", family="workbench", config=loaded.config,
        parameters=sum(p.numel() for p in loaded.model.parameters()), parameter_bytes=sum(p.nbytes for p in loaded.model.parameters()),
        notices=loaded.notices, converted=True,
    )  # fmt: skip


def memory_needed(model: Transformer, new: ModelConfig) -> int:
    """Bytes beside the model while it is converted, at most: the new one, and tensors that were changed on the way to it, which
    have the old shapes or the new ones."""
    old = sum(p.nbytes for p in model.parameters())
    made = account(new).parameter_bytes(model.dtype.itemsize)
    return round(max(2.1 * made, 1.1 * (old + made)))


def room_for_undo(model: Transformer) -> bool:
    """Whether memory allows to keep a model that is not in use any more: as much again must stay free."""
    return free_memory(model.device) > sum(p.nbytes for p in model.parameters())


def _made(
    loaded: Loaded, new: ModelConfig, control: Control, extra: int = 0
) -> Generator[Event, None, tuple[Transformer, ConversionReport] | None]:
    if is_quantized(loaded.model):
        hint = "Go back to full precision, convert, and quantize again."
        raise ModelError("A model whose weights are quantized cannot be converted.", hint=hint)
    needed, free = memory_needed(loaded.model, new), free_memory(loaded.model.device)
    if needed > free:
        raise ModelError(
            f"Converting needs {bytes_text(needed)} beside the loaded one; {bytes_text(free)} are free.",
            hint="Close other programs, load the model as bfloat16, or choose a smaller architecture.",
        )
    yield Phase(word="Loading")
    steps = convert_steps(loaded.model, new)
    while True:
        if control.stopping:
            steps.close()
            return None
        try:
            with torch.inference_mode(False), adapters.disabled(loaded.model):
                done, total = next(steps)
        except StopIteration as end:
            made: tuple[Transformer, ConversionReport] = end.value
            return made
        yield Progress(message="Converting", done=done, total=total + extra)


# ---- measuring -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Compared:
    """Losses of one window, [T − 1] each (those of a model that sees its targets are None), the largest difference of the logits
    and their size."""

    before: Tensor | None
    after: Tensor | None
    largest: float
    size: float


def _sample_ids(tokenizer: Tokenizer, text: str, new: ModelConfig) -> list[int]:
    ids = tokenizer.encode(text[: 16 * TOKENS])[:TOKENS]
    if (strange := max(ids, default=0)) >= new.vocab_size:
        raise DataError(f"The text holds token {strange}, and the new vocabulary ends at {new.vocab_size}.", hint="Choose another text.")
    if len(ids) < 2:
        raise DataError(f"The text has {len(ids)} tokens; at least 2 are needed to predict one.", hint="Choose a longer text.")
    return ids


@torch.inference_mode()
def _compared(old: Transformer, new: Transformer, window: Sequence[int]) -> _Compared:
    length = len(window)
    ids = torch.tensor(window, device=old.device)
    tokens = min(old.config.vocab_size, new.config.vocab_size)
    hidden = [model.hidden(ids[None])[0] for model in (old, new)]
    losses: list[list[Tensor]] = [[], []]
    largest = size = 0.0
    for at in range(0, length - 1, _ROWS):
        upto = min(at + _ROWS, length - 1)
        logits = [model.head(h[at:upto]).float() for model, h in zip((old, new), hidden, strict=True)]
        largest = max(largest, float((logits[1][:, :tokens] - logits[0][:, :tokens]).abs().max()))
        size = max(size, float(logits[0].abs().max()))
        for side, of in zip(losses, logits, strict=True):
            side.append(F.cross_entropy(of, ids[at + 1 : upto + 1], reduction="none").double())
    before, after = (torch.cat(side) if model.config.causal else None for side, model in zip(losses, (old, new), strict=True))
    return _Compared(before, after, largest, size)


def _summed(found: Sequence[_Compared], windows: Sequence[Sequence[int]], planned: ConversionPlan, sample: str) -> ConversionMeasure:
    before, after = ([x for x in side if x is not None] for side in ([c.before for c in found], [c.after for c in found]))
    nats_before, nats_after = (float(torch.cat(side).mean()) if side else None for side in (before, after))
    largest = max(c.largest for c in found)
    unseen = planned.verdict != "exact" and largest <= _ROUNDING * max(c.size for c in found)
    difference = error = None
    if before and after:
        moved = torch.cat(after) - torch.cat(before)
        difference = float(moved.mean())
        error = float(moved.std() / math.sqrt(len(moved))) if len(moved) > 1 else 0.0
    tokens = sum(len(window) - 1 for window in windows)
    return ConversionMeasure(sample, tokens, nats_before, nats_after, difference, error, largest, planned, unseen)
