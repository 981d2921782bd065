"""What a conversion does to the loaded model, in words and an icon. Qt-free."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from workbench.core.format import count_text

MINUS: Final = "\N{MINUS SIGN}"
ICONS: Final = {"exact": ("check", "good"), "approximate": ("warning", "warning"), "fresh": ("finetune", "accent_text")}
"""The icon of a verdict, and the theme's colour it has; the words say the same."""
KEEPS: Final = "Keeps the model"


@dataclass(frozen=True)
class Verdict:
    """`kind` as the engine names it; `words` what a person reads; `hollow`: not measured yet."""

    kind: str
    words: str
    hollow: bool = False

    @property
    def icon(self) -> str:
        return ICONS[self.kind][0]

    @property
    def role(self) -> str:
        return "muted" if self.hollow else ICONS[self.kind][1]


def of_change(change: Any) -> Verdict:
    """One changed setting: what it does, and how."""
    words = {"exact": KEEPS, "approximate": "Changes it", "fresh": "Needs training"}[change.verdict]
    if change.fresh_parameters:
        words += f" ({count_text(change.fresh_parameters)} fresh parameters)"
    return Verdict(change.verdict, f"{words}. {change.how}")


def of_plan(plan: Any, measured: Any, estimating: bool, failure: str = "") -> Verdict:
    """All changes together. `measured` is what the engine found (or None), `estimating` that it is at it, `failure` why it found
    nothing."""
    if plan.verdict == "exact":
        fresh = f", with {count_text(plan.fresh_parameters)} parameters to be trained" if plan.fresh_parameters else ""
        return Verdict("exact", f"{KEEPS}: it computes the same{fresh}.")
    fresh = f" ({count_text(plan.fresh_parameters)} of {count_text(plan.parameters)} parameters are fresh)" if plan.fresh_parameters else ""
    if measured is not None:
        return Verdict(plan.verdict, f"{_head(plan)}{fresh}: {loss_text(measured)}.")
    if plan.verdict == "fresh":
        return Verdict("fresh", f"Needs training{fresh}.")
    if estimating:
        return Verdict("approximate", "Changes it: estimating by how much…", hollow=True)
    return Verdict("approximate", f"Changes it; by how much has not been measured{f': {failure}' if failure else '.'}", hollow=True)


def _head(plan: Any) -> str:
    return "Needs training" if plan.verdict == "fresh" else "Changes it"


def loss_text(measured: Any) -> str:
    """ "+0.80 ± 0.05 nats per token on built-in prose (2.41 → 3.21)"."""
    if measured.unseen:
        return f"no difference within {measured.tokens:,} tokens of {measured.sample}; longer texts were not measured"
    if measured.difference is None:
        return "a model whose tokens all see each other has no such loss"
    sign = "+" if measured.difference >= 0 else MINUS
    digits = 2 if abs(measured.difference) >= 0.1 else 3
    change = f"{sign}{abs(measured.difference):.{digits}f}"
    if measured.standard_error is not None:
        change += f" ± {measured.standard_error:.{digits}f}"
    return f"{change} nats per token on {measured.sample} ({measured.nats_before:.2f} → {measured.nats_after:.2f})"
