"""`score`: how well a model predicts a text, also through a cache."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from workbench.commands.base import STOPPED, Console, verb
from workbench.commands.cache_flags import NONE, cache_config, cache_flags
from workbench.commands.common import adapter_flag, compute_flags, model_argument, open_model
from workbench.commands.quantize_flags import quantize_flags

LEAST_CAPACITY = 16
"""Tokens of the smallest cache; a narrower window leaves some of them unused."""


def _arguments(parser: argparse.ArgumentParser) -> None:
    model_argument(parser)
    parser.add_argument("file", metavar="FILE", type=Path, help="A UTF-8 text.")
    parser.add_argument("--window", metavar="TOKENS", type=int, help="Tokens seen at once (default: the context).")
    parser.add_argument("--stride", metavar="TOKENS", type=int, help="Tokens between windows (default: the window).")
    cache_flags(parser, NONE, what="Decode through a cache instead of one pass per window")
    adapter_flag(parser)
    quantize_flags(parser)
    compute_flags(parser)


@verb("score", "Negative log-likelihood, perplexity and bits per byte of a text.", _arguments)
def run(args: argparse.Namespace, console: Console) -> int:
    from workbench.requests import ScoreRequest

    cache = cache_config(args)
    if cache.use_cache and cache.capacity is None and args.window is not None:
        cache = replace(cache, capacity=max(args.window, LEAST_CAPACITY, cache.least_capacity(args.window)))
    session = open_model(args, console)
    request = ScoreRequest(file=args.file, window=args.window, stride=args.stride, cache=cache)
    result = console.follow(session.score(request, console.control))
    detail = f"{result.bits_per_byte:.4f} bits per byte, {result.windows} windows"
    console.result(result.to_json(), f"perplexity {result.perplexity:.4f} over {result.tokens} tokens ({detail})")
    return STOPPED if result.stopped else 0
