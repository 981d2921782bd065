"""A load takes little more memory than the weights it makes, however large the file is."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from workbench.checkpoints import load_events
from workbench.core.events import Progress
from workbench.model import Transformer

LIMIT = 1.2
"""Peak resident memory above that before the load, in multiples of the weights in the target dtype."""

SCRIPT = """
import json, sys
import torch
from workbench.checkpoints import load_checkpoint
from workbench.model import build_model, ModelConfig

torch.set_num_threads(1)
build_model(ModelConfig(n_layers=1))(torch.zeros(1, 1, dtype=torch.int64))  # what torch loads on first use is not the load's

def resident(key):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith(key))

before = resident("VmRSS")
loaded = load_checkpoint(sys.argv[1], dtype=getattr(torch, sys.argv[2]))
weights = sum(p.nbytes for p in loaded.model.parameters())
print(json.dumps({"peak": resident("VmHWM") - before, "weights": weights}))
"""

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")


def ratio(path: Path, dtype: str) -> float:
    done = subprocess.run([sys.executable, "-c", SCRIPT, str(path), dtype], capture_output=True, text=True, check=True, timeout=100)
    found = json.loads(done.stdout)
    return float(found["peak"] / found["weights"])


@on_linux
@pytest.mark.starter
@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_starters_peak(starter_path: Path, dtype: str) -> None:
    assert ratio(starter_path, dtype) <= LIMIT


@on_linux
@pytest.mark.slow
def test_a_float32_folder_read_as_bfloat16(tmp_path: Path) -> None:
    """The file is twice the weights; its pages must not stay."""
    settings = {
        "model_type": "gpt2", "vocab_size": 20_000, "n_layer": 6, "n_embd": 1024, "n_head": 8, "n_positions": 64,
    }  # fmt: skip
    tensors = {"wte.weight": torch.randn(20_000, 1024), "wpe.weight": torch.randn(64, 1024)}
    for n in range(6):
        for name, shape in (
            ("attn.c_attn", (1024, 3072)), ("attn.c_proj", (1024, 1024)), ("mlp.c_fc", (1024, 4096)), ("mlp.c_proj", (4096, 1024)),
            ("ln_1", (1024,)), ("ln_2", (1024,)),
        ):  # fmt: skip
            tensors[f"h.{n}.{name}.weight"] = torch.randn(shape)
            tensors[f"h.{n}.{name}.bias"] = torch.randn(shape[-1])
    tensors |= {"ln_f.weight": torch.ones(1024), "ln_f.bias": torch.zeros(1024)}
    save_file(tensors, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(settings))
    assert ratio(tmp_path, "bfloat16") <= LIMIT


def test_a_matrix_is_read_in_many_steps(make_folder: Callable[..., tuple[Path, Transformer]]) -> None:
    """Between two steps a stop is seen and other threads run; no step may be a whole large tensor."""
    folder, _ = make_folder({"vocab_size": 50_000}, settings={"vocab_size": 50_000})
    steps = [e.done for e in load_events(folder) if isinstance(e, Progress)]
    largest = max(b - a for a, b in pairwise(steps))
    assert steps[-1] > 6_000_000
    assert largest < 3_000_000
