"""A conversation as data: turns, the other versions of each turn, and which of them is shown. Nothing is ever erased."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from workbench.core.errors import DataError
from workbench.tokenizers import Message

ROLES = ("user", "assistant")


@dataclass(frozen=True)
class Turn:
    """One message. `parent` is the number of the turn it follows, None for a first one; `figures` what was measured
    while it was written (plain JSON values)."""

    role: str
    content: str
    parent: int | None
    figures: Mapping[str, Any] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class Conversation:
    """A tree of turns and the path through it that is shown; every method returns a new conversation.

    Editing a turn or asking for another reply begins a new branch beside the old one. Indices count the shown turns from 0;
    the system prompt is not a turn and holds for all branches.
    """

    system: str = ""
    turns: tuple[Turn, ...] = ()
    leaf: int | None = None
    """Number (in `turns`) of the last turn shown; None when nothing is."""

    @property
    def shown(self) -> tuple[Turn, ...]:
        """The turns of the chosen path, first one first."""
        return tuple(self.turns[i] for i in self._path())

    @property
    def messages(self) -> tuple[Message, ...]:
        """What the model is given: the system prompt, if there is one, and the shown turns."""
        system = (Message("system", self.system),) if self.system else ()
        return (*system, *(Message(t.role, t.content) for t in self.shown))

    def add(self, role: str, content: str, figures: Mapping[str, Any] | None = None) -> Conversation:
        """With one more turn at the end of the path."""
        if role not in ROLES:
            raise DataError(f"A turn cannot be by {role!r}.", hint=f"Use one of: {', '.join(ROLES)}; the system prompt is set apart.")
        turn = Turn(role, content, self.leaf, dict(figures or {}))
        return replace(self, turns=(*self.turns, turn), leaf=len(self.turns))

    def with_system(self, text: str) -> Conversation:
        """With another system prompt."""
        return replace(self, system=text)

    def edit(self, index: int, content: str) -> Conversation:
        """The path up to the turn at `index`, with `content` in its place; the old version and what followed it stay beside."""
        turn = self.turns[self._number(index)]
        return replace(self, leaf=turn.parent).add(turn.role, content)

    def before(self, index: int) -> Conversation:
        """The path up to, and without, the turn at `index`. Adding a turn then makes another version of it."""
        return replace(self, leaf=self.turns[self._number(index)].parent)

    def regenerate(self) -> Conversation:
        """The path without its last reply, ready for another one. Raises `DataError` when there is no reply to replace."""
        path = self._path()
        replies = [i for i, number in enumerate(path) if self.turns[number].role == "assistant"]
        if not replies:
            raise DataError("There is no reply to write again.", hint="Send a message first.")
        return self.before(replies[-1])

    def versions(self, index: int) -> tuple[int, int]:
        """(which version of the turn at `index` is shown, how many there are), counted from 0."""
        number = self._number(index)
        siblings = self._siblings(number)
        return siblings.index(number), len(siblings)

    def choose(self, index: int, version: int) -> Conversation:
        """Show another version of the turn at `index`, and the newest turns that follow it."""
        siblings = self._siblings(self._number(index))
        if not 0 <= version < len(siblings):
            raise DataError(f"Version {version} of turn {index} does not exist; there are {len(siblings)}.", hint="Count from 0.")
        return replace(self, leaf=self._newest_end(siblings[version]))

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        turns = [
            {"role": t.role, "content": t.content, "parent": t.parent, **({"figures": dict(t.figures)} if t.figures else {})}
            for t in self.turns
        ]
        return {"system": self.system, "turns": turns, "leaf": self.leaf}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Conversation:
        """The inverse of `to_dict`. Raises `DataError` naming the turn that does not fit."""
        turns: list[Turn] = []
        for number, raw in enumerate(data.get("turns", ())):
            parent, role, content = raw.get("parent"), raw.get("role"), raw.get("content")
            follows = parent is None or (isinstance(parent, int) and 0 <= parent < number)
            if not follows or role not in ROLES or not isinstance(content, str):
                raise DataError(f"Turn {number} of the saved conversation is not usable.", hint="The file is damaged; start a new chat.")
            turns.append(Turn(role, content, parent, dict(raw.get("figures", {}))))
        leaf = data.get("leaf")
        if leaf is not None and not (isinstance(leaf, int) and 0 <= leaf < len(turns)):
            raise DataError(f"The saved conversation ends at turn {leaf}, which it does not have.", hint="Start a new chat.")
        return cls(str(data.get("system", "")), tuple(turns), leaf)

    def _path(self) -> list[int]:
        path: list[int] = []
        number = self.leaf
        while number is not None:
            path.append(number)
            number = self.turns[number].parent
        return path[::-1]

    def _number(self, index: int) -> int:
        path = self._path()
        if not 0 <= index < len(path):
            raise DataError(f"The conversation has no turn {index}; it shows {len(path)}.", hint="Count from 0.")
        return path[index]

    def _siblings(self, number: int) -> list[int]:
        parent = self.turns[number].parent
        return [i for i, turn in enumerate(self.turns) if turn.parent == parent]

    def _newest_end(self, number: int) -> int:
        """The end of the path that goes on from a turn by its newest followers."""
        newest: dict[int | None, int] = {turn.parent: i for i, turn in enumerate(self.turns)}
        while number in newest:
            number = newest[number]
        return number
