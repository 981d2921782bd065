"""Decoding through each KV cache, prompts included, and what the caches take: ours beside transformers' DynamicCache and QuantizedCache.

Every candidate holds the same number of tokens and grows by a few at a time, in turn. The QuantizedCache needs a backend:

    pip install optimum-quanto ninja      or      pip install hqq
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import sys
from collections.abc import Callable
from typing import Any

from tests.benchmarks.common import arguments, interleave, report, timed, transformers_model

LENGTHS = (512, 2048, 7936)
PROMPT, STEPS, LONG = 512, 8, 32_768
BACKENDS = {"quanto": "optimum.quanto", "hqq": "hqq"}

Row = dict[str, Any]


def main() -> None:
    args = arguments(__doc__)
    import torch

    from workbench.checkpoints import load_checkpoint
    from workbench.quantization import quantize, twin

    torch.set_num_threads(args.threads)
    model = load_checkpoint(args.model).model.requires_grad_(False)
    light = quantize(twin(model), "int8")
    peer = transformers_model(model, torch.float32)
    backend = _backend()
    if backend is None:
        print("transformers' QuantizedCache is left out: neither optimum-quanto nor hqq is installed.", file=sys.stderr)
    with torch.inference_mode():
        for length in LENGTHS:
            rows = _decoding(model, light, peer, backend, length, args.repeats)
            report(f"Decoding at {length} tokens, {args.threads} threads", rows, args.json)
        report(f"A prompt of {PROMPT} tokens, {args.threads} threads", _prompts(model, args.repeats), args.json)
        report(f"Memory of {LONG} tokens", _memory(model), args.json)


def _backend() -> str | None:
    """Which backend of the QuantizedCache is installed."""
    for name, package in BACKENDS.items():
        if importlib.util.find_spec(package.partition(".")[0]) and importlib.util.find_spec(package):
            return name
    return None


def _configs() -> dict[str, Any]:
    from workbench.caches import CACHE_PRESETS, KV_CODECS, CacheConfig

    def bare(kind: str, **options: Any) -> CacheConfig:
        choice = KV_CODECS.choose(kind, options)
        return CacheConfig(codec=choice, value_codec=choice)

    made = {
        "exact": CacheConfig(),
        "exact, float16": bare("exact", dtype="float16"),
        "int8": bare("int8"),
        "turboquant K4/V4": bare("turboquant", bits=4),
        "turboquant K3/V3": bare("turboquant", bits=3),
    }
    return made | {f"preset {name}": preset.config for name, preset in CACHE_PRESETS.items() if preset.config != CacheConfig()}


def _ids(count: int) -> Any:
    import torch

    return torch.randint(1000, 20000, (1, count), generator=torch.Generator().manual_seed(0))


# ---- one token after the other ---------------------------------------------------------------------------------------------


def _decoding(model: Any, light: Any, peer: Any, backend: str | None, length: int, repeats: int) -> list[Row]:
    from workbench.caches import CacheConfig, KVCache

    ids = _ids(length)
    read = KVCache.from_config(model, CacheConfig(), capacity=length)
    for start in range(0, length, PROMPT):
        model.hidden(ids[:, start : start + PROMPT], cache=read)
    candidates = {f"ours, {name}": _ours(model, config, read, ids, repeats) for name, config in _configs().items()}
    for name in ("exact", "turboquant K4/V4"):
        candidates[f"ours, {name}, int8 weights"] = _ours(light, _configs()[name], read, ids, repeats)
    candidates["transformers, DynamicCache"] = _theirs(peer, None, ids)
    if backend is not None:
        from transformers.cache_utils import QuantizedCache

        candidates[f"transformers, QuantizedCache, {backend}, 4 bits"] = _theirs(peer, QuantizedCache(backend, peer.config, nbits=4), ids)
    found = {name: 1000 * timing["median"] for name, timing in interleave(candidates, repeats).items()}
    quantized = next((ms for name, ms in found.items() if "Quantized" in name), float("nan"))
    return [
        {"cache": name, "ms/token": ms, "speed against exact": found["ours, exact"] / ms, "against QuantizedCache": quantized / ms}
        for name, ms in found.items()
    ]


def _ours(model: Any, config: Any, read: Any, ids: Any, repeats: int) -> Callable[[], float]:
    """Seconds per token of the next few tokens, each time it is called. The cache begins with what `read` holds."""
    from workbench.caches import KVCache

    cache = KVCache.from_config(model, config, capacity=read.length + STEPS * (repeats + 1))
    cache.take_over(read)

    def step() -> None:
        for at in range(STEPS):
            model(ids[:, at : at + 1], cache=cache)

    return lambda: timed(step) / STEPS


def _theirs(peer: Any, cache: Any, ids: Any) -> Callable[[], float]:
    held = peer(ids, past_key_values=cache, use_cache=True, logits_to_keep=1).past_key_values

    def step() -> None:
        for at in range(STEPS):
            peer(ids[:, at : at + 1], past_key_values=held, use_cache=True)

    return lambda: timed(step) / STEPS


# ---- a prompt --------------------------------------------------------------------------------------------------------------


def _prompts(model: Any, repeats: int) -> list[Row]:
    """Encoding is a part of reading a prompt."""
    from workbench.caches import KVCache

    ids = _ids(PROMPT)

    def reading(config: Any) -> Callable[[], float]:
        cache = KVCache.from_config(model, config, capacity=PROMPT)

        def read() -> None:
            cache.truncate(0)
            model.hidden(ids, cache=cache)

        return lambda: timed(read)

    found = interleave({f"ours, {name}": reading(config) for name, config in _configs().items()}, repeats)
    exact = found["ours, exact"]["median"]
    return [
        {"cache": name, "ms": 1000 * timing["median"], "speed against exact": exact / timing["median"]} for name, timing in found.items()
    ]


# ---- bytes -----------------------------------------------------------------------------------------------------------------


def _memory(model: Any) -> list[Row]:
    """Filled to the end: the tensors' bytes, those in use, and how much the process grew."""
    rows = [_filled(model, name, config) for name, config in _configs().items()]
    halves = next(row for row in rows if row["cache"] == "exact, float16")["used, MB"]
    return [row | {"times smaller than float16": halves / row["used, MB"]} for row in rows]


def _filled(model: Any, name: str, config: Any) -> Row:
    import gc

    import torch

    from workbench.caches import KVCache

    gc.collect()
    if sys.platform == "linux":
        ctypes.CDLL(None).malloc_trim(0)  # what was freed before must not be what is taken now
    before = _resident()
    cache = KVCache.from_config(model, config, capacity=LONG)
    sizes = model.config
    k, v = torch.randn(2, 1, sizes.kv_heads, 1024, sizes.head_width).unbind(0)
    for start in range(0, LONG, 1024):
        for layer in cache.layers:
            layer.store(k, v, start)
        cache.advance(1024)
    grown = _resident() - before
    return {"cache": name, "allocated, MB": cache.allocated_nbytes / 1e6, "used, MB": cache.nbytes / 1e6, "process grew, MB": grown / 1e6}


def _resident() -> int:
    """Bytes of this process that lie in memory; 0 where the system does not tell."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


if __name__ == "__main__":
    main()
