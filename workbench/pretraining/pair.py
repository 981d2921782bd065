"""Two runs side by side: one architecture against another, on the same batches, step by step."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path

from workbench.core.control import Control
from workbench.core.errors import ConfigError
from workbench.core.events import Event, Notice, Phase
from workbench.core.fields import to_dict
from workbench.core.store import write_json
from workbench.devices import Compute
from workbench.model.differences import differences
from workbench.pretraining.prepare import Prepared, Resolve, prepared, require_request
from workbench.pretraining.run import trained
from workbench.requests import PairRequest, PretrainRequest
from workbench.runs import fresh_folder, require_checkpoint, require_unused
from workbench.training import EvalEvent, PairEvent, StepEvent, TrainEvent, TrainingDiverged, TrainResult
from workbench.training.pace import ClockPace

NAMES = ("A", "B")
MANIFEST, KIND, VERSION = "pair.json", "workbench pair", 1
_COMPARED = ("loss", "eval_loss")


def pretrain_pair(
    request: PairRequest, runs_folder: Path, compute: Compute, resolve: Resolve, control: Control
) -> Generator[Event, None, TrainResult]:
    """Train two models on the same batches, A's step k before B's; both are ordinary runs, in `A/` and `B/` of one folder.

    Events of the runs carry "A" or "B" as `run` and their losses as `loss_a`, `loss_b`; a `PairEvent` follows when both
    have done a step. A run that diverges ends alone, with a warning; its result's reason is "diverged". A budget of minutes
    is that of both together. Raises `ConfigError` when more than the architecture differs, or nothing does.
    """
    sides = dict(zip(NAMES, (replace(side, resume=request.resume) for side in (request.a, request.b)), strict=True))
    _require_comparable(sides["A"], sides["B"])
    if request.resume and request.out is None:
        raise ConfigError("There is no pair to resume.", hint="Name its folder.")
    folder = (request.out or fresh_folder(runs_folder, "pair")).expanduser().absolute()
    sides = {name: replace(side, out=folder / name) for name, side in sides.items()}
    for name, side in sides.items():
        require_request(side)
        (require_checkpoint if request.resume else require_unused)(folder / name)
    context = min(side.model.max_positions for side in sides.values())
    ready = yield from prepared(sides["A"], context, folder / "A" if request.resume else None, resolve, control)
    if ready is None:
        return TrainResult(reason="stopped", steps=0)
    if not request.resume:
        _describe(folder, sides)
    minutes = request.a.train.max_minutes
    pace = None if minutes is None else ClockPace(60 * minutes)
    runs = {name: trained(side, _with(ready, side), compute, control, pace) for name, side in sides.items()}
    return replace((yield from _side_by_side(runs)), folder=folder)


def _require_comparable(a: PretrainRequest, b: PretrainRequest) -> None:
    for what in ("data", "tokenizer", "train"):
        one, other = to_dict(getattr(a, what)), to_dict(getattr(b, what))
        if one != other:
            field = next(key for key in one if one[key] != other[key])
            raise ConfigError(
                f"A and B differ in {field} ({one[field]!r} and {other[field]!r}).", hint="A pair may differ in the architecture alone."
            )
    if a.model.causal != b.model.causal:
        raise ConfigError("One model predicts the next token and the other fills in masked ones.", hint="Make both causal, or neither.")
    if not [d for d in differences(a.model, b.model) if d.field != "vocab_size"]:
        raise ConfigError("A and B are the same architecture.", hint="Change a toggle of B.")


def _describe(folder: Path, sides: Mapping[str, PretrainRequest]) -> None:
    found = [d._asdict() for d in differences(sides["A"].model, sides["B"].model)]
    write_json(
        folder / MANIFEST, {"differences": found, "requests": {n: s.to_dict() for n, s in sides.items()}}, kind=KIND, version=VERSION
    )


def _with(ready: Prepared, side: PretrainRequest) -> Prepared:
    return replace(ready, config=replace(side.model, vocab_size=ready.config.vocab_size))


@dataclass
class _Side:
    """One run of the pair: where it is, and how it ended."""

    name: str
    steps: Generator[Event, None, TrainResult]
    step: int = 0
    result: TrainResult | None = None


def _side_by_side(runs: Mapping[str, Generator[Event, None, TrainResult]]) -> Generator[Event, None, TrainResult]:
    """Advance the run that is behind (A when level) until it has done a step or has ended."""
    sides = [_Side(name, steps) for name, steps in runs.items()]
    compared = _Comparison()
    last: TrainingDiverged | None = None
    with ExitStack() as stack:
        for side in sides:
            stack.enter_context(closing(side.steps))
        while running := [s for s in sides if s.result is None]:
            side = min(running, key=lambda s: s.step)
            try:
                yield from _one_step(side, compared)
            except TrainingDiverged as error:
                last = error
                side.result = TrainResult(reason="diverged", steps=error.good_step, model=error.saved)
                yield Notice(message=f"Run {side.name}: {error.message} {error.hint}", level="warning")
    ended = {s.name: s.result for s in sides if s.result is not None}
    if last is not None and all(r.reason == "diverged" for r in ended.values()):
        raise last
    reason = "stopped" if any(r.reason == "stopped" for r in ended.values()) else "done"
    return TrainResult(reason=reason, steps=min(r.steps for r in ended.values()), final=compared.final, runs=ended)


def _one_step(side: _Side, compared: _Comparison) -> Generator[Event, None, None]:
    """The events of one run up to its next step; what both runs have done by then is compared."""
    while True:
        try:
            event = next(side.steps)
        except StopIteration as end:
            side.result = end.value
            return
        if isinstance(event, TrainEvent):
            yield replace(event, run=side.name, metrics=_suffixed(event.metrics, side.name))
            if isinstance(event, StepEvent | EvalEvent) and (found := compared.add(side.name, event)):
                yield PairEvent(step=event.step, of=event.of, metrics=found)
            if isinstance(event, StepEvent):
                side.step = event.step
                return
        elif not isinstance(event, Phase) or side.name == NAMES[0]:  # the words of one of them are enough
            yield event


def _suffixed(metrics: Mapping[str, float], run: str) -> dict[str, float]:
    """Metrics whose curves must not be one zigzag of both runs get the run's letter; speed and memory are the machine's."""
    return {f"{name}_{run.lower()}" if name in _COMPARED else name: value for name, value in metrics.items()}


class _Comparison:
    """Pairs up what two runs measured at the same step."""

    def __init__(self) -> None:
        self._waiting: dict[tuple[str, int], tuple[str, float]] = {}
        self.final: dict[str, float] = {}

    def add(self, run: str, event: TrainEvent) -> dict[str, float]:
        """The metrics of both runs once the second of them has measured; empty before."""
        found: dict[str, float] = {}
        for name in _COMPARED:
            if name not in event.metrics or (name == "eval_loss") != isinstance(event, EvalEvent):
                continue
            key, mine = (name, event.step), event.metrics[name]
            if key not in self._waiting:
                self._waiting[key] = (run, mine)
                continue
            other, theirs = self._waiting.pop(key)
            both = {other: theirs, run: mine}
            found |= {f"{name}_{letter.lower()}": value for letter, value in both.items()}
            if name == "loss":
                found["loss_difference"] = both[NAMES[1]] - both[NAMES[0]]
        self.final |= found
        return found
