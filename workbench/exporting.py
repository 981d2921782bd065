"""A loaded model written for other programs: with an adapter added into its weights or without, read back and compared."""

from __future__ import annotations

import copy
from collections.abc import Generator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch

from workbench import adapters
from workbench.adapters.peft import load_adapter
from workbench.checkpoints import FORMATS, Loaded, SaveReport, save_events
from workbench.checkpoints.formats import Content, Writing, writer_of
from workbench.checkpoints.save import is_own, writable
from workbench.core.control import Control
from workbench.core.errors import ModelError
from workbench.core.events import Event, Notice, Phase
from workbench.core.fields import Option, Problem, field_problems, pick
from workbench.model import Transformer, build_model
from workbench.quantization import is_quantized

TYPES = (
    Option("f32", "Single precision (F32)", "Four bytes a number: nothing is lost."),
    Option("bf16", "Brain float (BF16)", "Two bytes a number, with single precision's range and three digits."),
    Option("f16", "Half precision (F16)", "Two bytes a number, with four digits and a range of ±65,504."),
    Option("q8_0", "8 bits (Q8_0)", "GGUF only: blocks of 32 whole numbers up to ±127 with one scale, about one byte a number."),
)


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """What a model is written as."""

    format: str = pick(FORMATS, "gguf", label="Format", help="Which programs are to read it: each has its own kind of file or folder.")
    type: str | None = pick(
        TYPES, None, label="Numbers", none_label="as in memory", help="How the weights are stored; smaller types round them."
    )

    def problems(self) -> list[Problem]:
        """Every broken rule; empty when it can be tried."""
        found = field_problems(self)
        if found:
            return found
        kind = FORMATS[self.format].make()
        if self.type is None or self.type in kind.types:
            return []
        what = f"{FORMATS[self.format].label} cannot store numbers as {self.type}."
        return [Problem("type", what, f"Choose one of: {', '.join(kind.types)}.")]


@dataclass(frozen=True)
class ExportPlan:
    """What an export would write: the kind of model in that format, how its numbers are stored, its size, what gets lost.
    `suffix` ends the file's name; "" for a folder."""

    format: str
    family: str
    type: str
    nbytes: int
    suffix: str
    notices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Merged:
    """An adapter folder and how strongly it is added into the weights."""

    path: Path
    strength: float


def plan_export(loaded: Loaded, config: ExportConfig) -> ExportPlan:
    """What `export` would write; a few milliseconds, nothing is touched. Raises `ModelError` naming what the format cannot hold."""
    model = _bare(loaded.model)
    if not is_own(config.format, config.type) and is_quantized(model):  # what is written is as large as the architecture says
        model = build_model(loaded.config, device="meta", dtype=model.dtype, init=False)
    content = Content(model, loaded.tokenizer, loaded.chat_template, config.type)
    writing = _writing(loaded, content, config.format)
    return ExportPlan(config.format, writing.family, writing.type, writing.nbytes, FORMATS[config.format].make().suffix, writing.notices)


def export(
    loaded: Loaded,
    adapter: Merged | None,
    out: Path,
    format: str,
    *,
    type: str | None = None,
    overwrite: bool = False,
    control: Control,
) -> Generator[Event, None, SaveReport | None]:
    """Write `loaded` to `out` as `format`, weights stored as `type` (None: as in memory). See `checkpoints.save_events`.

    The model itself is left as it is, whatever adapters a chat or a run has attached to it. None when `control` stopped it.
    Raises `FileError` or `ModelError` when the adapter does not fit, the place is taken, or the format cannot hold the model.
    """
    model = writable(_bare(loaded.model), format, type)
    if is_quantized(loaded.model) and not is_quantized(model):
        yield Notice(message="The quantized weights are written as the numbers that their codes stand for.")
    if adapter is not None:
        yield Phase(word="Loading")
        model = copy.deepcopy(model)
        load_adapter(model, adapter.path, "merged")
        yield Notice(message=_bake(model, "merged", adapter.strength))
    yield Phase(word="Saving")
    content = Content(model, loaded.tokenizer, loaded.chat_template, type)
    family = _writing(loaded, content, format).family
    return (yield from save_events(model, content.tokenizer, content.chat_template, out, format, family, overwrite, control, type))


def _bare(model: Transformer) -> Transformer:
    """`model` without the adapters that a chat or a run has attached: other modules, the same weights."""
    names = adapters.adapter_names(model)
    if not names:
        return model
    bare = copy.deepcopy(model, {id(parameter): parameter for parameter in model.parameters()})
    for name in names:
        adapters.detach(bare, name)
    return bare


def _writing(loaded: Loaded, content: Content, format: str) -> Writing:
    """`content` as the kind of model that the files said it was, if it still is: several kinds can hold some architectures."""
    kind = writer_of(format, content.type)
    if loaded.source.format == format:
        with suppress(ModelError):  # converted since; or nothing can hold it, which is explained below
            return kind.prepare(content, loaded.source.family)
    return kind.prepare(content, None)


@torch.inference_mode()
def _bake(model: Transformer, name: str, strength: float) -> str:
    """Merge an attached adapter for good, and say how far the logits moved. Raises `ModelError` when it was more than rounding."""
    draw = torch.Generator().manual_seed(0)
    ids = torch.randint(model.config.vocab_size, (1, min(32, model.config.max_positions)), generator=draw).to(model.device)
    with adapters.selected(model, {name: strength}):
        wanted = model(ids).float()
    adapters.scale(model, name, strength)
    adapters.bake(model, name)
    moved, size = float((model(ids).float() - wanted).abs().max()), float(wanted.abs().max())
    allowed = size * (1e-3 if model.dtype == torch.float32 else 0.1)
    if not moved <= allowed:
        raise ModelError(
            f"The merged model is not the base with its adapter: logits differ by {moved:.3g}, rounding explains {allowed:.3g}.",
            hint="Load the model in float32 and merge again.",
        )
    return f"Base + adapter and merged weights differ by at most {moved:.1e} in the logits (of size {size:.1f})."
