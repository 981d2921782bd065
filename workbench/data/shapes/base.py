"""The registry of row formats, roles, and how a row's format is recognised."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from workbench.core.errors import ConfigError
from workbench.core.registry import Registry
from workbench.data.examples import BadRow
from workbench.tokenizers import Message

RoleMap = Mapping[str, str]
"""Names that data use (lower case) -> roles of this program; of columns too, for tables."""

ROLES = ("system", "user", "assistant", "tool")
_OTHER_NAMES = {
    "human": "user", "prompter": "user", "customer": "user", "gpt": "assistant", "bot": "assistant", "model": "assistant",
    "ai": "assistant", "chatgpt": "assistant", "bing": "assistant", "bard": "assistant", "developer": "system", "function": "tool",
    "observation": "tool",
}  # fmt: skip


class RowShape(Protocol):
    """One way to write an example as a record."""

    def recognises(self, value: Mapping[str, Any], roles: RoleMap) -> bool:
        """True when the record has this format's keys; their contents are judged by `read`."""
        ...

    def read(self, value: Mapping[str, Any], roles: RoleMap) -> tuple[Message, ...] | str:
        """The conversation, or the document's text. Raises `BadRow` saying what is missing."""
        ...


SHAPES: Registry[RowShape] = Registry("row format")


def shape_of(value: Mapping[str, Any], roles: RoleMap, name: str | None = None) -> RowShape:
    """The format called `name`, or the first that recognises the record; `BadRow` listing its keys when none does."""
    if name is not None:
        return SHAPES[name].make()
    for entry in SHAPES:
        shape = entry.make()
        if shape.recognises(value, roles):
            return shape
    keys = ", ".join(repr(str(k)) for k in list(value)[:8]) or "none"
    raise BadRow(
        f"The row has no known format; its keys are {keys}.",
        hint="Use 'messages', 'prompt' and 'completion', 'instruction' and 'output', or 'text'; or name two columns with roles.",
    )


def role_map(pairs: Sequence[str]) -> dict[str, str]:
    """Known names of roles and those of `pairs` ("narrator=user"). Raises `ConfigError`."""
    found = {role: role for role in ROLES} | _OTHER_NAMES
    for pair in pairs:
        name, equals, role = (part.strip() for part in pair.partition("="))
        if not (name and equals and role in ROLES):
            raise ConfigError(f"{pair!r} does not map a name to a role.", hint=f"Write name=role with one of: {', '.join(ROLES)}.")
        found[name.lower()] = role
    return found


def message(role: Any, content: Any, number: int, roles: RoleMap) -> Message:
    """A turn from its written role and content (text, or OpenAI's list of parts). Raises `BadRow` naming the turn."""
    known = roles.get(str(role).strip().lower())
    if known is None:
        raise BadRow(f"Message {number} has the unknown role {role!r}.", hint=f"Map it to a role, for example: {role}=user.")
    if isinstance(content, list) and all(isinstance(p, dict) and isinstance(p.get("text"), str) for p in content):
        content = "".join(p["text"] for p in content)
    if not isinstance(content, str):
        kind = "no text" if content is None else f"content that is no text ({type(content).__name__})"
        raise BadRow(f"Message {number} ({known}) has {kind}.", hint="Only text can be learnt: give every message a text.")
    return Message(known, content)


def conversation(messages: Sequence[Message]) -> tuple[Message, ...]:
    """`messages` when something in them can be trained. Raises `BadRow`."""
    if not messages:
        raise BadRow("The conversation is empty.", hint="Add messages, or delete the row.")
    replies = [m for m in messages if m.role == "assistant"]
    if not replies:
        raise BadRow("The conversation has no reply (no message of the role assistant).", hint="Add the answer that is to be learnt.")
    if not any(m.content.strip() for m in replies):
        raise BadRow("The replies of the conversation are empty.", hint="Add the answer that is to be learnt.")
    return tuple(messages)


def text_of(value: Mapping[str, Any], names: Sequence[str]) -> str | None:
    """The first of the named columns that exists, as text; None when none does. Raises `BadRow` for other types."""
    for name in names:
        if name in value:
            found = value[name]
            if found is None:
                return ""
            if not isinstance(found, (str, int, float)):
                raise BadRow(f"The column {name!r} holds {type(found).__name__}, not text.", hint="Give a text.")
            return str(found)
    return None
