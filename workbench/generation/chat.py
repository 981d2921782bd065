"""One reply in a conversation: turns to prompt ids, what the cache already knows, and what does not fit.

Between replies the cache keeps the conversation; a `CacheState` says which tokens it holds. A new message, an edited one or
another version of a reply re-uses the longest common beginning and computes only the rest.
"""

from __future__ import annotations

from collections.abc import Generator, Hashable, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import torch

from workbench.caches import TRUNCATE, CacheConfig, KVCache
from workbench.core.control import Control
from workbench.core.events import Notice, Progress
from workbench.core.fields import require_usable
from workbench.generation.config import GenerationConfig
from workbench.generation.conversation import Conversation
from workbench.generation.events import GenerationResult, TokenEvent
from workbench.generation.generate import generate
from workbench.generation.room import UNCACHED, CacheState, Room, require_room
from workbench.generation.shorten import LEFT_OUT, Shortening, prompt_ids
from workbench.model import Transformer
from workbench.tokenizers import ChatTemplate, Tokenizer


@dataclass(frozen=True, kw_only=True)
class Reply:
    """A finished reply: `conversation` has it as its last turn, with its figures.

    `left_out_messages` of the conversation were not shown to the model, because they did not fit. `cache_change` says what
    became of the stored keys and values when a setting of the cache had changed: "kept", "re-encoded" or "recomputed".
    """

    conversation: Conversation
    result: GenerationResult
    cached: bool
    left_out_messages: int = 0
    cache_change: str | None = None

    @property
    def text(self) -> str:
        return self.result.text

    def to_json(self) -> dict[str, Any]:
        """JSON-ready, as the last line of `generate --chat --json`."""
        more = {"cached": self.cached, LEFT_OUT: self.left_out_messages, "cache_change": self.cache_change}
        return {**self.result.to_json(), **more}


def reply(
    model: Transformer,
    tokenizer: Tokenizer,
    template: ChatTemplate | None,
    conversation: Conversation,
    generation: GenerationConfig,
    *,
    cache: KVCache | None,
    state: CacheState,
    control: Control | None = None,
    key: Hashable = None,
    stop_ids: Sequence[int] | None = None,
    prefill_dtype: torch.dtype | None = None,
    limits: CacheConfig = UNCACHED,
    cache_change: str | None = None,
) -> Generator[Progress | Notice | TokenEvent, None, Reply]:
    """Answer the last message of `conversation`, which stays as it is; the `Reply` has the longer one.

    `cache` None computes everything again for each token, within `limits`. `state` is brought up to date however the generator
    ends: finished, stopped, closed or failed. `key`: see `CacheState`. `cache_change` is noted with the figures. Raises
    `DataError` when the conversation does not fit the context and nothing of it may be left out.
    """
    require_usable(generation)
    room = Room(model, cache, limits)
    shortening = None
    if room.overflow == TRUNCATE:
        shortening = Shortening(tokenizer, template, conversation, room.limit, generation.max_new_tokens)
    ids = prompt_ids(tokenizer, template, conversation) if shortening is None else shortening.ids
    require_room(len(ids), room)
    if shortening is not None and shortening.left_out:
        yield _left_out(shortening.left_out, room.limit)
    reuse = 0
    if cache is not None:
        reuse = state.reusable(ids, cache, key, room)
        cache.truncate(reuse)
    steps = generate(
        model, tokenizer, ids, generation,
        cache=cache, control=control, stop_ids=stop_ids, prefill_dtype=prefill_dtype, reuse=reuse,
        limits=limits, state=state, shorten=None if shortening is None else shortening.further,
    )  # fmt: skip
    try:
        with closing(steps):
            result = yield from steps
    finally:
        if cache is not None:
            state.settle(cache)
            state.key = key
    left_out = 0 if shortening is None else shortening.left_out
    figures = _figures(result, cache is not None)
    figures |= {name: value for name, value in ((LEFT_OUT, left_out), ("cache_change", cache_change)) if value}
    longer = conversation.add("assistant", result.text, figures)
    return Reply(conversation=longer, result=result, cached=cache is not None, left_out_messages=left_out, cache_change=cache_change)


def _left_out(messages: int, limit: int) -> Notice:
    what = "The oldest message was" if messages == 1 else f"The {messages:,} oldest messages were"
    return Notice(message=f"{what} left out of what the model reads: the context of {limit:,} tokens has no room for more.")


def _figures(result: GenerationResult, cached: bool) -> dict[str, Any]:
    """What the badge under a reply shows, and what is saved with it."""
    names = (
        "tokens_per_second", "first_token_ms", "cache_bytes", "prompt_tokens", "reused_tokens", "new_tokens", "stop_reason", "seed",
    )  # fmt: skip
    dropped = {"dropped_tokens": result.dropped_tokens} if result.dropped_tokens else {}
    return {"cached": cached, **{name: getattr(result, name) for name in names}, **dropped}
