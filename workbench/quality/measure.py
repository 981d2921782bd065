"""Every side against the exact cache, window by window: what the model predicts, and how far that moved."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from workbench import adapters
from workbench.caches import KVCache, cache_nbytes
from workbench.checkpoints import Loaded
from workbench.core.control import Control
from workbench.core.errors import ConfigError, DataError, FileError
from workbench.core.events import Event, Phase, Progress
from workbench.core.fields import require_usable, to_dict
from workbench.core.store import read_json, write_json
from workbench.data import TextExample, stdlib_docstrings
from workbench.describing import read_text, require_tokenizer
from workbench.generation.room import require_causal
from workbench.model import Transformer
from workbench.quality.copying import DEPTHS, LENGTH, copied, copy_texts
from workbench.quality.figures import Summary, TokenFigures, compare, joined, summed
from workbench.quality.request import QualityConfig, QualityReport, QualityRequest, QualityRow, QualitySide
from workbench.quality.strict import strict_cache
from workbench.quantization import QuantizationConfig
from workbench.quantizing import quantized_twin

FLOOR = QualitySide(name="Noise floor")
"""The exact cache against itself, read in pieces instead of at once: sums in another order, and nothing else."""
PIECE = 100
"""Tokens of such a piece: no power of two, so that no product has the shapes of the whole."""
KIND, VERSION = "workbench quality window", 1
_CHARACTERS = 8
"""Of a text, for each token that is wanted: more than any tokenizer needs of English."""


@dataclass(frozen=True, kw_only=True)
class QualityEvent(Event):
    """A row as far as it is known; a later event for the same side and context replaces it."""

    name: ClassVar[str] = "quality"
    row: QualityRow

    def to_json(self) -> dict[str, Any]:
        return {"event": self.name, **self.row.to_json()}


def measure(
    loaded: Loaded, chosen: Mapping[str, float], request: QualityRequest, control: Control
) -> Generator[Event, None, QualityReport]:
    """Hold `request.sides` against the exact cache with the model's weights and the adapters `chosen` (name -> strength).

    Windows do not overlap; each is read once exactly and once for each side, so that differences are paired. Work that was
    stopped is told as such, and found again in `request.folder`. Raises `ConfigError` for settings that cannot be measured,
    `DataError` for a text that is too short, `ModelError` when there is no memory for other weights.
    """
    require_usable(request.config)
    require_causal(loaded.model)
    _require_sides(request)
    ids, label = _text(loaded, request.config)
    longest = max(request.config.contexts)
    if longest > loaded.config.max_positions:
        most = loaded.config.max_positions
        raise ConfigError(f"The model reads {most} tokens at most; {longest} were asked for.", hint="Use shorter contexts.")
    models: dict[QuantizationConfig | None, Transformer] = {None: loaded.model}
    for side in request.sides:
        if side.weights not in models:
            assert side.weights is not None
            made = yield from quantized_twin(loaded.model, side.weights, control)
            if made is None:
                return QualityReport(model=loaded.source.name, text=label, rows=(), stopped=True)
            models[side.weights] = made
    yield Phase(word="Scoring")
    rows: list[QualityRow] = []
    for context in request.config.contexts:
        bench = _Bench(loaded, models, dict(chosen), request, ids, context)
        rows += yield from bench.run(control)
        if control.stopping:
            break
    return QualityReport(model=loaded.source.name, text=label, rows=tuple(rows), stopped=control.stopping)


def _require_sides(request: QualityRequest) -> None:
    if not request.sides:
        raise ConfigError("There is nothing to measure.", hint="Name at least one cache, or weights in few bits.")
    names = [side.name for side in request.sides]
    if len(set(names)) < len(names) or FLOOR.name in names:
        raise ConfigError("Two sides have the same name.", hint="Give each a name of its own.")
    for side in request.sides:
        require_usable(side.cache)
        if side.weights is not None:
            require_usable(side.weights)


def _text(loaded: Loaded, config: QualityConfig) -> tuple[list[int], str]:
    """(tokens, what the text is called). Raises `DataError` when it is shorter than the shortest context."""
    tokenizer = require_tokenizer(loaded)
    wanted = max(max(config.contexts), config.tokens + config.tokens // (min(config.contexts) - 1) + max(config.contexts))
    if config.text is None:
        text, label = _documentation(_CHARACTERS * wanted), "Python's documentation"
    else:
        path = Path(config.text).expanduser()
        text, label = read_text(path), path.name
    ids = tokenizer.encode(text[: _CHARACTERS * wanted])[:wanted]
    if len(ids) < max(config.contexts):
        raise DataError(
            f"{label} has {len(ids):,} tokens; a context of {max(config.contexts):,} needs as many.",
            hint="Use a longer text, or shorter contexts.",
        )
    return ids, label


def _documentation(characters: int) -> str:
    return "\n\n".join(example.text for example in stdlib_docstrings(limit=characters) if isinstance(example, TextExample))


class _Bench:
    """One context length."""

    def __init__(
        self,
        loaded: Loaded,
        models: Mapping[QuantizationConfig | None, Transformer],
        chosen: dict[str, float],
        request: QualityRequest,
        ids: Sequence[int],
        context: int,
    ) -> None:
        self.loaded, self.models, self.chosen, self.context = loaded, models, chosen, context
        self.folder, self.config = request.folder, request.config
        self.sides = (FLOOR, *request.sides)
        count = max(1, min(-(-request.config.tokens // (context - 1)), len(ids) // context))
        self.windows = [list(ids[n * context : (n + 1) * context]) for n in range(count)]
        vocabulary = sorted({t for t in ids if t not in set(require_tokenizer(loaded).special.values())})
        task = request.config.retrieval and context >= 4 * LENGTH
        self.copies = copy_texts(ids[-context:], vocabulary, context) if task else []
        self.found: dict[str, list[TokenFigures]] = {side.name: [] for side in self.sides}
        self.right: dict[str, list[int]] = {side.name: [] for side in (QualitySide(name=""), *self.sides)}

    def run(self, control: Control) -> Generator[Event, None, list[QualityRow]]:
        texts = [(window, False) for window in self.windows] + [(text, True) for text in self.copies]
        total, done = len(texts) * (1 + len(self.sides)), 0
        for text, copy in texts:
            exact: Tensor | None = None
            for side in self.sides:
                control.wait_while_paused()
                if control.stopping:
                    return self._rows()
                yield Progress(message=f"{side.name} at {self.context:,} tokens", done=done, total=total, unit="texts")
                done += 1
                if self._known(side, text, copy):
                    continue
                if exact is None:
                    exact = self._read(None, text)
                    done += 1
                self._judge(side, text, copy, exact)
                if not copy:
                    yield QualityEvent(row=self._row(side))
            if exact is None:
                done += 1
        return self._rows()

    # ---- one text ----------------------------------------------------------------------------------------------------

    @torch.inference_mode()
    def _read(self, side: QualitySide | None, text: Sequence[int]) -> Tensor:
        """What the head reads at every position, [T, C]; `side` None: exact and at once."""
        model = self.models[None if side is None else side.weights]
        ids = torch.tensor(text, device=model.device)[None]
        with adapters.selected(model, self.chosen):
            if side is None:
                return model.hidden(ids)[0]
            if side is FLOOR:
                cache = KVCache.for_model(model, capacity=len(text))
                return torch.cat([model.hidden(ids[:, at : at + PIECE], cache=cache)[0] for at in range(0, len(text), PIECE)])
            return model.hidden(ids, cache=strict_cache(model, side.cache, len(text)))[0]

    def _judge(self, side: QualitySide, text: Sequence[int], copy: bool, exact: Tensor) -> None:
        plain, model = self.models[None], self.models[side.weights]
        with adapters.selected(model, self.chosen):
            hidden = self._read(side, text)
            if copy:
                data: dict[str, Any] = {"right": copied(model, hidden, text), "exact": copied(plain, exact, text)}
            else:
                targets = torch.tensor(text[1:], device=exact.device)
                figures = compare((plain, model), (exact[:-1], hidden[:-1]), targets)
                data = {name: getattr(figures, name).tolist() for name in ("before", "after", "kl", "same")}
        self._take(side, data)
        if self.folder is not None:
            write_json(self._file(side, text), data, kind=KIND, version=VERSION)

    def _take(self, side: QualitySide, data: Mapping[str, Any]) -> None:
        if "right" in data:
            self.right[side.name].append(int(data["right"]))
            if side is FLOOR:
                self.right[""].append(int(data["exact"]))
            return
        arrays = [np.array(data[name], dtype=kind) for name, kind in (("before", "f4"), ("after", "f4"), ("kl", "f4"), ("same", bool))]
        self.found[side.name].append(TokenFigures(*arrays))

    def _known(self, side: QualitySide, text: Sequence[int], copy: bool) -> bool:
        """Take what an earlier run has found of this text; False when there is nothing, or nothing that can be read."""
        if self.folder is None or not self._file(side, text).is_file():
            return False
        try:
            data = read_json(self._file(side, text), kind=KIND, version=VERSION)
            if ("right" in data) != copy:
                return False
            self._take(side, data)
        except (FileError, LookupError, TypeError, ValueError):
            return False
        return True

    def _file(self, side: QualitySide, text: Sequence[int]) -> Path:
        """Named by all that the figures depend on."""
        assert self.folder is not None
        probe = next(self.loaded.model.parameters()).detach().reshape(-1)[:4096].double().sum()
        weights = None if side.weights is None else to_dict(side.weights)
        about = [str(self.loaded.source.path), float(probe), self.chosen, to_dict(side.cache), weights, side is FLOOR, list(text)]
        return self.folder / f"{hashlib.sha256(json.dumps(about, default=str).encode()).hexdigest()[:24]}.json"

    # ---- the figures -------------------------------------------------------------------------------------------------

    def _rows(self) -> list[QualityRow]:
        return [self._row(side) for side in self.sides if self.found[side.name]]

    def _row(self, side: QualitySide) -> QualityRow:
        found = summed(joined(self.found[side.name]))
        model = self.models[side.weights]
        sizes = model.config
        nbytes = cache_nbytes(side.cache, sizes, self.context, dtype=model.dtype)
        half = 4 * sizes.n_layers * sizes.kv_heads * sizes.head_width * self.context
        tried = len(DEPTHS) * (LENGTH - 1)
        whole = len(self.right[side.name]) == len(DEPTHS)
        return QualityRow(
            side=side.name, context=self.context, tokens=found.tokens, nbytes=nbytes, against_float16=half / nbytes,
            weight_bytes=sum(p.nbytes for p in model.parameters()), nats=found.nats, delta=found.delta, low=found.low, high=found.high,
            perplexity_percent=found.perplexity_percent, kl=found.kl, kl_p99=found.kl_p99, kl_max=found.kl_max, top1=found.top1,
            copied=sum(self.right[side.name]) / tried if whole else None,
            copied_exact=sum(self.right[""]) / tried if whole else None, label=self._label(side, found),
        )  # fmt: skip

    def _label(self, side: QualitySide, found: Summary) -> str:
        if side is FLOOR:
            return ""
        floor = self.found[FLOOR.name]
        return found.label(summed(joined(floor)).kl if floor else 0.0)
