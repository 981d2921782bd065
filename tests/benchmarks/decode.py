"""Decoding one sequence with the exact cache, and time to the first token: ours, in full precision and in few bits, beside transformers
and llama.cpp (where its Python binding is installed).

The figures of the README's tables. Ours is `generate`, the path of the chat, not a bare loop. What a scheme does to the perplexity of
the built-in prose is measured beside its speed. Embeddings and head are quantized too: norms alone stay as they are.
"""

from __future__ import annotations

import time
from typing import Any

from tests.benchmarks.common import arguments, greedy, interleave, llamacpp_model, report, timed, transformers_model

PROMPT, NEW, LONG = 128, 32, 512


def main() -> None:
    args = arguments(__doc__)
    import torch

    from workbench.caches import KVCache
    from workbench.checkpoints import load_checkpoint
    from workbench.devices import choose_compute
    from workbench.generation import GenerationConfig, TokenEvent, generate
    from workbench.quantization import SCHEMES, quantize, twin

    torch.set_num_threads(args.threads)
    loaded = load_checkpoint(args.model)
    model = loaded.model
    ids = torch.randint(1000, 20000, (LONG,), generator=torch.Generator().manual_seed(0)).tolist()
    auto = choose_compute("cpu", "auto").prefill_dtype
    small = {kind: quantize(twin(model), kind, ("*norm*",)) for kind in SCHEMES.names()}

    def ours(prompt: int, new: int, dtype: torch.dtype | None = None, cached: bool = True, kind: str | None = None) -> list[float]:
        """Milliseconds of each token, the first one's with the prompt's. `kind`: of weights in few bits."""
        model = loaded.model if kind is None else small[kind]
        cache = KVCache.for_model(model, capacity=prompt + new) if cached else None
        config = GenerationConfig(do_sample=False, max_new_tokens=new)
        events = generate(model, None, ids[:prompt], config, cache=cache, stop_ids=(), prefill_dtype=dtype)
        return [e.ms for e in events if isinstance(e, TokenEvent)]

    def theirs(peer: Any, prompt: int, new: int) -> float:
        inputs = torch.tensor([ids[:prompt]])
        with torch.inference_mode():
            started = time.perf_counter()
            peer.generate(inputs, attention_mask=torch.ones_like(inputs), max_new_tokens=new, do_sample=False)
            return time.perf_counter() - started

    peers = {name: transformers_model(model, dtype) for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16))}

    def per_token(peer: Any) -> float:
        return (theirs(peer, PROMPT, NEW + 1) - theirs(peer, PROMPT, 1)) / NEW

    llamas = {type: llamacpp_model(model, type, args.threads, LONG + NEW) for type in ("f32", "q8_0")}
    llamas = {type: llama for type, llama in llamas.items() if llama is not None}

    def llama_first(llama: Any, prompt: int = LONG) -> float:
        llama.reset()
        return timed(lambda: llama.eval(ids[:prompt]))

    def llama_per_token(llama: Any) -> float:
        llama_first(llama, PROMPT)
        return timed(lambda: greedy(llama, NEW)) / NEW

    decode = interleave(
        {
            "ours, exact cache, float32": lambda: sum(ours(PROMPT, NEW + 1)[1:]) / NEW / 1000,
            **{f"ours, weights {k}": lambda k=k: sum(ours(PROMPT, NEW + 1, kind=k)[1:]) / NEW / 1000 for k in small},  # type: ignore[misc]
            "transformers, DynamicCache, float32": lambda: per_token(peers["float32"]),
            "transformers, DynamicCache, bfloat16": lambda: per_token(peers["bfloat16"]),
            **{f"llama.cpp, {type}": lambda llama=llama: llama_per_token(llama) for type, llama in llamas.items()},  # type: ignore[misc]
        },
        args.repeats,
    )
    first = interleave(
        {
            "ours, float32": lambda: ours(LONG, 1)[0] / 1000,
            f"ours, automatic precision ({auto})": lambda: ours(LONG, 1, auto)[0] / 1000,
            **{f"ours, weights {k}, automatic precision": lambda k=k: ours(LONG, 1, auto, kind=k)[0] / 1000 for k in small},  # type: ignore[misc]
            "transformers, float32": lambda: theirs(peers["float32"], LONG, 1),
            "transformers, bfloat16": lambda: theirs(peers["bfloat16"], LONG, 1),
            **{f"llama.cpp, {type}": lambda llama=llama: llama_first(llama) for type, llama in llamas.items()},  # type: ignore[misc]
        },
        args.repeats,
    )
    uncached = interleave({"ours, no cache, float32": lambda: sum(ours(PROMPT, 5, cached=False)[1:]) / 4 / 1000}, 2)
    report(f"Decode and first token, {args.threads} threads", _rows({**decode, **uncached}, first), args.json)
    report("Weights in few bits", _prices(loaded, small), args.json)


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
