"""Where two replies part, and what is compared of them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ui.chat.marking import MARK


def place(pieces: Sequence[str], token: int | None) -> tuple[int, int] | None:
    """(offset, length) of a token in the text that its pieces make; None for none."""
    if token is None:
        return None
    return sum(len(piece) for piece in pieces[:token]), len(pieces[token]) if token < len(pieces) else 0


@dataclass(frozen=True)
class Figures:
    """What is compared of one reply; None where nothing was measured. `cached` False: this side has no cache."""

    speed: float | None = None
    first_ms: float | None = None
    cache_bytes: int | None = None
    cached: bool = True
    cache_tokens: int | None = None

    @property
    def token_bytes(self) -> float | None:
        """Bytes of the cache for each token that it holds."""
        return self.cache_bytes / self.cache_tokens if self.cache_bytes is not None and self.cache_tokens else None

    @staticmethod
    def of(figures: Any) -> Figures:
        """From the figures of a reply."""
        cached = bool(figures.get("cached", True))
        stored = figures.get("cache_bytes") if cached else None
        return Figures(figures.get("tokens_per_second"), figures.get("first_token_ms"), stored, cached, figures.get("cache_tokens"))


def ratio_text(a: float | None, b: float | None) -> str:
    """B against A: ×2.4; empty where there is nothing to compare."""
    if not a or not b:
        return ""
    share = b / a
    return f"×{share:.2f}" if share < 10 else f"×{share:.0f}"


def tokens_text(count: int) -> str:
    """1 token, 1,200 tokens."""
    return f"{count:,} {'token' if count == 1 else 'tokens'}"


def sameness(tokens: int, first: int | None, logprob: float | None, *, running: bool = False, broken: bool = False) -> str:
    """How far both replies are the same, in one sentence. `broken`: one was broken off before its end."""
    if first is not None:
        after = f"First different token: no. {first + 1:,}, after {first:,} identical"
        return f"{MARK} {after if first else 'Different from the first token on'}"
    if not tokens:
        return ""
    count = tokens_text(tokens)
    if running:
        return f"Identical so far: {count}"
    near = "" if logprob is None else f"; their log-probabilities differ by {_size(logprob)} at most"
    return f"Identical{' as far as both go' if broken else ''}: {count}{near}"


def _size(nats: float) -> str:
    """0.15, 1.2e−5, and 0 for nothing at all."""
    if nats >= 0.01:
        return f"{nats:.2g}"
    return re.sub(r"e([+-])0*", lambda sign: "e−" if sign[1] == "-" else "e", f"{nats:.1e}") if nats else "0"
