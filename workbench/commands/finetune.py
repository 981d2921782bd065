"""`finetune`: train an adapter of a model."""

from __future__ import annotations

import argparse
from pathlib import Path

from workbench.commands.base import STOPPED, Console, verb
from workbench.commands.common import base_model, compute_flags, model_argument, open_model
from workbench.commands.quantize_flags import quantize_flags
from workbench.core.errors import ConfigError
from workbench.core.events import Event
from workbench.core.flags import add_flags, from_flags
from workbench.core.format import duration_text


def _arguments(parser: argparse.ArgumentParser) -> None:
    from workbench.adapters import LoraConfig
    from workbench.data import DataConfig
    from workbench.training import TrainConfig

    model_argument(parser)
    parser.add_argument("sources", metavar="DATA", nargs="+", help="Files, folders, or built-in data sets: sample-chat, stdlib-docstrings.")
    parser.add_argument("--out", metavar="DIR", type=Path, help="Run folder (default: a fresh one below the data folder).")
    parser.add_argument("--resume", action="store_true", help="Go on with the run in --out from its last checkpoint.")
    parser.add_argument("--full", action="store_true", help="Train all weights instead of an adapter; takes five times the model's memory.")
    add_flags(parser, LoraConfig)
    add_flags(parser, TrainConfig, skip=("dtype",))
    add_flags(parser, DataConfig, skip=("sources",))
    quantize_flags(parser)
    compute_flags(parser)


@verb("finetune", "Train a LoRA or RsLoRA adapter (PEFT's format) or all weights; stops, resumes and saves.", _arguments)
def run(args: argparse.Namespace, console: Console) -> int:
    from workbench.adapters import LoraConfig
    from workbench.data import DataConfig
    from workbench.requests import FinetuneRequest
    from workbench.training import TrainConfig

    base = base_model(args.model)
    if base != args.model:  # its adapter would be left out without a word
        raise ConfigError(f"{args.model} is a run; training on top of its adapter is not possible.", hint=f"Merge it, or train {base}.")
    precision = getattr(args, "dtype", "auto")
    vars(args).pop("dtype", None)  # the chat's weights keep the automatic precision; --dtype is the run's
    sources = tuple(vars(args).pop("sources"))
    request = FinetuneRequest(
        data=from_flags(DataConfig, args, sources=sources), lora=from_flags(LoraConfig, args),
        train=from_flags(TrainConfig, args, dtype=precision), out=args.out, resume=args.resume, full=args.full,
    )  # fmt: skip
    session = open_model(args, console)
    result = console.follow(session.finetune(request, console.control), _Show(console))
    made = f"model: {result.model or 'none'}" if args.full else f"adapter: {result.adapter or 'none'}"
    words = f"{result.reason} after {result.steps} steps; {made}"
    console.result({"event": "done", **result.to_json()}, words)
    return STOPPED if result.reason == "stopped" else 0


class _Show:
    """One line per step or evaluation."""

    def __init__(self, console: Console) -> None:
        self.console = console

    def __call__(self, event: Event) -> None:
        if event.name in ("step", "eval"):
            figures = "  ".join(f"{name} {value:.4g}" for name, value in event.metrics.items())
            left = f"  {duration_text(event.eta_seconds)} left" if hasattr(event, "eta_seconds") else ""
            self.console.say(f"{event.name} {getattr(event, 'step', 0)}/{getattr(event, 'of', 0)}  {figures}{left}")
