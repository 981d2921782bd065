"""`score`: how well a model predicts a text, also through a cache."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.commands.base import STOPPED, Console, table, verb
from workbench.commands.cache_flags import NONE, cache_config, cache_flags
from workbench.commands.common import adapter_flag, compute_flags, model_argument, open_model
from workbench.commands.quantize_flags import quantization_config, quantize_flags
from workbench.core.errors import ConfigError
from workbench.core.format import bytes_text

if TYPE_CHECKING:
    from workbench.caches import CacheConfig
    from workbench.quality import QualityRow

LEAST_CAPACITY = 16
"""Tokens of the smallest cache; a narrower window leaves some of them unused."""


def _arguments(parser: argparse.ArgumentParser) -> None:
    model_argument(parser)
    parser.add_argument("file", metavar="FILE", type=Path, help="A UTF-8 text.")
    parser.add_argument("--window", metavar="TOKENS", type=int, help="Tokens seen at once (default: the context).")
    parser.add_argument("--stride", metavar="TOKENS", type=int, help="Tokens between windows (default: the window).")
    cache_flags(parser, NONE, what="Decode through a cache instead of one pass per window")
    text = "Hold the cache, and weights that --quantize keeps in few bits, against the exact cache with the weights as loaded, paired."
    parser.add_argument("--compare", action="store_true", help=text)
    parser.add_argument("--keep", metavar="DIR", type=Path, help="With --compare: keep what was read there; the same call goes on with it.")
    adapter_flag(parser)
    quantize_flags(parser)
    compute_flags(parser)


@verb("score", "Negative log-likelihood, perplexity and bits per byte of a text.", _arguments)
def run(args: argparse.Namespace, console: Console) -> int:
    from workbench.requests import ScoreRequest

    cache = cache_config(args)
    if args.compare:
        return _compare(args, console, cache)
    if cache.use_cache and cache.capacity is None and args.window is not None:
        cache = replace(cache, capacity=max(args.window, LEAST_CAPACITY, cache.least_capacity(args.window)))
    session = open_model(args, console)
    request = ScoreRequest(file=args.file, window=args.window, stride=args.stride, cache=cache)
    result = console.follow(session.score(request, console.control))
    detail = f"{result.bits_per_byte:.4f} bits per byte, {result.windows} windows"
    console.result(result.to_json(), f"perplexity {result.perplexity:.4f} over {result.tokens} tokens ({detail})")
    return STOPPED if result.stopped else 0


def _compare(args: argparse.Namespace, console: Console, cache: CacheConfig) -> int:
    """Paired with the exact cache, on windows of `--window` tokens (default: 2048, or the context if it is shorter)."""
    from workbench.quality import QualityConfig, QualityRequest, QualitySide

    weights = quantization_config(args)
    scheme = args.quantize or ""
    if not cache.use_cache and weights is None:
        raise ConfigError("There is nothing to compare.", hint="Name a cache with --cache, or weights in few bits with --quantize.")
    args.quantize, args.quantize_skip, args.quantize_changes = None, None, []  # the other side keeps the weights as they are
    session = open_model(args, console)
    context = args.window or min(2048, session.loaded.config.max_positions)
    if not cache.use_cache:
        cache = replace(cache, use_cache=True)
    name = " + ".join(filter(None, (args.cache if args.cache != NONE else "", f"{scheme} weights" if scheme else "")))
    size = args.file.stat().st_size if args.file.is_file() else 0
    config = QualityConfig(contexts=(context,), tokens=max(64, size), text=str(args.file))
    request = QualityRequest(sides=(QualitySide(name=name, cache=cache, weights=weights),), config=config, folder=args.keep)
    report = console.follow(session.quality(request, console.control))
    console.say(table([_shown(row) for row in report.rows]))
    console.result(report.to_json(), f"{report.text}, {context:,} tokens at once")
    return STOPPED if report.stopped else 0


def _shown(row: QualityRow) -> dict[str, Any]:
    return {
        "side": row.side, "tokens": row.tokens, "cache": bytes_text(row.nbytes), "× fp16": f"{row.against_float16:.2f}",
        "Δ perplexity": f"{row.perplexity_percent:+.2f} %", "Δ nats": f"{row.delta:+.5f} [{row.low:+.5f}, {row.high:+.5f}]",
        "KL": f"{row.kl:.2g}", "KL p99": f"{row.kl_p99:.2g}", "first choice": f"{row.top1:.2%}", "label": row.label,
    }  # fmt: skip
