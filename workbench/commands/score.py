"""`score`: how well a model predicts a text, also through a cache."""

from __future__ import annotations

import argparse
from pathlib import Path

from workbench.commands.base import STOPPED, Console, verb
from workbench.commands.common import adapter_flag, compute_flags, model_argument, open_model
from workbench.commands.generate import cache_config

LEAST_CAPACITY = 16
"""Tokens of the smallest cache; a narrower window leaves some of them unused."""


def _arguments(parser: argparse.ArgumentParser) -> None:
    model_argument(parser)
    parser.add_argument("file", metavar="FILE", type=Path, help="A UTF-8 text.")
    parser.add_argument("--window", metavar="TOKENS", type=int, help="Tokens seen at once (default: the context).")
    parser.add_argument("--stride", metavar="TOKENS", type=int, help="Tokens between windows (default: the window).")
    parser.add_argument("--cache", metavar="CODEC", default="none", help="Decode through this cache instead of one pass per window.")
    adapter_flag(parser)
    compute_flags(parser)


@verb("score", "Negative log-likelihood, perplexity and bits per byte of a text.", _arguments)
def run(args: argparse.Namespace, console: Console) -> int:
    from workbench.requests import ScoreRequest

    session = open_model(args, console)
    capacity = None if args.cache == "none" or args.window is None else max(LEAST_CAPACITY, args.window)
    request = ScoreRequest(file=args.file, window=args.window, stride=args.stride, cache=cache_config(args.cache, capacity))
    result = console.follow(session.score(request, console.control))
    detail = f"{result.bits_per_byte:.4f} bits per byte, {result.windows} windows"
    console.result(result.to_json(), f"perplexity {result.perplexity:.4f} over {result.tokens} tokens ({detail})")
    return STOPPED if result.stopped else 0
