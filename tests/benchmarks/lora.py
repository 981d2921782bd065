"""One LoRA step (r = 16, all linear layers, 4 × 256 tokens): ours beside PEFT + transformers, time and peak memory.

The figures of the README's table *Fine-tuning speed*. Ours is `train`, the path of the window. Time is interleaved in one
process; memory is measured in a process of its own per variant (peak of the resident size above the idle model).
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.benchmarks.common import Seconds, arguments, interleave, report, transformers_model

BATCH, LENGTH, RANK = 4, 256, 16
OURS = {"ours, float32": "float32", "ours, automatic precision": "auto"}
THEIRS = {"PEFT, float32": (False, False), "PEFT, bfloat16 autocast": (True, False), "PEFT, bfloat16 weights": (False, True)}


def our_steps(model: Any, dtype: str) -> Iterator[float]:
    """Seconds of each update of `train`."""
    import numpy as np

    from workbench.adapters import LoraConfig, attach, detach
    from workbench.data import Dataset
    from workbench.training import StepEvent, TrainConfig, train

    rng = np.random.default_rng(0)
    data = Dataset.of([(rng.integers(1000, 20000, LENGTH), [True] * LENGTH) for _ in range(4 * BATCH)])
    name = dtype
    attach(model, LoraConfig(r=RANK, lora_alpha=32.0), name)
    config = TrainConfig(
        max_steps=10_000, per_device_train_batch_size=BATCH, max_length=LENGTH, dtype=dtype, eval_steps=None, save_steps=None
    )  # fmt: skip
    try:
        for event in train(model, data, config, adapter=name):
            if isinstance(event, StepEvent):
                yield event.seconds
    finally:
        detach(model, name)


def their_steps(base: Any, autocast: bool) -> Iterator[float]:
    """Seconds of each update of a plain PEFT + transformers loop, labels on every token as ours."""
    import torch
    from peft import LoraConfig, get_peft_model

    peer = get_peft_model(base, LoraConfig(r=RANK, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM"))
    peer.train()
    optimizer = torch.optim.AdamW([p for p in peer.parameters() if p.requires_grad], lr=5e-4, weight_decay=0.0)
    ids = torch.randint(1000, 20000, (BATCH, LENGTH), generator=torch.Generator().manual_seed(0))
    while True:
        started = time.perf_counter()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            loss = peer(input_ids=ids, labels=ids).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_((p for p in peer.parameters() if p.requires_grad), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        yield time.perf_counter() - started


def steps_of(name: str, model: Any) -> Iterator[float]:
    import torch

    if name in OURS:
        return our_steps(model, OURS[name])
    autocast, narrow = THEIRS[name]
    return their_steps(transformers_model(model, torch.bfloat16 if narrow else torch.float32), autocast)


def peak_memory(name: str, gguf: Path, threads: int) -> float:
    """Bytes of the peak above the idle model, in a fresh process."""
    code = f"from tests.benchmarks.lora import measure_memory; measure_memory({name!r}, {str(gguf)!r}, {threads})"
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    return float(json.loads(out.splitlines()[-1]))


def measure_memory(name: str, gguf: str, threads: int) -> None:
    """Print the peak of three steps; the child's side of `peak_memory`. Linux only: it resets the kernel's high-water mark."""
    import gc

    import torch

    from workbench.checkpoints import load_checkpoint

    torch.set_num_threads(threads)
    model: Any = load_checkpoint(gguf).model
    if name in THEIRS:
        autocast, narrow = THEIRS[name]
        peer = transformers_model(model, torch.bfloat16 if narrow else torch.float32)
        del model
        gc.collect()
        steps = their_steps(peer, autocast)
    else:
        steps = our_steps(model, OURS[name])
    idle = _status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    for _ in range(3):
        next(steps)
    print(json.dumps(_status("VmHWM") - idle))
    sys.stdout.flush()


def _status(key: str) -> int:
    line = next(row for row in Path("/proc/self/status").read_text().splitlines() if row.startswith(key))
    return int(line.split()[1]) * 1024


def main() -> None:
    args = arguments(__doc__)
    import torch

    from workbench.checkpoints import load_checkpoint

    torch.set_num_threads(args.threads)
    model = load_checkpoint(args.model).model
    names = [*OURS, *THEIRS]
    running = {name: steps_of(name, model) for name in names}
    candidates: dict[str, Seconds] = {name: (lambda steps=steps: next(steps)) for name, steps in running.items()}
    times = interleave(candidates, args.repeats)
    base = times["PEFT, float32"]["median"]
    memory = {name: peak_memory(name, args.model, args.threads) for name in names}
    rows = [
        {
            "engine": name,
            "s/step": times[name]["median"],
            "minimum": times[name]["minimum"],
            "tokens/s": BATCH * LENGTH / times[name]["median"],
            "time against PEFT float32": times[name]["median"] / base,
            "peak above idle, MB": memory[name] / 1e6,
            "memory against PEFT float32": memory[name] / memory["PEFT, float32"],
            "stolen": times[name]["stolen"],
        }
        for name in names
    ]
    report(f"LoRA r = {RANK}, all linear, {BATCH} × {LENGTH}, {args.threads} threads", rows, args.json)


if __name__ == "__main__":
    main()
