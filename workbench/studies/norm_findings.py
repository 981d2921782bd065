"""From what was measured on norms to tables, a figure and a verdict. Every word of the verdict depends on the figures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from workbench.core.format import bytes_text
from workbench.studies.base import Bar, Cell, Column, Figure, StudyResult, Table
from workbench.studies.int8_norms import Int8Parts, Scale, Seen
from workbench.studies.measure import Figures

HARMLESS, FATAL = 0.01, math.log(2)
"""Nats per token above the unquantized model: below the first a change is called harmless (1 % of perplexity), from the second on
fatal (perplexity doubles)."""
MASSIVE = 1000.0
"""Largest over median magnitude from which a stream is said to have massive activations (arXiv:2402.17762 uses 1000)."""
_SCALES: dict[Scale, str] = {"token": "per token", "tensor": "shared", "none": "none"}
_HOW: dict[Scale, str] = {"token": "with a scale per token", "tensor": "with one shared scale", "none": "without a scale"}
_LONGEST_BAR = 100.0
"""Nats beyond which a bar grows no more."""

COLUMNS = (
    Column("model", "Model"),
    Column("quantized", "Quantized", help="What of every norm was rounded to eight bits."),
    Column("scale", "Scale", help="Per token: each vector's own. Shared: one for all tokens of a pass. None: a plain cast."),
    Column("perplexity", "Perplexity", help="On the text; lower is better."),
    Column("delta", "Δ nats", "nats/token", "Loss above that of the unquantized model on the same tokens; 0.01 is 1 % of perplexity."),
    Column("error", "±", "nats/token", "Standard error of Δ nats, over tokens."),
    Column("kl", "KL", "nats", "Mean divergence of the predictions from the unquantized model's."),
    Column("top1", "Same first choice", "%", "Positions at which the most likely token is still the same."),
    Column("tokens", "Tokens", help="Predicted tokens behind the figures."),
)
NORM_COLUMNS = (
    Column("model", "Model"),
    Column("norm", "Norm"),
    Column("largest", "Largest input", help="Largest magnitude that entered the norm, over all tokens."),
    Column("median", "Median input", help="Median magnitude over all tokens."),
    Column("ratio", "Largest / median", help="How far the largest stands out of all tokens: what a shared scale has to span."),
    Column("within_token", "Within a token", help="The same within the typical token: what a scale per token has to span."),
)
BYTE_COLUMNS = (
    Column("model", "Model"),
    Column("norms", "Norm kind"),
    Column("norm_bytes", "Norm parameters", "B"),
    Column("saved", "Saved by int8", "B"),
    Column("model_bytes", "Whole model", "B"),
    Column("share", "Share saved", "%"),
)


@dataclass(frozen=True)
class Row:
    """One way to round, and what it does."""

    parts: Int8Parts
    figures: Figures

    @property
    def what(self) -> str:
        return " + ".join(name for name in ("parameters", "input", "output") if getattr(self.parts, name))

    @property
    def scale(self) -> str:
        """In a word; for parameters alone every scale is one per vector."""
        return "per vector" if self.what == "parameters" and self.parts.scale != "none" else _SCALES[self.parts.scale]


@dataclass(frozen=True)
class NormSeen:
    name: str
    seen: Seen


@dataclass(frozen=True)
class Findings:
    """All that was measured on one model."""

    label: str
    kind: str
    baseline: Figures
    bytes_read: int
    rows: tuple[Row, ...]
    norms: tuple[NormSeen, ...]
    norm_bytes: int
    norm_bytes_int8: int
    model_bytes: int

    def delta(self, row: Row) -> float:
        """Nats per token above the unquantized model; infinite when the model's answers are none."""
        return row.figures.delta if math.isfinite(row.figures.delta) else math.inf

    def row(self, what: str, scale: Scale) -> Row | None:
        """The row of one part and scale; None when it was not asked for. Parameters have one scaled row."""
        scales = ("token", "tensor") if what == "parameters" and scale != "none" else (scale,)
        return next((r for r in self.rows if r.what == what and r.parts.scale in scales), None)

    @property
    def peak(self) -> NormSeen:
        """The norm with the widest range of inputs."""
        return max(self.norms, key=lambda n: n.seen.ratio)

    @property
    def saved(self) -> int:
        return self.norm_bytes - self.norm_bytes_int8


def result(study: str, found: Sequence[Findings], text: str, options: Mapping[str, Any]) -> StudyResult:
    """The study's answer."""
    tables = (
        Table("roundings", "What each rounding costs", COLUMNS, tuple(r for f in found for r in _rows(f))),
        Table("norms", "What enters each norm", NORM_COLUMNS, tuple(_norm(f, n) for f in found for n in f.norms)),
        Table("bytes", "What int8 parameters would save", BYTE_COLUMNS, tuple(_bytes(f) for f in found)),
    )
    notes = [
        f"Read: {text}. " + " ".join(f"{f.label}: {f.baseline.tokens:,} predicted tokens, {f.bytes_read:,} bytes." for f in found),
        f"Harmless: below {HARMLESS} nats per token above the unquantized model. Fatal: perplexity doubles or worse.",
        "Perplexities of models with different tokenizers cannot be compared with each other; their ratios can.",
        "Numbers are rounded to int8 and back (absmax / 127) before and after the norm; the norm itself computes in float32.",
    ]
    return StudyResult(study, tables, verdict(found), tuple(notes), _figure(found), options)


def _rows(found: Findings) -> list[Mapping[str, Cell]]:
    def row(what: str, scale: str, figures: Figures, delta: float) -> Mapping[str, Cell]:
        return {
            "model": found.label, "quantized": what, "scale": scale, "perplexity": figures.perplexity, "delta": delta,
            "error": figures.error, "kl": figures.kl, "top1": 100 * figures.top1, "tokens": figures.tokens,
        }  # fmt: skip

    return [row("nothing", "", found.baseline, 0.0), *(row(r.what, r.scale, r.figures, found.delta(r)) for r in found.rows)]


def _norm(found: Findings, norm: NormSeen) -> Mapping[str, Cell]:
    seen = norm.seen
    return {
        "model": found.label, "norm": norm.name, "largest": seen.largest, "median": seen.median, "ratio": seen.ratio,
        "within_token": seen.within_token,
    }  # fmt: skip


def _bytes(found: Findings) -> Mapping[str, Cell]:
    return {
        "model": found.label, "norms": found.kind, "norm_bytes": found.norm_bytes, "saved": found.saved, "model_bytes": found.model_bytes,
        "share": 100 * found.saved / found.model_bytes,
    }  # fmt: skip


def _figure(found: Sequence[Findings]) -> Figure:
    """Nats above the unquantized model, on a logarithmic axis from well below harmless."""
    groups = []
    for f in found:
        bars = []
        for row in f.rows:
            delta = f.delta(row)
            label = f"{row.what}, {row.scale}" if row.parts.scale != "none" else f"{row.what}, no scale"
            bars.append(Bar(label, min(max(delta, 0.0), _LONGEST_BAR), f"{delta:+.3f}" if delta < 10 else f"{delta:+.1f}"))
        groups.append((f.label, tuple(bars)))
    return Figure("Loss above the unquantized model", "nats per token", tuple(groups), log=True, start=1e-4)


# ---- the verdict -----------------------------------------------------------------------------------------------------


def verdict(found: Sequence[Findings]) -> str:
    """What the figures say of the question: one sentence a line, the conclusion last."""
    sentences = [*_of_parameters(found)]
    for scale in ("token", "tensor", "none"):
        sentences += _of_inputs(found, scale)
    sentences += _of_ranges(found)
    sentences.append(_conclusion(found))
    return "\n".join(s[0].upper() + s[1:] for s in sentences)


def word(delta: float) -> str:
    """How bad so many nats per token are."""
    return "harmless" if delta < HARMLESS else "fatal" if delta >= FATAL else "costly"


def times(delta: float) -> str:
    """The factor on perplexity."""
    if delta < 0.1:
        return f"×{math.exp(delta):.3f}"
    return f"×{math.exp(delta):.3g}".replace("e+", "e") if delta < 700 else "beyond all bounds"


def _judged(found: Sequence[Findings], what: str, scale: Scale) -> list[tuple[Findings, float]]:
    """Each model's Δ nats of one part and scale, where it was measured."""
    return [(f, f.delta(row)) for f in found if (row := f.row(what, scale)) is not None]


def _said(judged: Sequence[tuple[Findings, float]], what: str) -> str:
    """One sentence: "X is harmless to A (perplexity ×1.004) and fatal to B (perplexity ×49)"."""
    words = [word(delta) for _, delta in judged]
    if len(judged) > 1 and len(set(words)) == 1:
        parts = " and ".join(f"{times(delta)} for {f.label}" for f, delta in judged)
        return f"{what} is {words[0]} to both (perplexity {parts})."
    return f"{what} is {' and '.join(f'{word(delta)} to {f.label} (perplexity {times(delta)})' for f, delta in judged)}."


def _of_parameters(found: Sequence[Findings]) -> list[str]:
    judged = _judged(found, "parameters", "tensor")
    if not judged:
        return []
    saved = " and ".join(f"{bytes_text(f.saved)} of {bytes_text(f.model_bytes)} ({100 * f.saved / f.model_bytes:.2f} %)" for f, _ in judged)
    said = [f"{_said(judged, 'Int8 for the norms’ parameters, with a scale per vector,')} It would save {saved}."]
    cast = _judged(found, "parameters", "none")
    return said + ([_said(cast, "Casting the parameters without a scale")] if cast else [])


def _of_inputs(found: Sequence[Findings], scale: Scale) -> list[str]:
    judged = _judged(found, "input", scale)
    return [_said(judged, f"Int8 for their inputs {_HOW[scale]}")] if judged else []


def _of_ranges(found: Sequence[Findings]) -> list[str]:
    parts = [
        f"{f.label}’s inputs reach {_number(f.peak.seen.largest)} at {f.peak.name}, {_number(f.peak.seen.ratio)} times their median there"
        for f in found
    ]
    return [f"{'; '.join(parts)}."]


def _conclusion(found: Sequence[Findings]) -> str:
    scales: tuple[Scale, ...] = ("tensor", "none")
    fatal = {f.label: [s for s in scales for _, d in _judged([f], "input", s) if d >= FATAL] for f in found}
    tried = [s for s in scales if _judged(found, "input", s)]
    if not tried:
        return "Inputs with a shared or missing scale were not measured, so nothing follows about why norms are skipped."
    hurt = [f for f in found if fatal[f.label]]
    if not hurt:
        return "Nothing here is fatal: for these models and this text, INT8 would not have to skip the norms."
    massive = [f for f in hurt if f.peak.seen.ratio >= MASSIVE]
    spared = [f for f in found if "tensor" in tried and "tensor" not in fatal[f.label] and f.peak.seen.ratio < MASSIVE]
    parameters = [d for _, d in _judged(found, "parameters", "tensor")]
    innocent = bool(parameters) and max(parameters) < FATAL
    begin = "Not the norms’ weights forbid INT8 but the range of their inputs: " if innocent else ""
    if massive and any("tensor" in fatal[f.label] for f in massive):
        end = "it is fatal when the stream has massive activations and the scale is shared or missing"
        return begin + end + (", and not in general." if spared else ".")
    if all(fatal[f.label] == ["none"] for f in hurt):
        return f"{begin}here it is fatal only when the scale is missing."
    return f"{begin}here a shared scale is fatal without massive activations."


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
