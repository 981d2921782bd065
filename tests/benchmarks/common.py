"""What every benchmark here shares: interleaved timing, the share of stolen CPU time, one table and one JSON object.

    python -m tests.benchmarks.decode MODEL.gguf [--repeats 5] [--json]

Ours and the peer run alternately in one process with the same threads, so that ratios hold while the machine drifts.
Times are medians over the runs that the hypervisor disturbed least.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

if "--spin" not in sys.argv:  # read by OpenMP when torch is imported
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

Seconds = Callable[[], float]
"""Does the work once and returns the seconds that count."""


def arguments(description: str | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(description or "").splitlines()[0])
    parser.add_argument("model", type=Path, help="The starter model's GGUF.")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--json", action="store_true")
    parser.add_argument(
        "--spin", action="store_true", help="Waiting threads spin: OpenMP's default, with which peers are used, and not this program's."
    )
    return parser.parse_args()


def _ticks() -> tuple[int, int]:
    """(all, stolen) clock ticks of the machine so far; (0, 0) where the system does not tell."""
    try:
        numbers = [int(n) for n in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    except OSError:
        return 0, 0
    return sum(numbers), numbers[7]


def timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def interleave(candidates: dict[str, Seconds], repeats: int) -> dict[str, dict[str, float]]:
    """Run A, B, C, A, B, C, … after one warm-up each -> name -> median, minimum and maximum seconds, stolen share."""
    for work in candidates.values():
        work()
    runs: dict[str, list[tuple[float, float]]] = {name: [] for name in candidates}
    for _ in range(repeats):
        for name, work in candidates.items():
            before = _ticks()
            seconds = work()
            after = _ticks()
            runs[name].append((seconds, (after[1] - before[1]) / max(1, after[0] - before[0])))
    return {name: _summary(found) for name, found in runs.items()}


def _summary(found: list[tuple[float, float]]) -> dict[str, float]:
    least = min(stolen for _, stolen in found)
    kept = [seconds for seconds, stolen in found if stolen <= least + 0.04]
    return {
        "median": statistics.median(kept),
        "minimum": min(kept),
        "maximum": max(kept),
        "stolen": statistics.median(s for _, s in found),
    }


def report(title: str, rows: list[dict[str, Any]], as_json: bool) -> None:
    """Print the rows as a table, or the whole as one JSON object."""
    if as_json:
        print(json.dumps({"title": title, "rows": rows}))
        return
    heads = list(rows[0])
    texts = [[f"{v:.4g}" if isinstance(v, float) else str(v) for v in row.values()] for row in rows]
    widths = [max(len(h), *(len(t[i]) for t in texts)) for i, h in enumerate(heads)]
    print(title)
    for line in (heads, *texts):
        print("  ".join(cell.rjust(w) if i else cell.ljust(w) for i, (cell, w) in enumerate(zip(line, widths, strict=True))))


def transformers_model(model: Any, dtype: Any) -> Any:
    """transformers' LlamaForCausalLM with the weights of our loaded model, in `dtype`."""
    import tempfile

    from transformers import AutoModelForCausalLM

    from workbench.checkpoints import save_checkpoint

    with tempfile.TemporaryDirectory() as folder:
        save_checkpoint(model, None, None, Path(folder) / "hf", format="hf")
        peer = AutoModelForCausalLM.from_pretrained(Path(folder) / "hf", dtype=dtype).eval()
    peer.generation_config.eos_token_id = None
    peer.generation_config.pad_token_id = 0
    return peer


def llamacpp_model(model: Any, type: str, threads: int, context: int) -> Any:
    """llama.cpp's model with the weights of ours in `type`, or None where its Python binding is not installed: pip install
    llama-cpp-python builds it with the machine's own instructions."""
    import importlib.util
    import tempfile

    from workbench.checkpoints import save_checkpoint

    if importlib.util.find_spec("llama_cpp") is None:
        return None
    import llama_cpp

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "peer.gguf"
        save_checkpoint(model, None, None, file, format="gguf", type=type)
        # Read into memory, not mapped: the file goes away.
        return llama_cpp.Llama(
            str(file), n_ctx=context, n_batch=context, n_threads=threads, n_threads_batch=threads, use_mmap=False, verbose=False
        )


def greedy(llama: Any, count: int) -> None:
    """Let llama.cpp write `count` tokens after what it has read, the likeliest each, without its binding's samplers."""
    import llama_cpp
    import numpy as np

    token, vocabulary = 1234, llama.n_vocab()
    for _ in range(count):
        batch = llama_cpp.llama_batch_get_one((llama_cpp.llama_token * 1)(token), 1)
        assert llama_cpp.llama_decode(llama.ctx, batch) == 0
        token = int(np.ctypeslib.as_array(llama_cpp.llama_get_logits_ith(llama.ctx, -1), shape=(vocabulary,)).argmax())
