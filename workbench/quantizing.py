"""Keeping a loaded model's weights in few bits, and going back, for the session to run."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace

import torch

from workbench.appraisal import free_memory
from workbench.checkpoints import Loaded, load_events
from workbench.core.control import Control
from workbench.core.errors import FileError, ModelError
from workbench.core.events import Event, Phase, Progress
from workbench.core.format import bytes_text
from workbench.devices import Compute
from workbench.model import Transformer
from workbench.quantization import QuantizationConfig, is_quantized, plan, quantize_steps, report, twin
from workbench.requests import ModelSummary


def quantized_twin(model: Transformer, config: QuantizationConfig, control: Control) -> Generator[Event, None, Transformer | None]:
    """A second model object with the chosen weights in few bits, which shares all the others, adapters included. None when `control`
    stopped it. Raises `ConfigError` for unusable settings, `ModelError` for weights that cannot be quantized or have no room."""
    rows = [row for row in plan(model, config).rows if row.chosen]
    needed, free = sum(row.bytes_after for row in rows), free_memory(model.device)
    if needed > free:
        raise ModelError(
            f"A second copy of the weights, as {config.scheme.entry.label}, needs {bytes_text(needed)}; {bytes_text(free)} are free.",
            hint="Close other programs, choose fewer bits, or fewer modules.",
        )
    yield Phase(word="Loading")
    with torch.inference_mode(False):
        new = twin(model)
    steps, done, total = quantize_steps(new, config), 0, sum(row.bytes_before for row in rows)
    while not control.stopping:
        yield Progress(message=f"Quantizing to {config.scheme.entry.label}", done=done, total=total, unit="B")
        try:
            done += next(steps)
        except StopIteration:
            return new
    return None


def full_precision(
    loaded: Loaded, summary: ModelSummary, original: Loaded | None, compute: Compute, control: Control
) -> Generator[Event, None, Loaded | None]:
    """The model with the weights it was loaded with: `loaded` itself where nothing is quantized, the `original` where it was kept, else
    read from its file again. None when `control` stopped it. Raises `FileError` when the file is gone, `ModelError` when it
    holds quantized weights itself."""
    if not is_quantized(loaded.model):
        return loaded
    if original is not None:
        return original
    try:
        again = yield from load_events(summary.path, compute.device, compute.dtype, control)
    except FileError as error:
        raise FileError(f"The weights in full precision cannot be read again: {error.message}", hint=error.hint) from error
    if again is None:
        return None
    if is_quantized(again.model):
        raise ModelError(
            f"{summary.name} was saved with quantized weights; what they were rounded from is not in its file.",
            hint="Load the model that it was made from.",
        )
    return again


def quantized_summary(loaded: Loaded, before: ModelSummary) -> ModelSummary:
    """What a person is told about the model as its weights are now."""
    return replace(before, parameter_bytes=sum(p.nbytes for p in loaded.model.parameters()), quantization=report(loaded.model).scheme)
