"""What is measured, and what comes of it: plain data for the window and the command line."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from workbench.caches import CacheConfig
from workbench.core.fields import Problem, field_problems, setting
from workbench.quantization import QuantizationConfig


@dataclass(frozen=True, kw_only=True)
class QualitySide:
    """What is held against the exact cache with the weights as they are. `weights` None: those weights; else quantized so."""

    name: str
    cache: CacheConfig = field(default_factory=CacheConfig)
    weights: QuantizationConfig | None = None


@dataclass(frozen=True, kw_only=True)
class QualityConfig:
    """How much is read, and how."""

    contexts: tuple[int, ...] = setting(
        (512, 2048), label="Context lengths", group="Text", unit="tokens",
        help="Each is measured by itself: compression shows more the longer the context is.",
    )  # fmt: skip
    tokens: int = setting(
        4096, label="Scored tokens", group="Text", unit="tokens", minimum=64, maximum=10_000_000,
        help="Tokens predicted at each context length; more make the intervals narrower and take proportionally longer.",
    )  # fmt: skip
    text: str | None = setting(
        None, label="Text", group="Text", none_label="Python's documentation",
        help="A UTF-8 file; without one, the docstrings of the Python that runs this, which are on every machine.",
    )  # fmt: skip
    retrieval: bool = setting(
        True, label="Copy task", group="Text",
        help="Also let the model repeat random tokens it has seen far back: what a coarse cache forgets first.",
    )  # fmt: skip

    def problems(self) -> list[Problem]:
        found = field_problems(self)
        if not found and (not self.contexts or min(self.contexts) < 32):
            found.append(Problem("contexts", "A context of fewer than 32 tokens says nothing.", "Use lengths such as 512 and 2048."))
        return found


@dataclass(frozen=True, kw_only=True)
class QualityRequest:
    """Hold every one of `sides` against the exact cache. `folder` keeps what was read, so that a run that was stopped goes on; None:
    nothing is kept."""

    sides: tuple[QualitySide, ...]
    config: QualityConfig = field(default_factory=QualityConfig)
    folder: Path | None = None


@dataclass(frozen=True, kw_only=True)
class QualityRow:
    """One side at one context length. `nbytes` of the cache at that length, and as many times fewer than 16-bit numbers; Δ nats per
    token with its 95 % interval; Δ perplexity in per cent; divergence in nats; share of first choices that agree; the share of
    tokens copied rightly, and by the exact cache (None: not measured). `label` follows from them; "" for the noise floor."""

    side: str
    context: int
    tokens: int
    nbytes: int
    against_float16: float
    weight_bytes: int
    nats: float
    delta: float
    low: float
    high: float
    perplexity_percent: float
    kl: float
    kl_p99: float
    kl_max: float
    top1: float
    copied: float | None
    copied_exact: float | None
    label: str

    def to_json(self) -> dict[str, Any]:
        return {f.name: getattr(self, f.name) for f in fields(self)}


@dataclass(frozen=True, kw_only=True)
class QualityReport:
    """Rows by context length, the noise floor first in each. `stopped`: someone stopped the work, and rows hold for what was read."""

    model: str
    text: str
    rows: tuple[QualityRow, ...]
    stopped: bool = False

    def to_json(self) -> dict[str, Any]:
        plain = {"model": self.model, "text": self.text, "stopped": self.stopped}
        return {"event": "done", **plain, "rows": [row.to_json() for row in self.rows]}
