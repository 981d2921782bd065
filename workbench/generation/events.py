"""What a reply says while it is written, and what is known of it at the end."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal

from workbench.core.events import Event

StopReason = Literal["eos", "stop", "length", "context", "stopped"]
"""Why a reply ended: the model ended it, a stop string appeared, `max_new_tokens`, no room left, someone stopped it."""


@dataclass(frozen=True, kw_only=True)
class TokenEvent(Event):
    """One new token. `text` is what it lets us show: "" while a character or a possible stop string is incomplete.

    `ms` is the time spent on this token, the prompt's included for the first one, the consumer's left out; `logprob` is
    the natural log of the probability the model gave the token before any sampling setting; `cache_bytes` is measured.
    """

    name: ClassVar[str] = "token"
    id: int
    text: str
    logprob: float
    ms: float
    cache_bytes: int
    index: int


@dataclass(frozen=True, kw_only=True)
class GenerationResult:
    """A finished reply. `ids` are all new tokens, a final end-of-turn token included; `text` is without stop strings.

    `tokens_per_second` counts the tokens after the first, whose time (`first_token_ms`, None without any token) is mostly
    the prompt's. `peak_memory_bytes` is the largest size of the process seen between tokens, or on CUDA the largest
    allocation since the process began. `dropped_tokens` of prompt and reply had gone at the end to make room.
    """

    text: str
    ids: tuple[int, ...]
    stop_reason: StopReason
    prompt_tokens: int
    reused_tokens: int
    new_tokens: int
    first_token_ms: float | None
    tokens_per_second: float
    cache_bytes: int
    peak_memory_bytes: int
    seed: int
    dropped_tokens: int = 0

    def to_json(self) -> dict[str, Any]:
        """JSON-ready, as the last line of `generate --json`."""
        return {"event": "done", **{f.name: getattr(self, f.name) for f in fields(self)}, "ids": list(self.ids)}
