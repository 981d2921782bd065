"""Conversations as OpenAI writes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from workbench.data.examples import BadRow
from workbench.data.shapes.base import SHAPES, RoleMap, conversation, message
from workbench.tokenizers import Message


@SHAPES.register(
    "messages", label="Messages", source="OpenAI's chat format",
    help='A list "messages" of objects with "role" and "content"; replies are the messages of the role assistant.',
)  # fmt: skip
class Messages:
    """`{"messages": [{"role": "user", "content": "…"}, …]}`."""

    def recognises(self, value: Mapping[str, Any], roles: RoleMap) -> bool:
        return "messages" in value

    def read(self, value: Mapping[str, Any], roles: RoleMap) -> tuple[Message, ...]:
        return turns(value.get("messages"), "messages", ("role",), ("content",), roles)


def turns(found: Any, key: str, role_keys: tuple[str, ...], text_keys: tuple[str, ...], roles: RoleMap) -> tuple[Message, ...]:
    """A conversation from a list of objects that name role and text by one of the given keys. Raises `BadRow`."""
    if not isinstance(found, list):
        raise BadRow(
            f"{key!r} is {type(found).__name__ if found is not None else 'missing'}, not a list.", hint="Write a list of messages."
        )
    read = []
    for number, turn in enumerate(found, 1):
        role = next((k for k in role_keys if isinstance(turn, Mapping) and k in turn), None)
        text = next((k for k in text_keys if isinstance(turn, Mapping) and k in turn), None)
        if role is None or text is None:
            missing = role_keys[0] if role is None else text_keys[0]
            raise BadRow(f"Message {number} has no {missing!r}.", hint=f"Give each message {role_keys[0]!r} and {text_keys[0]!r}.")
        read.append(message(turn[role], turn[text], number, roles))
    return conversation(read)
