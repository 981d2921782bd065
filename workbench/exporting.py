"""A loaded model written for other programs: with an adapter added into its weights or without, read back and compared."""

from __future__ import annotations

import copy
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

import torch

from workbench import adapters
from workbench.adapters.peft import load_adapter
from workbench.checkpoints import FORMATS, Loaded, SaveReport, save_events
from workbench.checkpoints.formats import Content
from workbench.core.control import Control
from workbench.core.errors import ModelError
from workbench.core.events import Event, Notice, Phase
from workbench.model import Transformer


@dataclass(frozen=True)
class Merged:
    """An adapter folder and how strongly it is added into the weights."""

    path: Path
    strength: float


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
    model = loaded.model
    if adapter is not None:
        yield Phase(word="Loading")
        model = copy.deepcopy(model)
        _strip(model)
        load_adapter(model, adapter.path, "merged")
        yield Notice(message=_bake(model, "merged", adapter.strength))
    elif adapters.adapter_names(model):
        model = copy.deepcopy(model, {id(p): p for p in model.parameters()})  # other modules, the same weights
        _strip(model)
    yield Phase(word="Saving")
    content = Content(model, loaded.tokenizer, loaded.chat_template, type)
    family = _source_family(loaded, content, format)
    return (yield from save_events(model, content.tokenizer, content.chat_template, out, format, family, overwrite, control, type))


def _strip(model: Transformer) -> None:
    for name in adapters.adapter_names(model):
        adapters.detach(model, name)


def _source_family(loaded: Loaded, content: Content, format: str) -> str | None:
    """The kind of model that the files said it was, if it still is; several kinds can hold some architectures."""
    family = loaded.source.family
    if loaded.source.format != format or not FORMATS[format].make().can_save:
        return None
    try:
        FORMATS[format].make().prepare(content, family)
    except ModelError:  # converted since; or nothing can hold it, which saving explains
        return None
    return family


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
