"""A prompt and what should follow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from workbench.data.examples import BadRow
from workbench.data.shapes.base import SHAPES, RoleMap, conversation, text_of
from workbench.data.shapes.messages import turns
from workbench.tokenizers import Message

_ASKS = ("prompt", "question", "query")
_ANSWERS = ("completion", "response", "answer")


@SHAPES.register(
    "prompt-completion", label="Prompt and completion", source="OpenAI's completion format; TRL's dataset formats",
    help='Two columns, "prompt" and "completion" (or question and answer); read as one question and one reply.',
)  # fmt: skip
class PromptCompletion:
    """`{"prompt": "…", "completion": "…"}`, each a text or a list of messages."""

    def recognises(self, value: Mapping[str, Any], roles: RoleMap) -> bool:
        return any(k in value for k in _ASKS) and any(k in value for k in _ANSWERS)

    def read(self, value: Mapping[str, Any], roles: RoleMap) -> tuple[Message, ...]:
        ask, answer = next((k for k in _ASKS if k in value), None), next((k for k in _ANSWERS if k in value), None)
        if ask is None or answer is None:
            raise BadRow(f"The row has no {'prompt' if ask is None else 'completion'}.", hint="Fill in 'prompt' and 'completion'.")
        if isinstance(value[ask], list) and isinstance(value[answer], list):
            return turns([*value[ask], *value[answer]], ask, ("role", "from"), ("content", "value"), roles)
        question, reply = text_of(value, (ask,)) or "", text_of(value, (answer,)) or ""
        if not question.strip():
            raise BadRow(f"The {ask} is empty.", hint=f"Fill in {ask!r}, or use 'text' for plain documents.")
        return conversation([Message("user", question), Message("assistant", reply.removeprefix(" "))])
