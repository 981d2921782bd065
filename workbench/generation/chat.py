"""One reply in a conversation: turns to prompt ids, what the cache already knows, and what does not fit.

Between replies the cache keeps the conversation; a `CacheState` says which tokens it holds. A new message, an edited one or
another version of a reply re-uses the longest common beginning and computes only the rest.
"""

from __future__ import annotations

from collections.abc import Generator, Hashable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import torch

from workbench.caches import KVCache
from workbench.core.control import Control
from workbench.core.errors import DataError
from workbench.core.events import Progress
from workbench.core.fields import require_usable
from workbench.generation.config import GenerationConfig
from workbench.generation.conversation import Conversation
from workbench.generation.events import GenerationResult, TokenEvent
from workbench.generation.generate import context_limit, generate, require_room
from workbench.model import Transformer
from workbench.tokenizers import ChatTemplate, Tokenizer


@dataclass
class CacheState:
    """Which tokens a cache holds; owned, like the cache, by whoever runs the chat.

    `key` is what the stored keys depend on besides the tokens: the adapters in use and their strengths, for example. When
    it changes, nothing is re-used.
    """

    ids: list[int] = field(default_factory=list)
    key: Hashable = None

    def reusable(self, prompt_ids: Sequence[int], cache: KVCache, key: Hashable) -> int:
        """How many leading tokens of the prompt the cache holds; the prompt's last token is always computed anew."""
        if key != self.key or cache.length != len(self.ids):
            return 0
        longest = min(len(self.ids), len(prompt_ids) - 1)
        return next((i for i in range(longest) if self.ids[i] != prompt_ids[i]), max(longest, 0))


@dataclass(frozen=True, kw_only=True)
class Reply:
    """A finished reply: `conversation` has it as its last turn, with its figures."""

    conversation: Conversation
    result: GenerationResult
    cached: bool

    @property
    def text(self) -> str:
        return self.result.text

    def to_json(self) -> dict[str, Any]:
        """JSON-ready, as the last line of `generate --chat --json`."""
        return {**self.result.to_json(), "cached": self.cached}


def prompt_ids(tokenizer: Tokenizer, template: ChatTemplate | None, conversation: Conversation) -> list[int]:
    """The ids the model is given to answer the conversation's last message.

    Without a template the model was never taught to chat: it gets the bare texts, a line each, and continues them.
    Raises `DataError` when the last turn shown is not a person's.
    """
    shown = conversation.shown
    if not shown or shown[-1].role != "user":
        raise DataError("There is no message to answer.", hint="Write a message first.")
    if template is not None:
        return template.encode(tokenizer, conversation.messages, add_generation_prompt=True)
    begin = [tokenizer.bos_id] if tokenizer.add_bos and tokenizer.bos_id is not None else []
    return begin + tokenizer.encode("\n".join(m.content for m in conversation.messages))


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
) -> Generator[Progress | TokenEvent, None, Reply]:
    """Answer the last message of `conversation`, which stays as it is; the `Reply` has the longer one.

    `cache` None computes everything again for each token. `state` is brought up to date however the generator ends:
    finished, stopped, closed or failed. `key`: see `CacheState`. Raises `DataError` when the conversation does not fit
    the context.
    """
    ids = prompt_ids(tokenizer, template, conversation)
    require_usable(generation)
    require_room(len(ids), context_limit(model, cache))
    reuse = 0
    if cache is not None:
        reuse = state.reusable(ids, cache, key)
        cache.truncate(reuse)
    text = list(ids)
    steps = generate(
        model, tokenizer, ids, generation,
        cache=cache, control=control, stop_ids=stop_ids, prefill_dtype=prefill_dtype, reuse=reuse,
    )  # fmt: skip
    try:
        result = yield from _noting(steps, text)
    finally:
        if cache is not None:
            state.ids, state.key = text[: cache.length], key
    longer = conversation.add("assistant", result.text, _figures(result, cache is not None))
    return Reply(conversation=longer, result=result, cached=cache is not None)


def _noting(
    steps: Generator[Progress | TokenEvent, None, GenerationResult], text: list[int]
) -> Generator[Progress | TokenEvent, None, GenerationResult]:
    """Pass the events on, and append each new token to `text` before anyone can interrupt."""
    with closing(steps):
        while True:
            try:
                event = next(steps)
            except StopIteration as end:
                result: GenerationResult = end.value
                return result
            if isinstance(event, TokenEvent):
                text.append(event.id)
            yield event


def _figures(result: GenerationResult, cached: bool) -> dict[str, Any]:
    """What the badge under a reply shows, and what is saved with it."""
    names = (
        "tokens_per_second", "first_token_ms", "cache_bytes", "prompt_tokens", "reused_tokens", "new_tokens", "stop_reason", "seed",
    )  # fmt: skip
    return {"cached": cached, **{name: getattr(result, name) for name in names}}
