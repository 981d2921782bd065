"""Whether a model fits into the memory that is free now. Every figure here is an estimate, and says what it was made of."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import psutil

from workbench.core.format import bytes_text

CONTEXT = 2048
"""Tokens of cache that the estimate makes room for, unless the model takes fewer."""
TIGHT = 0.8
"""A model that needs more than this share of the free memory leaves little for everything else."""
BYTES_PER_VALUE = {"float32": 4, "bfloat16": 2, "float16": 2}
_QUANTIZED = re.compile(r"(?i)(?:^|[-_.])(?:i?q(\d)|b?f(16)|f(32))(?=[-_.k]|$)")


@dataclass(frozen=True)
class Fit:
    """`word` is "fits", "tight" or "too large"; `basis` says what `need` bytes were estimated from."""

    word: str
    need: float
    free: float
    basis: str

    @property
    def text(self) -> str:
        return f"needs about {bytes_text(self.need)} of {bytes_text(self.free)} free (estimated from {self.basis})"


def fit(need: float, basis: str, free: float | None = None) -> Fit:
    """Hold an estimated need against `free` bytes (default: what this computer has left now)."""
    left = float(psutil.virtual_memory().available) if free is None else free
    return Fit("too large" if need > left else "tight" if need > TIGHT * left else "fits", need, left, basis)


def fit_of_parameters(
    parameters: int, dtype: str = "float32", kv_values_per_token: int = 0, context: int = CONTEXT, free: float | None = None
) -> Fit:
    """Weights in `dtype` and, where its size per token is known, a cache for the first `CONTEXT` tokens."""
    each = BYTES_PER_VALUE.get(dtype, 4)
    tokens = min(CONTEXT, context) if kv_values_per_token else 0
    basis = f"its parameters as {dtype}" + (f" and a cache of {tokens:,} tokens" if tokens else ", without a cache")
    return fit((parameters + kv_values_per_token * tokens) * each, basis, free)


def fit_of_size(name: str, size: int, dtype: str = "float32", free: float | None = None) -> Fit:
    """From bytes on disk: a GGUF's name tells its quantization, anything else is taken for 16 bits a weight."""
    found = _QUANTIZED.search(Path(name).stem) if name.lower().endswith(".gguf") else None
    bits = next((int(g) for g in found.groups() if g), 16) if found else 16
    stored = bits + (0.5 if bits < 16 else 0)  # blocks carry a scale
    return fit(size * 8 / stored * BYTES_PER_VALUE.get(dtype, 4), f"its size on disk, as {dtype}", free)
