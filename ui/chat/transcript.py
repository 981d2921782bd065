"""Conversations on disk and in words: autosave, export, the badge under a reply. Knows nothing of Qt.

Importing this module imports the engine; the panel does so once the engine is there.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from workbench.core.errors import DataError, FileError, WorkbenchError
from workbench.core.fields import from_dict, to_dict
from workbench.core.format import bytes_text, duration_text
from workbench.core.store import read_json, write_json, write_text
from workbench.generation import Conversation, GenerationConfig, Turn

KIND: Final = "workbench chat"
VERSION: Final = 1
TITLE_LENGTH: Final = 60
REASONS: Final = {
    "eos": "finished",
    "stop": "ended at a stop string",
    "length": "longest reply reached",
    "context": "context is full",
    "stopped": "stopped",
    "failed": "broken off by an error",
}
CHANGES: Final = {
    "kept": "new cache settings, tokens kept",
    "re-encoded": "new cache settings, tokens stored anew",
    "recomputed": "new cache settings, all read again",
}


def figures_text(figures: Mapping[str, Any]) -> str:
    """What was measured while a reply was written, in one line: 31.2 tok/s · first token 180 ms · cache 1.2 MB · …"""
    parts: list[str] = []
    if figures.get("tokens_per_second"):
        parts.append(f"{figures['tokens_per_second']:.1f} tok/s")
    if figures.get("first_token_ms") is not None:
        parts.append(f"first token {duration_text(figures['first_token_ms'] / 1000)}")
    if figures.get("cached"):
        parts.append(f"cache {bytes_text(figures.get('cache_bytes', 0))}")
    if "cached" in figures:
        parts.append("cached" if figures["cached"] else "uncached")
    if figures.get("reused_tokens"):
        parts.append(f"{figures['reused_tokens']:,} tokens reused")
    if figures.get("cache_change"):
        parts.append(CHANGES.get(str(figures["cache_change"]), str(figures["cache_change"])))
    if figures.get("dropped_tokens"):
        parts.append(f"{figures['dropped_tokens']:,} older tokens dropped for room")
    if left_out := figures.get("left_out_messages"):
        parts.append(f"{left_out:,} {'message' if left_out == 1 else 'messages'} left out for room")
    if figures.get("stop_reason"):
        parts.append(REASONS.get(str(figures["stop_reason"]), str(figures["stop_reason"])))
    return " · ".join(parts)


def writer_text(figures: Mapping[str, Any]) -> str:
    """Who wrote a reply: the model, and the adapter with its strength if one acted."""
    name = str(figures.get("model") or "Model")
    adapter = figures.get("adapter")
    return f"{name} + {adapter}" if adapter else name


def tokens_used(conversation: Conversation) -> int | None:
    """Tokens the conversation took at its last shown reply, measured; None before the first."""
    for turn in reversed(conversation.shown):
        if turn.role == "assistant" and "prompt_tokens" in turn.figures:
            gone = int(turn.figures.get("dropped_tokens", 0))
            return int(turn.figures["prompt_tokens"]) + int(turn.figures.get("new_tokens", 0)) - gone
    return None


def noted(conversation: Conversation, figures: Mapping[str, Any]) -> Conversation:
    """With more figures at the newest turn."""
    last = conversation.turns[-1]
    return replace(conversation, turns=(*conversation.turns[:-1], replace(last, figures={**last.figures, **figures})))


def last_reply(conversation: Conversation) -> Turn | None:
    """The newest reply that is shown."""
    return next((t for t in reversed(conversation.shown) if t.role == "assistant"), None)


def title_of(conversation: Conversation) -> str:
    """The first line of the first message, shortened."""
    first = next((t.content.strip() for t in conversation.shown if t.role == "user"), "")
    line = first.splitlines()[0] if first else "Empty chat"
    return line if len(line) <= TITLE_LENGTH else line[: TITLE_LENGTH - 1].rstrip() + "…"


def markdown(conversation: Conversation) -> str:
    """The shown conversation for people: a heading per message, the figures under each reply."""
    parts = [f"# {title_of(conversation)}"]
    if conversation.system:
        parts.append(f"**System prompt:** {conversation.system}")
    for turn in conversation.shown:
        who = "You" if turn.role == "user" else writer_text(turn.figures)
        parts.append(f"## {who}\n\n{turn.content.strip()}")
        if turn.role == "assistant" and figures_text(turn.figures):
            parts.append(f"*{figures_text(turn.figures)}*")
    return "\n\n".join(parts) + "\n"


@dataclass(frozen=True)
class Chat:
    """A conversation and the settings of its next reply."""

    conversation: Conversation = field(default_factory=Conversation)
    generation: GenerationConfig = field(default_factory=GenerationConfig)

    def save(self, path: Path) -> None:
        """Write everything, other versions of messages included. Raises `FileError`."""
        data = {
            "title": title_of(self.conversation),
            "saved": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "conversation": self.conversation.to_dict(),
            "generation": to_dict(self.generation),
        }
        write_json(path, data, kind=KIND, version=VERSION)

    @classmethod
    def read(cls, path: Path) -> Chat:
        """The inverse of `save`. Raises `FileError` or `DataError`."""
        data = read_json(path, kind=KIND, version=VERSION)
        try:
            conversation = Conversation.from_dict(data.get("conversation", {}))
        except (AttributeError, TypeError, KeyError, ValueError) as error:
            raise DataError(f"{path.name} holds no readable conversation.", hint="The file is damaged; start a new chat.") from error
        try:
            generation = from_dict(GenerationConfig, data.get("generation", {}))
        except (WorkbenchError, TypeError, ValueError):  # settings of another age: the talk matters more than they do
            generation = GenerationConfig()
        return cls(conversation, generation if not generation.problems() else GenerationConfig())

    def export(self, path: Path) -> None:
        """Markdown, or JSON when the name ends so. Raises `FileError`."""
        if path.suffix.lower() == ".json":
            self.save(path)
        else:
            write_text(path, markdown(self.conversation))


class Archive:
    """The folder of chats, newest first; one file each."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def files(self) -> list[Path]:
        try:
            return sorted((p for p in self.folder.glob("*.json") if not p.name.startswith(".")), key=_age)
        except OSError:
            return []

    def fresh_path(self) -> Path:
        """A name nobody has."""
        stamp = time.strftime("%Y%m%d-%H%M%S")
        names = (self.folder / (f"{stamp}.json" if n == 0 else f"{stamp}-{n}.json") for n in range(10_000))
        for path in names:
            if not path.exists():
                return path
        raise FileError(f"{self.folder} is full of chats of this second.", hint="Try again.")


def _age(path: Path) -> tuple[float, str]:
    try:
        return -path.stat().st_mtime, path.name
    except OSError:
        return 0.0, path.name
