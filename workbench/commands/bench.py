"""`bench`: this machine's own figures. The comparisons with other programs are in tests/benchmarks."""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from workbench.commands.base import Console, table, verb
from workbench.commands.cache_flags import NONE, cache_config, cache_flags, named_cache
from workbench.commands.common import compute_flags, open_model
from workbench.commands.quantize_flags import quantize_flags
from workbench.core.errors import ConfigError, WorkbenchError

if TYPE_CHECKING:
    from workbench.caches import CacheConfig
    from workbench.session import Session

Row = dict[str, Any]
_PROMPT, _NEW = 128, 32
_PIECE, _SPARE = 512, 8
"""Tokens of a prompt that are read at a time, and room behind them."""


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", metavar="|".join((*_BENCHES, "ui")), help="What to measure; ui opens the window for about a minute.")
    parser.add_argument("--model", metavar="MODEL", default="starter", help="Default: starter.")
    parser.add_argument("--repeats", metavar="N", type=int, default=5, help="Timed repeats; medians are shown. Default: 5.")
    cache_flags(parser, what="With decode and cache: measure this one too, or alone")
    quantize_flags(parser)
    compute_flags(parser)


def _median_ms(work: Callable[[], float], repeats: int) -> float:
    """Median of `repeats` results of `work` (seconds) after one that does not count, in milliseconds."""
    work()
    return round(1000 * statistics.median(work() for _ in range(repeats)), 3)


def _tokens_ms(session: Session, prompt: int, new: int, kind: CacheConfig | None = None) -> list[float]:
    """Milliseconds of each new token through the path of the chat; the first one's include the prompt's. `kind` None: exact."""
    from workbench.caches import CacheConfig, KVCache
    from workbench.generation import GenerationConfig, TokenEvent, generate

    model, kind = session.loaded.model, kind or CacheConfig()
    cache = KVCache.from_config(model, kind, capacity=prompt + new) if kind.use_cache else None
    ids = [1 + i % (model.config.vocab_size - 1) for i in range(prompt)]
    config = GenerationConfig(do_sample=False, max_new_tokens=new)
    events = generate(model, None, ids, config, cache=cache, stop_ids=(), prefill_dtype=session.compute.prefill_dtype)
    return [e.ms for e in events if isinstance(e, TokenEvent)]


def _decode(session: Session, repeats: int, asked: CacheConfig | None) -> list[Row]:
    rows = []
    for kind in (named_cache("exact"), named_cache(NONE), *filter(None, (asked,))):
        new = _NEW if kind.use_cache else 4
        ms = _median_ms(lambda new=new, kind=kind: sum(_tokens_ms(session, _PROMPT, new + 1, kind)[1:]) / new / 1000, repeats)  # type: ignore[misc]
        rows.append({"cache": _name(kind), "context": _PROMPT, "ms_per_token": ms, "tokens_per_second": round(1000 / ms, 1)})
    return rows


def _name(kind: CacheConfig) -> str:
    """The kinds of keys and values, once if they are the same."""
    return " / ".join(dict.fromkeys((kind.codec.kind, kind.value_codec.kind))) if kind.use_cache else NONE


def _prefill(session: Session, repeats: int, _: CacheConfig | None) -> list[Row]:
    rows = []
    for prompt in (n for n in (128, 512, 2048) if n < session.loaded.config.max_positions):
        ms = _median_ms(lambda prompt=prompt: _tokens_ms(session, prompt, 1)[0] / 1000, repeats)  # type: ignore[misc]
        rows.append({"prompt": prompt, "first_token_ms": ms, "tokens_per_second": round(1000 * prompt / ms, 1)})
    return rows


def _cache(session: Session, repeats: int, asked: CacheConfig | None) -> list[Row]:
    """Every cache by name and every kind, or the one that is asked for beside the exact one; also at the context that is asked for."""
    import torch

    from workbench.caches import CACHE_PRESETS, KV_CODECS, CacheConfig, cache_nbytes

    names = dict.fromkeys((*KV_CODECS.names(), *CACHE_PRESETS))
    kinds = {name: named_cache(name) for name in (names if asked is None or not asked.use_cache else ("exact",))}
    if asked is not None and asked.use_cache and asked not in kinds.values():
        kinds[_name(asked)] = asked
    further = () if asked is None or asked.capacity is None else (asked.capacity - _SPARE,)
    sizes, rows = session.loaded.config, []
    for context in sorted({n for n in (512, 2048, *further) if 0 < n <= sizes.max_positions - _SPARE}):
        halves = cache_nbytes(CacheConfig(), sizes, context, dtype=torch.float16)
        for name, (ms, nbytes) in _cached_steps(session, kinds, context, repeats).items():
            row = {"cache": name, "context": context, "ms_per_token": ms, "tokens_per_second": round(1000 / ms, 1), "bytes": nbytes}
            rows.append({**row, "below_float16": round(halves / nbytes, 2), "below_float32": round(2 * halves / nbytes, 2)})
    return rows


def _cached_steps(session: Session, kinds: Mapping[str, CacheConfig], context: int, repeats: int) -> dict[str, tuple[float, int]]:
    """Median milliseconds of a step after `context` tokens, and what each cache then holds. The text is read once, into an exact cache
    that the others take over; they take turns, so that a machine that slows down slows all of them."""
    import torch

    from workbench.caches import KVCache

    model = session.loaded.model
    ids = (torch.arange(context, device=model.device) * 7919 % (model.config.vocab_size - 1) + 1)[None]
    taken: dict[str, list[float]] = {name: [] for name in kinds}
    with torch.inference_mode():
        read = KVCache.for_model(model, capacity=context)
        for at in range(0, context, _PIECE):
            model.hidden(ids[:, at : at + _PIECE], cache=read)
        caches = {name: KVCache.from_config(model, kind, capacity=context + _SPARE) for name, kind in kinds.items()}
        for cache in caches.values():
            cache.take_over(read)
        sizes = {name: cache.nbytes for name, cache in caches.items()}
        for _ in range(repeats + 1):
            for name, cache in caches.items():
                cache.truncate(context)
                started = time.perf_counter()
                int(model(ids[:, :1], cache=cache)[0, -1].argmax())
                taken[name].append(time.perf_counter() - started)
    return {name: (round(1000 * statistics.median(seconds[1:]), 3), sizes[name]) for name, seconds in taken.items()}


def _train(session: Session, repeats: int, _: CacheConfig | None) -> list[Row]:
    import numpy as np

    from workbench import adapters
    from workbench.data import Dataset
    from workbench.training import StepEvent, TrainConfig, train

    loaded, length = session.loaded, 256
    rng = np.random.default_rng(0)
    data = Dataset.of([(rng.integers(1, loaded.config.vocab_size, length), [True] * length) for _ in range(16)])
    rows = []
    for dtype in ("auto", "float32"):
        adapters.attach(loaded.model, adapters.LoraConfig(), "bench")
        try:
            config = TrainConfig(max_steps=repeats + 1, max_length=length, dtype=dtype, eval_steps=None, save_steps=None)
            seconds = [e.seconds for e in train(loaded.model, data, config, adapter="bench") if isinstance(e, StepEvent)][1:]
        finally:
            adapters.detach(loaded.model, "bench")
        step = statistics.median(seconds)
        speed = round(4 * length / step, 1)
        rows.append({"precision": dtype, "batch": f"4 x {length}", "s_per_step": round(step, 3), "tokens_per_second": speed})
    return rows


_Bench = Callable[["Session", int, "CacheConfig | None"], list[Row]]
_BENCHES: dict[str, _Bench] = {"decode": _decode, "prefill": _prefill, "train": _train, "cache": _cache}


@verb("bench", "Measure decoding, prompts, training steps, caches, or the window on this machine.", _arguments)
def run(args: argparse.Namespace, console: Console) -> int:
    if args.what == "ui":
        rows = _window(args)
    elif args.what in _BENCHES:
        asked = cache_config(args) if args.cache or args.cache_changes or args.context else None
        rows = _BENCHES[args.what](open_model(args, console), args.repeats, asked)
    else:
        raise ConfigError(f"There is no benchmark {args.what!r}.", hint=f"Choose one of: {', '.join(_BENCHES)}, ui.")
    console.result({"bench": args.what, "rows": rows}, table(rows))
    return 0


def _window(args: argparse.Namespace) -> list[Row]:
    """The window measures itself in a process of its own, because the engine never imports it."""
    command = [sys.executable, "-m", "ui.bench", "--model", str(args.model)]
    if args.home is not None:
        command += ["--home", str(args.home)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise WorkbenchError("The window could not be measured.", hint="See python -m workbench doctor.", details=done.stderr[-4000:])
    rows: list[Row] = json.loads(done.stdout.splitlines()[-1])["rows"]
    return rows
