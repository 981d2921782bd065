"""Decoding one sequence with the exact cache, and time to the first token: ours, in full precision and in few bits, beside transformers
and llama.cpp (where its Python binding is installed).

The figures of the README's tables. Ours is `generate`, the path of the chat, not a bare loop. What a scheme does to the perplexity of
the built-in prose is measured beside its speed. Embeddings and head are quantized too: norms alone stay as they are.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from tests.benchmarks.common import arguments, greedy, interleave, llamacpp_model, report, timed, transformers_model

PROMPT, NEW, LONG = 128, 32, 512


def main() -> None:
    args = arguments(__doc__)
    import torch

    torch.set_num_threads(args.threads)
    engines = Engines(args.model, args.threads)
    decode = interleave(engines.decoders(), args.repeats)
    first = interleave(engines.starters(), args.repeats)
    uncached = interleave({"ours, no cache, float32": lambda: sum(engines.ours(PROMPT, 5, cached=False)[1:]) / 4 / 1000}, 2)
    report(f"Decode and first token, {args.threads} threads", _rows({**decode, **uncached}, first), args.json)
    report("Weights in few bits", _prices(engines.loaded, engines.small), args.json)


class Engines:
    """Our model, whole and in few bits, and its peers with the same weights; each asked to do the same work in seconds."""

    def __init__(self, path: str, threads: int) -> None:
        import torch

        from workbench.checkpoints import load_checkpoint
        from workbench.devices import choose_compute
        from workbench.quantization import SCHEMES, quantize, twin

        self.loaded = load_checkpoint(path)
        model = self.loaded.model
        self.ids: list[int] = torch.randint(1000, 20000, (LONG,), generator=torch.Generator().manual_seed(0)).tolist()
        self.auto = choose_compute("cpu", "auto").prefill_dtype
        self.small = {kind: quantize(twin(model), kind, ("*norm*",)) for kind in SCHEMES.names()}
        self.peers = {name: transformers_model(model, dtype) for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16))}
        llamas = {type: llamacpp_model(model, type, threads, LONG + NEW) for type in ("f32", "q8_0")}
        self.llamas = {type: llama for type, llama in llamas.items() if llama is not None}

    def decoders(self) -> dict[str, Callable[[], float]]:
        """Seconds per token after a short prompt."""
        return {
            "ours, exact cache, float32": lambda: sum(self.ours(PROMPT, NEW + 1)[1:]) / NEW / 1000,
            **{f"ours, weights {k}": lambda k=k: sum(self.ours(PROMPT, NEW + 1, kind=k)[1:]) / NEW / 1000 for k in self.small},  # type: ignore[misc]
            "transformers, DynamicCache, float32": lambda: self.peer_per_token("float32"),
            "transformers, DynamicCache, bfloat16": lambda: self.peer_per_token("bfloat16"),
            **{f"llama.cpp, {type}": lambda type=type: self.llama_per_token(type) for type in self.llamas},  # type: ignore[misc]
        }

    def starters(self) -> dict[str, Callable[[], float]]:
        """Seconds until the first token after a long prompt."""
        auto = f"automatic precision ({self.auto})"
        return {
            "ours, float32": lambda: self.ours(LONG, 1)[0] / 1000,
            f"ours, {auto}": lambda: self.ours(LONG, 1, self.auto)[0] / 1000,
            **{f"ours, weights {k}, {auto}": lambda k=k: self.ours(LONG, 1, self.auto, kind=k)[0] / 1000 for k in self.small},  # type: ignore[misc]
            "transformers, float32": lambda: self.theirs("float32", LONG, 1),
            "transformers, bfloat16": lambda: self.theirs("bfloat16", LONG, 1),
            **{f"llama.cpp, {type}": lambda type=type: self.llama_first(type) for type in self.llamas},  # type: ignore[misc]
        }

    def ours(self, prompt: int, new: int, dtype: Any = None, cached: bool = True, kind: str | None = None) -> list[float]:
        """Milliseconds of each token, the first one's with the prompt's. `kind`: of weights in few bits."""
        from workbench.caches import KVCache
        from workbench.generation import GenerationConfig, TokenEvent, generate

        model = self.loaded.model if kind is None else self.small[kind]
        cache = KVCache.for_model(model, capacity=prompt + new) if cached else None
        config = GenerationConfig(do_sample=False, max_new_tokens=new)
        events = generate(model, None, self.ids[:prompt], config, cache=cache, stop_ids=(), prefill_dtype=dtype)
        return [e.ms for e in events if isinstance(e, TokenEvent)]

    def theirs(self, dtype: str, prompt: int, new: int) -> float:
        import torch

        inputs = torch.tensor([self.ids[:prompt]])
        with torch.inference_mode():
            started = time.perf_counter()
            self.peers[dtype].generate(inputs, attention_mask=torch.ones_like(inputs), max_new_tokens=new, do_sample=False)
            return time.perf_counter() - started

    def peer_per_token(self, dtype: str) -> float:
        return (self.theirs(dtype, PROMPT, NEW + 1) - self.theirs(dtype, PROMPT, 1)) / NEW

    def llama_first(self, type: str, prompt: int = LONG) -> float:
        llama = self.llamas[type]
        llama.reset()
        return timed(lambda: llama.eval(self.ids[:prompt]))

    def llama_per_token(self, type: str) -> float:
        self.llama_first(type, PROMPT)
        return timed(lambda: greedy(self.llamas[type], NEW)) / NEW


def _rows(decode: dict[str, dict[str, float]], first: dict[str, dict[str, float]]) -> list[dict[str, Any]]:
    base, start = decode["transformers, DynamicCache, float32"]["median"], first["transformers, float32"]["median"]
    rows = [_row(name, f"ms/token at {PROMPT}", found, base) for name, found in decode.items()]
    return rows + [_row(name, f"first token after {LONG}, ms", found, start) for name, found in first.items()]


def _prices(loaded: Any, small: dict[str, Any]) -> list[dict[str, Any]]:
    """What each scheme does to the weights' bytes, and to the perplexity of the built-in prose."""
    from workbench.data.samples import sample_text
    from workbench.generation import score

    ids = loaded.tokenizer.encode(sample_text())

    def perplexity(model: Any) -> float:
        events = score(model, loaded.tokenizer, ids, window=512)
        while True:
            try:
                next(events)
            except StopIteration as end:
                return float(end.value.perplexity)

    whole = perplexity(loaded.model)
    return [
        {"weights": kind, "MB": sum(p.nbytes for p in model.parameters()) / 1e6, "perplexity, %": 100 * (perplexity(model) / whole - 1)}
        for kind, model in {"float32": loaded.model, **small}.items()
    ]


def _row(name: str, what: str, found: dict[str, float], base: float) -> dict[str, Any]:
    return {
        "engine": name,
        "figure": what,
        "median": 1000 * found["median"],
        "minimum": 1000 * found["minimum"],
        "speed-up against transformers float32": base / found["median"],
        "stolen": found["stolen"],
    }


if __name__ == "__main__":
    main()
