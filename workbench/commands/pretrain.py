"""`pretrain`: train a model of any architecture from scratch, alone or as a pair."""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from workbench.commands.base import STOPPED, Console, verb
from workbench.commands.common import changed, compute_flags, open_session, preset_config, preset_flags
from workbench.core.errors import ConfigError
from workbench.core.events import Event
from workbench.core.fields import describe
from workbench.core.flags import add_flags, from_flags
from workbench.core.format import duration_text

if TYPE_CHECKING:
    from workbench.requests import PairRequest, PretrainRequest

C = TypeVar("C")
_PRESET = "tiny-llama"
_SHOWN = (
    "loss", "eval_loss", "loss_a", "loss_b", "loss_difference", "eval_loss_a", "eval_loss_b", "gradient_norm", "train_tokens_per_second",
)  # fmt: skip
_LINES_EVERY = 1.0


def _arguments(parser: argparse.ArgumentParser) -> None:
    from workbench.data import DataConfig
    from workbench.tokenizers.config import TOKENIZERS, TokenizerConfig
    from workbench.training import PretrainConfig

    text = "Text files, folders, or built-in data sets (default: stdlib-docstrings)."
    parser.add_argument("sources", metavar="DATA", nargs="*", help=text)
    preset_flags(parser)
    parser.add_argument("--out", metavar="DIR", type=Path, help="Run folder (default: a fresh one below the data folder).")
    text = "Go on with the run in --out from its last checkpoint; what is not said again is as it was."
    parser.add_argument("--resume", action="store_true", help=text)
    text = "Train a second model beside it with this field changed; repeatable. --out then holds the runs A and B."
    parser.add_argument("--pair", metavar="FIELD=VALUE", action="append", default=[], help=text)
    kinds = "|".join(o.name for o in TOKENIZERS)
    text = "bpe learns one from the data, bytes takes every byte as a token, existing takes that of --tokenizer-of. Default: bpe."
    parser.add_argument("--tokenizer", metavar=kinds, dest="kind", default=argparse.SUPPRESS, help=text)
    parser.add_argument("--tokenizer-of", metavar="MODEL", dest="path", default=argparse.SUPPRESS, help="Whose tokenizer to take.")
    add_flags(parser, TokenizerConfig, skip=("kind", "path"))
    add_flags(parser, PretrainConfig, skip=("dtype",))  # --dtype is the run's; weights that are trained stay float32
    add_flags(parser, DataConfig, skip=("sources",))
    compute_flags(parser)


@verb("pretrain", "Train a model from scratch, on a tokenizer of its own; stops, resumes, compares two architectures.", _arguments)
def run(args: argparse.Namespace, console: Console) -> int:
    if hasattr(args, "path") and not hasattr(args, "kind"):
        args.kind = "existing"
    if args.resume and args.out is None:
        raise ConfigError("There is no run to resume.", hint="Name its folder with --out.")
    session = open_session(args)
    if args.pair or (args.resume and (args.out / "pair.json").is_file()):
        result = console.follow(session.pretrain_pair(_pair(args), console.control), _Show(console))
        ends = [f"{name}: {r.reason} after {r.steps} steps; model: {r.model or 'none'}" for name, r in result.runs.items()]
        words = "\n".join([_figures(result.final), *ends])
    else:
        request = replace(_request(args, args.out if args.resume else None), out=args.out, resume=args.resume)
        result = console.follow(session.pretrain(request, console.control), _Show(console))
        words = f"{result.reason} after {result.steps} steps; model: {result.model or 'none'}"
    console.result({"event": "done", **result.to_json()}, words)
    return STOPPED if result.reason == "stopped" else 0


def _pair(args: argparse.Namespace) -> PairRequest:
    from workbench.requests import PairRequest

    a = _request(args, args.out / "A" if args.resume else None)
    b = _request(args, args.out / "B") if args.resume and not args.pair else replace(a, model=changed(a.model, args.pair))
    return PairRequest(a=a, b=b, out=args.out, resume=args.resume)


def _request(args: argparse.Namespace, resumed: Path | None) -> PretrainRequest:
    """What the flags ask, on top of the defaults, or of what a run that is resumed was started with."""
    from workbench.pretraining import request_of
    from workbench.requests import PretrainRequest

    base = request_of(resumed) if resumed is not None else PretrainRequest(model=preset_config(args.preset or _PRESET))
    given = argparse.Namespace(**{**vars(args), "sources": args.sources} if args.sources else _without(args, "sources"))
    if hasattr(args, "max_steps") and not hasattr(args, "max_minutes"):
        given.max_minutes = None
    model = preset_config(args.preset) if args.preset else base.model
    parts: dict[str, Any] = {name: _overlaid(getattr(base, name), given) for name in ("data", "tokenizer", "train")}
    return replace(base, model=changed(model, args.changes), out=None, **parts)


def _without(args: argparse.Namespace, name: str) -> dict[str, Any]:
    return {key: value for key, value in vars(args).items() if key != name}


def _overlaid(config: C, given: argparse.Namespace) -> C:
    """`config` with the fields that flags were given for."""
    unset = {info.name: getattr(config, info.name) for info in describe(type(config)) if not hasattr(given, info.name)}
    return from_flags(type(config), given, **unset)


def _figures(metrics: Mapping[str, float]) -> str:
    return "  ".join(f"{name} {value:.4g}" for name, value in metrics.items() if name in _SHOWN)


class _Show:
    """A line a second for the steps, one for each evaluation; samples as they are."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._next = 0.0

    def __call__(self, event: Event) -> None:
        from workbench.training import EvalEvent, PairEvent, SampleEvent, StepEvent

        if isinstance(event, SampleEvent):
            self.console.say(f"\n[{' '.join(filter(None, (event.run, 'sample', str(event.step))))}] {event.prompt}{event.text.rstrip()}\n")
        elif isinstance(event, EvalEvent) or (isinstance(event, StepEvent | PairEvent) and time.monotonic() >= self._next):
            if event.run == "A" and isinstance(event, StepEvent):
                return  # the comparison that follows says it
            self._next = time.monotonic() + _LINES_EVERY
            left = f"  {duration_text(event.eta_seconds)} left" if isinstance(event, StepEvent) else ""
            name = " ".join(filter(None, (event.run, event.name)))
            self.console.say(f"{name} {event.step}/{event.of}  {_figures(event.metrics)}{left}")
