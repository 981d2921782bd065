"""How well a model predicts a text: negative log-likelihood in windows, or token by token through a cache."""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from workbench.caches import KVCache
from workbench.core.control import Control
from workbench.core.errors import ConfigError, DataError
from workbench.core.events import Progress
from workbench.generation.room import Room, require_causal
from workbench.model import Transformer
from workbench.tokenizers import Tokenizer

_ROWS = 128
"""Positions whose logits exist at the same time: a vocabulary of 49k in float32 is 25 MB for them."""


@dataclass(frozen=True, kw_only=True)
class ScoreResult:
    """`nll` is the sum over `tokens` predicted tokens, in nats; `scored_bytes` are those tokens' bytes in UTF-8.

    `stopped`: someone stopped the work, and the figures hold for the part that was read.
    """

    nll: float
    tokens: int
    scored_bytes: int
    windows: int
    stopped: bool = False

    @property
    def perplexity(self) -> float:
        """exp of the mean negative log-likelihood per token; nan without a token."""
        mean = self.nll / self.tokens if self.tokens else math.nan
        return math.exp(mean) if mean < 700 else math.inf

    @property
    def bits_per_byte(self) -> float:
        """Comparable between tokenizers; nan where the bytes are not known."""
        return self.nll / math.log(2) / self.scored_bytes if self.scored_bytes else math.nan

    def to_json(self) -> dict[str, Any]:
        """JSON-ready; figures that do not exist are None."""
        plain = {f.name: getattr(self, f.name) for f in fields(self)}
        derived = {"perplexity": self.perplexity, "bits_per_byte": self.bits_per_byte}
        return {"event": "done", **plain, **{k: v if math.isfinite(v) else None for k, v in derived.items()}}


def score(
    model: Transformer,
    tokenizer: Tokenizer | None,
    ids: Sequence[int],
    *,
    window: int | None = None,
    stride: int | None = None,
    cache: KVCache | None = None,
    chunk: int = 1,
    control: Control | None = None,
) -> Generator[Progress, None, ScoreResult]:
    """The negative log-likelihood of `ids` under `model`.

    Windows of `window` tokens (default: the context) start every `stride` tokens (default: the window, so that windows do
    not overlap); each scores the tokens no earlier one did, its first token excepted, which nothing precedes. A smaller
    stride gives every token more context and costs more time.

    With a `cache` each window is fed in pieces of `chunk` tokens through it, so that what is stored there is what later
    tokens see: this is how a lossy cache is measured. What it held before is dropped. A window may be longer than a cache that
    drops its oldest tokens when it is full (see `Room`), and is then the whole text unless told otherwise.

    Raises `DataError` for fewer than two tokens, `ConfigError` for impossible windows.
    """
    control = control or Control()
    require_causal(model)
    room = Room(model, cache)
    windows = _windows(len(ids), window, stride, max(2, len(ids)) if room.rolls else room.limit)
    if chunk < 1:
        raise ConfigError(f"Pieces of {chunk} tokens cannot be fed.", hint="Use at least 1.")
    text = torch.tensor(list(ids), device=model.device)
    total = 0.0
    scored: list[int] = []
    for begin, end, first in windows:
        if cache is not None:
            cache.truncate(0)
        cut = begin
        while cut < end - 1:  # the last token of a window is predicted, not fed
            control.wait_while_paused()
            if control.stopping:
                return _result(total, scored, tokenizer, windows, stopped=True)
            upto = end - 1
            if cache is not None:
                _make_room(room, cache, text[begin:cut])
                upto = min(upto, cut + chunk, cut + room.limit - cache.length)
            rows = max(cut, first - 1)
            total += _fed(model, text, cut, upto, rows, cache)
            scored += ids[rows + 1 : upto + 1]
            cut = upto
            yield Progress(message="Scoring", done=upto + 1, total=len(ids), unit="tokens")
    return _result(total, scored, tokenizer, windows, stopped=False)


Window = tuple[int, int, int]
"""(first token, one past the last token, first token that is scored)."""


def _windows(tokens: int, window: int | None, stride: int | None, limit: int) -> list[Window]:
    if tokens < 2:
        raise DataError(f"The text has {tokens} tokens; at least 2 are needed to predict one.", hint="Use a longer text.")
    window = limit if window is None else window
    stride = window if stride is None else stride
    if not 2 <= window <= limit:
        raise ConfigError(f"A window of {window} tokens does not fit.", hint=f"Use 2 to {limit}, which is what the context holds.")
    if not 1 <= stride <= window:
        raise ConfigError(f"A stride of {stride} with windows of {window} would skip tokens.", hint=f"Use 1 to {window}.")
    found: list[Window] = []
    begin = done = 0
    while done < tokens:
        end = min(begin + window, tokens)
        found.append((begin, end, max(done, begin + 1)))
        done, begin = end, begin + stride
    return found


@torch.inference_mode()
def _make_room(room: Room, cache: KVCache, read: Tensor) -> None:
    """Let the cache hold one token more than after the text `read` [T], if it is full."""
    if cache.length < room.limit:
        return
    if room.moves:
        room.drop(cache)
        return
    gone = room.dropped(len(read) + 1)
    cache.truncate(room.first)
    room.model.hidden(read[None, room.first + gone :], cache=cache)


@torch.inference_mode()
def _fed(model: Transformer, text: Tensor, cut: int, upto: int, rows: int, cache: KVCache | None) -> float:
    """Feed tokens cut … upto−1; the negative log-likelihood of the tokens after positions rows … upto−1."""
    hidden = model.hidden(text[None, cut:upto], cache=cache)[0, rows - cut :]
    total = 0.0
    for at in range(0, len(hidden), _ROWS):
        part = hidden[at : at + _ROWS]
        targets = text[rows + at + 1 : rows + at + 1 + len(part)]
        losses = F.cross_entropy(model.head(part).float(), targets, reduction="none")
        total += float(losses.double().sum())
    return total


def _result(total: float, scored: list[int], tokenizer: Tokenizer | None, windows: list[Window], *, stopped: bool) -> ScoreResult:
    size = len(tokenizer.decode_bytes(scored)) if tokenizer is not None else 0
    return ScoreResult(nll=total, tokens=len(scored), scored_bytes=size, windows=len(windows), stopped=stopped)
