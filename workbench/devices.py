"""Which device and which precision the work runs in, and why."""

from __future__ import annotations

import os
from dataclasses import dataclass

import psutil
import torch

from workbench.core.errors import ConfigError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def cpu_has_fast_bfloat16() -> bool:
    """True when the CPU multiplies bfloat16 matrices in hardware (AVX512-BF16, AMX, or Arm's BF16 extension).

    Read from Linux's /proc/cpuinfo; torch has no public question for it, and elsewhere the answer is no, which is slower
    but never wrong.
    """
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            flags = next((line for line in file if line.startswith(("flags", "Features"))), "")
    except OSError:
        return False
    return not {"avx512_bf16", "amx_bf16", "bf16"}.isdisjoint(flags.split())


@dataclass(frozen=True)
class Compute:
    """Where weights live and what they are multiplied in.

    `prefill_dtype`: prompts of many tokens are multiplied in this precision (None: in `dtype`). On CPUs with bfloat16
    units that is several times faster, while single tokens are fastest from float32 weights, which need no conversion.
    """

    device: torch.device
    dtype: torch.dtype
    prefill_dtype: torch.dtype | None
    reason: str

    @property
    def label(self) -> str:
        """Device, precision and threads for a status line: "CPU · float32 · 2 threads"."""
        where = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else self.device.type.upper()
        threads = torch.get_num_threads()
        parts = [where, str(self.dtype).removeprefix("torch.")]
        return " · ".join(parts + ([f"{threads} thread{'' if threads == 1 else 's'}"] if self.device.type == "cpu" else []))


def choose_compute(device: str = "auto", dtype: str = "auto") -> Compute:
    """Resolve "auto". Raises `ConfigError` for a device that is not there or an unknown precision."""
    where = _device(device)
    if dtype == "auto":
        if where.type == "cuda":
            return Compute(where, torch.bfloat16, None, "bfloat16 on the GPU")
        if where.type == "cpu" and cpu_has_fast_bfloat16():
            return Compute(where, torch.float32, torch.bfloat16, "float32 weights, prompts in bfloat16, which this CPU multiplies fast")
        return Compute(where, torch.float32, None, "float32")
    if dtype not in DTYPES:
        raise ConfigError(f"There is no precision {dtype!r}.", hint=f"Choose one of: auto, {', '.join(DTYPES)}.")
    return Compute(where, DTYPES[dtype], None, dtype)


def _device(name: str) -> torch.device:
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps") if torch.backends.mps.is_available() else torch.device("cpu")
    present = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    kind, colon, index = name.partition(":")
    count = torch.cuda.device_count() if kind == "cuda" else 1
    if not present.get(kind, False) or (colon and not (index.isdecimal() and int(index) < count)):
        available = [k for k, there in present.items() if there]
        raise ConfigError(f"The device {name!r} is not available here.", hint=f"Choose one of: auto, {', '.join(available)}.")
    return torch.device(name)


def default_threads() -> int:
    """Physical cores: matrix products gain nothing from a core's second thread."""
    return max(1, psutil.cpu_count(logical=False) or os.cpu_count() or 1)


def warm_up() -> None:
    """Make an optimizer: torch imports its compiler for the first one, which takes a second or two that no run should pay."""
    torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))])
