"""A conversation that no longer fits: its oldest messages are left out of the prompt, never its system prompt."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from functools import cache

from workbench.core.errors import DataError
from workbench.generation.conversation import Conversation
from workbench.tokenizers import ChatTemplate, Message, Tokenizer

LEFT_OUT = "left_out_messages"
"""The figure of a reply that says how many messages its prompt was without."""


def prompt_ids(tokenizer: Tokenizer, template: ChatTemplate | None, conversation: Conversation, left_out: int = 0) -> list[int]:
    """The ids the model is given to answer the conversation's last message, without its first `left_out` turns.

    Without a template the model was never taught to chat: it gets the bare texts, a line each, and continues them.
    Raises `DataError` when the last turn shown is not a person's.
    """
    shown = conversation.shown
    if not shown or shown[-1].role != "user":
        raise DataError("There is no message to answer.", hint="Write a message first.")
    system = conversation.messages[: len(conversation.messages) - len(shown)]
    messages: Sequence[Message] = (*system, *conversation.messages[len(system) + left_out :])
    if template is not None:
        return template.encode(tokenizer, messages, add_generation_prompt=True)
    begin = [tokenizer.bos_id] if tokenizer.add_bos and tokenizer.bos_id is not None else []
    return begin + tokenizer.encode("\n".join(m.content for m in messages))


class Shortening:
    """Prompts of one conversation with fewer and fewer of its messages; what is kept begins with a person's message, as
    templates want it. `left_out` messages are left out of the prompt in use."""

    def __init__(
        self, tokenizer: Tokenizer, template: ChatTemplate | None, conversation: Conversation, limit: int, max_new_tokens: int
    ) -> None:
        self._limit = limit
        shown = conversation.shown
        self._starts = [i for i, turn in enumerate(shown) if turn.role == "user" or i == 0]
        self._ids = cache(lambda left_out: prompt_ids(tokenizer, template, conversation, left_out))
        self._needed = min(max_new_tokens, max(256, limit // 4), limit // 2)
        before = [turn.figures.get(LEFT_OUT, 0) for turn in shown if turn.role == "assistant"]
        self.left_out = self._first_choice(int(before[-1] or 0) if before else 0)

    @property
    def ids(self) -> list[int]:
        return list(self._ids(self.left_out))

    def _first_choice(self, before: int) -> int:
        """Nothing, if there is room for a reply; else as much as last time, so that the cache still knows the beginning; else
        enough for several more turns."""
        roomy = self._limit - self._needed
        for left_out in (0, before):
            if left_out in self._starts and len(self._ids(left_out)) <= roomy:
                return left_out
        for most in (self._limit // 2, roomy, self._limit):
            found = self._fewest(most)
            if found is not None:
                return found
        return self._starts[-1]

    def _fewest(self, most: int) -> int | None:
        """How many messages must be left out for a prompt of at most `most` tokens; None when the last one alone is longer."""
        at = bisect_left(self._starts, True, key=lambda start: len(self._ids(start)) <= most)
        return self._starts[at] if at < len(self._starts) else None

    def further(self, written: int) -> list[int] | None:
        """A shorter prompt that leaves room for the `written` tokens of a reply and as many more as a new one would get, or at
        least an eighth of the context; None when there is none."""
        for more in (self._needed, self._limit // 8):
            found = self._fewest(self._limit - written - more)
            if found is not None and found > self.left_out:
                self.left_out = found
                return self.ids
        return None
