"""The conversation with two settings and what is being done about it. Draws nothing; the view follows its signals.

Imports the engine: made when a comparison begins.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any, Final

from PySide6.QtCore import QObject, Signal

from ui.chat.marking import FIGURE
from ui.jobs.runner import Job
from ui.jobs.worker import JobFailure
from ui.pairing.difference import place, tokens_text
from ui.services import Services
from workbench.core.errors import WorkbenchError
from workbench.core.events import Event, Progress
from workbench.core.format import bytes_text
from workbench.generation import Conversation, GenerationConfig
from workbench.requests import PairChatRequest, SideSettings

SIDES: Final = ("A", "B")


class Stream:
    """What one side has written of the reply that is on its way."""

    def __init__(self) -> None:
        self.ids: list[int] = []
        self.pieces: list[str] = []
        self.speed: float | None = None
        self.first_ms: float | None = None
        self.cache_bytes = 0
        self.working = ""

    def take(self, event: Event) -> str:
        """Follow one event; returns the text it brought."""
        if event.name == "token":
            token: Any = event
            self.ids.append(token.id)
            self.pieces.append(token.text)
            self.speed = event.metrics.get("generate_tokens_per_second", self.speed)
            self.first_ms = token.ms if self.first_ms is None else self.first_ms
            self.cache_bytes = token.cache_bytes
            return str(token.text)
        if isinstance(event, Progress) and not self.ids:
            self.working = f"{event.message}…{_how_far(event)}"
        return ""


def _how_far(event: Progress) -> str:
    if not event.total:
        return ""
    if event.unit == "B":
        return f" {bytes_text(event.done)} of {bytes_text(event.total)}"
    return f" {event.done:,.0f} of {event.total:,.0f} {event.unit}"


class PairController(QObject):
    """Two conversations that share their questions. `settings` may change between messages."""

    conversation_changed = Signal(str, object)
    """Side, Conversation."""
    reply_started = Signal()
    streamed = Signal(str, str)
    """Side, text that its reply grew by."""
    working = Signal(str, str)
    """Side, what is being done before its first token and how fast it goes afterwards."""
    progressed = Signal()
    """The figures of `streams` are others."""
    reply_finished = Signal(str, object)
    """Side, Conversation with the reply as its last turn."""
    compared = Signal(object)
    """PairReply, when both sides have ended."""
    side_failed = Signal(str, object)
    """Side, JobFailure: why it has no reply; its conversation holds what was written so far."""
    changed = Signal()

    def __init__(self, services: Services, parent: QObject) -> None:
        super().__init__(parent)
        self._services = services
        self.conversations: dict[str, Any] = {side: Conversation() for side in SIDES}
        self.settings: dict[str, SideSettings] = {side: SideSettings() for side in SIDES}
        self.generation = GenerationConfig()
        self.system = ""
        """The system prompt of the next message."""
        self.streams: dict[str, Stream] = {side: Stream() for side in SIDES}
        self.last: Any = None
        """PairReply of the newest message; None while one is written, and before the first."""
        self._job: Job | None = None

    # ---- what is so --------------------------------------------------------------------------------------------------

    @property
    def generating(self) -> bool:
        return self._job is not None

    @property
    def stopping(self) -> bool:
        return self._job is not None and self._job.stopping

    @property
    def identical(self) -> int | None:
        """Tokens so far if both streams agree as far as both go; None when they have parted."""
        one, other = (self.streams[side].ids for side in SIDES)
        both = min(len(one), len(other))
        return both if one[:both] == other[:both] else None

    @property
    def parted_at(self) -> int | None:
        """Index of the first token that differs so far."""
        pairs = zip(self.streams["A"].ids, self.streams["B"].ids, strict=False)
        return next((i for i, (a, b) in enumerate(pairs) if a != b), None)

    # ---- asked by people ---------------------------------------------------------------------------------------------

    def begin(self, conversation: Any) -> None:
        """Both sides go on from this conversation."""
        if self.generating:
            return
        self.last = None
        self.system = conversation.system
        self.streams = {side: Stream() for side in SIDES}
        for side in SIDES:
            self._take(side, conversation)
        self.changed.emit()

    def send(self, text: str) -> bool:
        """Ask both sides; False when that is not possible now. A message that never got its answers is replaced."""
        text = text.strip()
        if not text or self.generating:
            return False
        for side in SIDES:
            self._take(side, self._asked(self.conversations[side].with_system(self.system), text))
        return self.answer()

    def edit(self, side: str, index: int, text: str) -> None:
        """Put another text in place of a question of a side, on the other side too, and answer it."""
        if not text.strip() or self.generating:
            return
        for one, place_there in self._places(side, index).items():
            talk = self.conversations[one]
            self._take(one, talk.edit(place_there, text.strip()) if place_there is not None else self._asked(talk, text.strip()))
        self.answer()

    def regenerate(self) -> None:
        """Answer the last question once more on both sides."""
        if self.generating or not self.conversations["A"].shown:
            return
        for side in SIDES:
            if self.conversations[side].shown[-1].role == "assistant":
                self._take(side, self.conversations[side].regenerate())
        self.answer()

    def choose(self, side: str, index: int, version: int) -> None:
        """Show another version of a message, and what followed it: of a question on both sides."""
        if self.generating:
            return
        places = self._places(side, index) if self.conversations[side].shown[index].role == "user" else {side: index}
        for one, place_there in places.items():
            if place_there is not None and version < self.conversations[one].versions(place_there)[1]:
                self._take(one, self.conversations[one].choose(place_there, version))

    def _places(self, side: str, index: int) -> dict[str, int | None]:
        """Where a question of a side stands on each side; None where an error has kept it out. The sides' courses differ then."""
        asked = self.conversations[side].shown[index].content
        found: dict[str, int | None] = {}
        for one in SIDES:
            there = [i for i, turn in enumerate(self.conversations[one].shown) if turn.role == "user" and turn.content == asked]
            found[one] = index if index in there else there[-1] if there else None
        return found

    @staticmethod
    def _asked(talk: Any, text: str) -> Any:
        """With a question at its end; one that never got its answer is replaced."""
        unanswered = bool(talk.shown) and talk.shown[-1].role == "user"
        return talk.edit(len(talk.shown) - 1, text) if unanswered else talk.add("user", text)

    def answer(self) -> bool:
        """Answer the last question of both conversations."""
        if self.generating:
            return False
        request = PairChatRequest(
            conversation_a=self.conversations["A"], conversation_b=self.conversations["B"], generation=self.generation,
            a=self.settings["A"], b=self.settings["B"],
        )  # fmt: skip
        self.streams = {side: Stream() for side in SIDES}
        self.last = None
        try:
            self._job = self._services.jobs.start(
                "Reply, A and B", partial(self._services.engine.reply_pair, request), "chat",
                on_events=self._on_events, on_done=self._on_done, on_failed=self._on_failed, on_finished=self._on_finished,
            )  # fmt: skip
        except WorkbenchError as error:
            for side in SIDES:
                self.side_failed.emit(side, JobFailure.of(error))
            return False
        self.reply_started.emit()
        self.changed.emit()
        return True

    def stop(self) -> None:
        """End both replies at their next token and keep their texts."""
        if self._job is not None:
            self._job.stop(save=True)
            self.changed.emit()

    # ---- news --------------------------------------------------------------------------------------------------------

    def _on_events(self, events: list[Event]) -> None:
        grown: dict[str, list[str]] = {side: [] for side in SIDES}
        for event in events:
            if event.name == "side":
                said: Any = event
                grown[said.side].append(self.streams[said.side].take(said.event))
            elif isinstance(event, Progress):
                for side in SIDES:
                    self.working.emit(side, f"{event.message}…{_how_far(event)}")
        for side, pieces in grown.items():
            if not pieces:
                continue
            stream = self.streams[side]
            speed = f" · {stream.speed:.1f} tok/s" if stream.speed else ""
            self.working.emit(side, f"{tokens_text(len(stream.ids))}{speed}" if stream.ids else stream.working)
            if text := "".join(pieces):
                self.streamed.emit(side, text)
        self.progressed.emit()

    def _on_done(self, reply: Any) -> None:
        if reply is None:  # stopped before there was anything to answer with
            for side in SIDES:
                self.conversation_changed.emit(side, self.conversations[side])
            return
        failures = {side: JobFailure.of(error) for side, error in reply.failures.items()}
        self.last = replace(reply, failures={})  # an exception keeps its frames, and with them tensors, alive
        for side, one in (("A", reply.a), ("B", reply.b)):
            figures = self._figures(side, reply.first_difference)
            if side in reply.cache_tokens:
                figures["cache_tokens"] = reply.cache_tokens[side]
            if one is not None:
                from ui.chat.transcript import noted

                self.conversations[side] = noted(one.conversation, figures)
                self.reply_finished.emit(side, self.conversations[side])
            else:
                self._break_off(side, figures, failures.get(side))
        self.compared.emit(self.last)

    def _on_failed(self, failure: JobFailure) -> bool:
        for side in SIDES:
            self._break_off(side, self._figures(side, self.parted_at), failure)
        return True

    def _break_off(self, side: str, figures: dict[str, Any], failure: JobFailure | None) -> None:
        """Keep what a side wrote before an error, which is said; without one it was stopped before its first token."""
        if self.streams[side].ids:
            broken = {"stop_reason": "failed", **figures}
            self.conversations[side] = self.conversations[side].add("assistant", "".join(self.streams[side].pieces), broken)
        self.conversation_changed.emit(side, self.conversations[side])
        if failure is not None:
            self.side_failed.emit(side, failure)

    def _on_finished(self) -> None:
        self._job = None
        self.changed.emit()

    def _figures(self, side: str, first: int | None) -> dict[str, Any]:
        """Who wrote a side's reply, and the place of the first token that differs."""
        spot = place(self.streams[side].pieces, first)
        return {**self._writer(side), **({FIGURE: list(spot)} if spot is not None else {})}

    def _writer(self, side: str) -> dict[str, Any]:
        session = self._services.session
        adapter = getattr(session, "adapter", None) if self.settings[side].adapter else None
        acting = f"{adapter.name} ×{adapter.strength:g}" if adapter is not None else ""
        return {"model": getattr(getattr(session, "model", None), "name", ""), **({"adapter": acting} if acting else {})}

    def _take(self, side: str, conversation: Any) -> None:
        self.conversations[side] = conversation
        self.conversation_changed.emit(side, conversation)
