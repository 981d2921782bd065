"""The cache's speed against its memory: each step computed anew beside caches, at growing positions and over a reply."""

from __future__ import annotations

import statistics
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from workbench.caches import CACHE_PRESETS, KV_CODECS, CacheConfig, KVCache
from workbench.checkpoints import Loaded
from workbench.core.control import Control
from workbench.core.errors import DataError, WorkbenchError
from workbench.core.events import Event, Phase, Progress
from workbench.core.fields import Option, Problem, field_problems, pick, require_usable, setting, to_dict
from workbench.model import Transformer
from workbench.studies.base import STUDIES, Study, StudyContext, StudyResult
from workbench.studies.kv_findings import Kept, Place, result
from workbench.studies.texts import read_text, tokens_of

EXACT, OFF = "exact", "none"
_CHUNK = 512
_REPEATS = 3
_SLOW = 0.3
"""Seconds from which a step is timed once instead of `_REPEATS` times."""
_WARM = 192
"""Tokens after which every cache has encoded some: what is compiled or computed once is, before anything is timed."""


def _others() -> list[Option]:
    """Caches to compare with, those by name first; the exact one is always there."""
    named = [Option(p.name, p.label, p.help) for p in CACHE_PRESETS.values() if p.name != EXACT]
    return named + [Option(entry.name, entry.label, entry.help) for entry in KV_CODECS if entry.name != EXACT]


@dataclass(frozen=True, kw_only=True)
class KvCacheOptions:
    """How far positions go, how long the reply is, and which cache is measured beside the exact one and none."""

    other: str | None = pick(
        _others(), "balanced", label="Also with", none_label="none other", group="Caches",
        help="A cache of fewer bits that is measured on the same tokens.",
    )  # fmt: skip
    longest: int = setting(
        1024, label="Up to position", unit="tokens", group="Steps", minimum=16, maximum=65_536, log=True,
        help="The longest history of a step; without a cache, each step there reads so many tokens again.",
    )  # fmt: skip
    points: int = setting(12, label="Positions", group="Steps", minimum=4, maximum=100, help="At so many positions steps are timed.")
    prompt: int = setting(
        32, label="Prompt", unit="tokens", group="Reply", minimum=2, maximum=8192, help="Tokens of the text that the reply goes on from."
    )
    reply: int = setting(
        64, label="Reply", unit="tokens", group="Reply", minimum=4, maximum=4096, log=True,
        help="Tokens written without a cache; each cache is given the same ones and must choose the same next.",
    )  # fmt: skip
    text: str | None = setting(
        None, label="Text", group="Steps", none_label="built-in prose", help="A UTF-8 text file to read; a short one is repeated."
    )

    def problems(self) -> list[Problem]:
        """Every broken bound or rule, all at once; empty when usable."""
        found = field_problems(self)
        if not found and self.longest < self.points + _REPEATS:
            fix = f"Use at most {self.longest - _REPEATS} positions."
            found.append(Problem("points", f"{self.points} positions do not fit into {self.longest} tokens.", fix))
        return found


@STUDIES.register(
    "kv-cache", label="The cache’s speed against its memory", options=KvCacheOptions, source="arXiv:1911.02150",
    help="Times steps without a cache, with the exact one and with one of fewer bits, and compares memory, logits and tokens.",
)  # fmt: skip
class KvCacheStudy(Study):
    def __init__(self, **options: Any) -> None:
        self.options = KvCacheOptions(**options)

    def run(self, context: StudyContext, control: Control) -> Generator[Event, None, StudyResult | None]:
        require_usable(self.options)
        loaded, options = context.loaded, self.options
        if loaded is None:
            raise WorkbenchError("There is no model to measure on.", hint="Load one.")
        text, name = read_text(options.text)
        longest = min(options.longest, loaded.config.max_positions)
        ids = _repeated(tokens_of(loaded, text, longest, loaded.source.name)[0], longest)
        if options.prompt + options.reply > loaded.config.max_positions:
            size = loaded.config.max_positions
            raise DataError(f"Prompt and reply are longer than the model’s {size} positions.", hint="Use shorter ones.")
        places = _places(longest, options.points)
        runs = _runs(loaded, options, max(longest, options.prompt + options.reply))
        yield Phase(word="Measuring")
        if control.stopping:
            return None
        _warm(runs, ids)
        progress = _Steps(len(places) + options.reply)
        if not (yield from _sweep(runs, ids, places, progress, control)):
            return None
        if not (yield from _reply(runs, ids[: options.prompt], options.reply, progress, control)):
            return None
        found = [run.kept() for run in runs]
        about = f"Read: {name}, up to position {longest:,}; a reply of {options.reply} tokens after {options.prompt}."
        return result("kv-cache", loaded.source.name, found, about, to_dict(options))


@dataclass
class _Steps:
    """How far a study is."""

    total: int
    done: int = 0

    def next(self, message: str) -> Progress:
        self.done += 1
        return Progress(message=message, done=self.done - 1, total=self.total)


@dataclass
class _Run:
    """One way to keep keys and values, or not to (`cache` None), and what was seen of it."""

    label: str
    model: Transformer
    cache: KVCache | None
    places: list[Place] = field(default_factory=list)
    seconds: float = 0.0
    same: int = 0
    tokens: int = 0
    difference: float = 0.0
    largest: float = 0.0

    def kept(self) -> Kept:
        return Kept(
            self.label, tuple(self.places), self.seconds, self.tokens, self.same, self.difference, self.largest,
        )  # fmt: skip

    @torch.inference_mode()
    def step(self, ids: Sequence[int]) -> tuple[float, Tensor]:
        """(seconds, logits [V] after the last of `ids`): all of them, or the last one where a cache knows the others, which are read
        first if need be."""
        if self.cache is not None:
            self._read(ids[:-1])
        new = ids if self.cache is None else ids[-1:]
        given = torch.tensor([list(new)], device=self.model.device)
        started = time.perf_counter()
        logits = self.model.head(self.model.hidden(given, self.cache)[:, -1])[0]
        int(logits.argmax())  # a reply needs the token, so a device has to be waited for
        return time.perf_counter() - started, logits.float()

    def timed(self, ids: Sequence[int], place: int) -> tuple[float, Tensor]:
        """(median seconds of steps at a place, logits of the last one)."""
        taken: list[float] = []
        for back in reversed(range(_REPEATS)):
            # Without a cache a step can be repeated as it is; with one, those before the place are the repeats.
            seconds, logits = self.step(ids[: place if self.cache is None else place - back])
            taken.append(seconds)
            if self.cache is None and seconds > _SLOW:
                break
        return statistics.median(taken), logits

    def _read(self, ids: Sequence[int]) -> None:
        assert self.cache is not None
        while self.cache.length < len(ids):
            piece = list(ids[self.cache.length : self.cache.length + _CHUNK])
            self.model.hidden(torch.tensor([piece], device=self.model.device), self.cache)

    def restart(self) -> None:
        if self.cache is not None:
            self.cache.truncate(0)

    def compare(self, logits: Tensor, wanted: Tensor) -> float:
        """Their largest difference, which is kept if it is the largest so far."""
        difference = float((logits - wanted).abs().max())
        self.difference, self.largest = max(self.difference, difference), max(self.largest, float(wanted.abs().max()))
        return difference


def _runs(loaded: Loaded, options: KvCacheOptions, capacity: int) -> list[_Run]:
    def made(label: str, config: CacheConfig) -> _Run:
        return _Run(label, loaded.model, KVCache.from_config(loaded.model, replace(config, capacity=None), capacity=capacity))

    runs = [_Run(OFF, loaded.model, None), made(EXACT, CacheConfig())]
    if options.other is not None:
        named = CACHE_PRESETS.get(options.other)
        kind = None if named else KV_CODECS.choose(options.other)
        runs.append(made(options.other, named.config if named else CacheConfig(codec=kind, value_codec=kind)))  # type: ignore[arg-type]
    return runs


def _repeated(ids: Sequence[int], length: int) -> list[int]:
    return [ids[i % len(ids)] for i in range(length)]


def _places(longest: int, points: int) -> list[int]:
    """Lengths of history, evenly spread up to the longest; each leaves room for the repeats before it."""
    first = max(_REPEATS + 1, longest // points)
    return sorted({round(first + (longest - first) * i / (points - 1)) for i in range(points)})


def _warm(runs: Sequence[_Run], ids: Sequence[int]) -> None:
    for run in runs:
        for _ in range(2):
            run.step(ids[: min(len(ids), 8 if run.cache is None else _WARM)])
            run.restart()


def _sweep(runs: Sequence[_Run], ids: Sequence[int], places: Sequence[int], progress: _Steps, control: Control) -> _Ended:
    """Time a step at each place in turn for all runs, so that a machine that slows down slows all of them."""
    for place in places:
        yield progress.next(f"Steps at position {place:,}")
        control.wait_while_paused()
        if control.stopping:
            return False
        steps = [run.timed(ids, place) for run in runs]
        wanted = steps[0][1]
        for run, (seconds, logits) in zip(runs, steps, strict=True):
            held = 0 if run.cache is None else run.cache.nbytes
            run.places.append(Place(place, 1000 * seconds, held, run.compare(logits, wanted)))
    return True


def _reply(runs: Sequence[_Run], prompt: Sequence[int], tokens: int, progress: _Steps, control: Control) -> _Ended:
    """Write greedily without a cache; every cache is given the same tokens, and has to choose the same next one each time."""
    ids = list(prompt)
    for run in runs:
        run.restart()
    for _ in range(tokens):
        yield progress.next("Writing the same reply")
        control.wait_while_paused()
        if control.stopping:
            return False
        steps = [run.step(ids) for run in runs]
        wanted = steps[0][1]
        for run, (seconds, logits) in zip(runs, steps, strict=True):
            run.seconds, run.tokens = run.seconds + seconds, run.tokens + 1
            run.same += int(logits.argmax() == wanted.argmax())
            run.compare(logits, wanted)
        ids.append(int(wanted.argmax()))
    return True


_Ended = Generator[Event, None, bool]
"""Returns False when it was stopped."""
