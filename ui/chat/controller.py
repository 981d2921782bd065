"""The conversation now open and what is being done about it. Draws nothing; the panel follows its signals."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, Final

from PySide6.QtCore import QCoreApplication, QObject, QTimer, Signal, Slot

from ui.jobs.runner import Job
from ui.jobs.worker import JobFailure
from ui.services import Services
from workbench.core.errors import WorkbenchError
from workbench.core.events import Event, Progress

SAVE_AFTER_MS: Final = 500
FOLDER: Final = "chats"


class ChatController(QObject):
    """Sends, stops, regenerates, edits, saves. `ready` once the engine is there; before, `chat` is None."""

    conversation_changed = Signal(object)
    """Conversation: another one, or another path through it."""
    reply_started = Signal()
    streamed = Signal(str)
    """Text that the reply grew by."""
    working = Signal(str)
    """What is being done before the first token, and how fast it goes afterwards."""
    reply_finished = Signal(object)
    """Conversation with the reply as its last turn."""
    failed = Signal(object)
    """JobFailure of a reply; the conversation is as it was, with what was written so far."""
    changed = Signal()
    """Busy or not, model, engine: whoever shows what is possible asks again."""
    restored = Signal(object)
    """Chat that was read from disk."""

    def __init__(self, services: Services) -> None:
        super().__init__(services.bus)
        self._services = services
        self.chat: Any = None
        self.path: Path | None = None
        self.engine_failed = False
        self._archive: Any = None
        self._job: Job | None = None
        self._written: list[str] = []
        self._tokens = 0
        self._save_timer = QTimer(self, singleShot=True, interval=SAVE_AFTER_MS)
        self._save_timer.timeout.connect(self.save)
        app = QCoreApplication.instance()
        if app is not None:
            app.aboutToQuit.connect(self.save)  # a setting changed in the last moment
        bus = services.bus
        bus.engine_ready.connect(self._on_engine)
        bus.engine_failed.connect(self._on_engine_failed)
        bus.model_changed.connect(self._on_news)
        bus.job_started.connect(self._on_news)
        bus.job_finished.connect(self._on_news)
        if services.session is not None:
            self._on_engine(services.session)

    # ---- what is so --------------------------------------------------------------------------------------------------

    @property
    def conversation(self) -> Any:
        return None if self.chat is None else self.chat.conversation

    @property
    def generation(self) -> Any:
        return None if self.chat is None else self.chat.generation

    @property
    def model(self) -> Any:
        """ModelSummary, or None."""
        return getattr(self._services.session, "model", None)

    @property
    def generating(self) -> bool:
        return self._job is not None

    @property
    def stopping(self) -> bool:
        return self._job is not None and self._job.stopping

    def obstacle(self) -> str:
        """Why no message can be sent now; empty when one can."""
        if self.engine_failed:
            return "The engine did not load; the Log says why."
        if self.chat is None:
            return "The engine is still loading…"
        if self._services.jobs.running("model") is not None:
            return "A model is being loaded…"
        if self.model is None:
            return "Load a model first."
        return ""

    # ---- asked by people ---------------------------------------------------------------------------------------------

    def send(self, text: str) -> bool:
        """Add a message and answer it; False when that is not possible now. A message that never got its answer is replaced."""
        text = text.strip()
        if not text or self.generating or self.obstacle():
            return False
        talk, shown = self.conversation, self.conversation.shown
        unanswered = bool(shown) and shown[-1].role == "user"
        self._take(talk.edit(len(shown) - 1, text) if unanswered else talk.add("user", text))
        return self.answer()

    def answer(self) -> bool:
        """Answer the last message shown."""
        if self.generating or self.obstacle():
            return False
        from workbench.requests import ChatRequest

        request = ChatRequest(conversation=self.conversation, generation=self.generation, cache=self._services.runtime.cache)
        self._written, self._tokens = [], 0
        try:
            self._job = self._services.jobs.start(
                "Reply", partial(self._services.engine.reply, request), "chat",
                on_events=self._on_events, on_done=self._on_done, on_failed=self._on_failed, on_finished=self._on_finished,
            )  # fmt: skip
        except WorkbenchError as error:
            self.failed.emit(JobFailure.of(error))
            return False
        self.reply_started.emit()
        self.changed.emit()
        return True

    def stop(self) -> None:
        """End the reply at its next token and keep its text."""
        if self._job is not None:
            self._job.stop(save=True)
            self.changed.emit()

    def regenerate(self) -> None:
        """Answer the last message once more; the old reply stays beside."""
        shown = self.conversation.shown if self.chat is not None else ()
        if not shown or self.generating or self.obstacle():
            return
        if shown[-1].role == "assistant":
            self._take(self.conversation.regenerate())
        self.answer()

    def edit(self, index: int, text: str) -> None:
        """Put another text in place of an own message and answer it; what followed stays beside."""
        if text.strip() and not self.generating and not self.obstacle():
            self._take(self.conversation.edit(index, text.strip()))
            self.answer()

    def choose(self, index: int, version: int) -> None:
        """Show another version of a message."""
        if not self.generating:
            self._take(self.conversation.choose(index, version))

    def new(self) -> None:
        """An empty conversation with the same settings; the old one stays in its file."""
        if self.chat is None or self.generating:
            return
        self.save()
        self.path = None
        self._take(type(self.conversation)(system=self.conversation.system))

    def open(self, path: Path) -> None:
        """Another saved chat. What cannot be read is said in the message bar."""
        from ui.chat.transcript import Chat

        if self.generating:
            return
        self.save()
        try:
            chat = Chat.read(path)
        except WorkbenchError as error:
            self._services.notify.exception(error, source="chat")
            return
        self.chat, self.path = chat, path
        self.restored.emit(chat)
        self.conversation_changed.emit(chat.conversation)
        self.changed.emit()

    def go_on_with(self, conversation: Any) -> None:
        """Another course of the conversation, from a comparison."""
        if not self.generating and self.chat is not None:
            self._take(conversation)

    def files(self) -> list[Path]:
        """Saved chats, newest first."""
        return [] if self._archive is None else self._archive.files()

    def set_system(self, text: str) -> None:
        """Another system prompt from the next message on."""
        if self.chat is not None and text != self.conversation.system:
            self._replace(conversation=self.conversation.with_system(text))
            self._save_timer.start()

    def set_generation(self, config: Any) -> None:
        """Other settings from the next message on."""
        if self.chat is not None:
            self._replace(generation=config)
            self._save_timer.start()

    # ---- saving ------------------------------------------------------------------------------------------------------

    @Slot()
    def save(self) -> None:
        """Write the conversation, if there is any; a failure is said once and takes nothing away."""
        self._save_timer.stop()
        if self._archive is None or not self.conversation.turns:
            return
        try:
            if self.path is None:
                self.path = self._archive.fresh_path()
            self.chat.save(self.path)
        except (WorkbenchError, OSError) as error:
            self._services.notify.exception(error, source="chat")

    def export(self, path: Path) -> None:
        """Save a copy as Markdown or JSON, by the name's ending."""
        try:
            self.chat.export(path)
        except (WorkbenchError, OSError) as error:
            self._services.notify.exception(error, source="chat")
        else:
            self._services.notify.info(f"The chat was saved as {path}.", source="chat")

    # ---- news --------------------------------------------------------------------------------------------------------

    @Slot(object)
    def _on_engine(self, session: Any) -> None:
        from ui.chat.transcript import Archive, Chat

        home = getattr(session, "home", None) or self._services.models.library.home
        self._archive = Archive(Path(home) / FOLDER)
        self.chat = Chat()
        for path in self._archive.files()[:1]:
            try:
                self.chat, self.path = Chat.read(path), path
            except WorkbenchError as error:
                self._services.notify.warning("The last chat could not be restored.", error.hint, str(error), "chat")
        self.restored.emit(self.chat)
        self.conversation_changed.emit(self.conversation)
        self.changed.emit()

    @Slot(object)
    def _on_engine_failed(self, failure: object) -> None:
        self.engine_failed = True
        self.changed.emit()

    @Slot(object)
    def _on_news(self, _news: object) -> None:
        self.changed.emit()

    def _on_events(self, events: list[Event]) -> None:
        pieces: list[str] = []
        speed: float | None = None
        for event in events:
            if event.name == "token":
                self._tokens += 1
                pieces.append(getattr(event, "text", ""))
                speed = event.metrics.get("generate_tokens_per_second")
            elif isinstance(event, Progress) and not self._tokens:
                of = f" {event.done:,.0f} of {event.total:,.0f} {event.unit}" if event.total else ""
                self.working.emit(f"{event.message}…{of}")
        if pieces:
            text = "".join(pieces)
            self._written.append(text)
            self.working.emit(f"{self._tokens:,} tokens" + (f" · {speed:.1f} tok/s" if speed else ""))
            self.streamed.emit(text)

    def _on_done(self, reply: Any) -> None:
        from ui.chat.transcript import noted

        self._replace(conversation=noted(reply.conversation, self._writer()))
        self.save()
        self.reply_finished.emit(self.conversation)

    def _on_failed(self, failure: JobFailure) -> bool:
        written = "".join(self._written)
        if written:
            figures = {"stop_reason": "failed", **self._writer()}
            self._replace(conversation=self.conversation.add("assistant", written, figures))
        self.save()
        self.conversation_changed.emit(self.conversation)
        self.failed.emit(failure)
        return True

    def _on_finished(self) -> None:
        self._job = None
        self.changed.emit()

    def _writer(self) -> dict[str, Any]:
        adapter = getattr(self._services.session, "adapter", None)
        acting = f"{adapter.name} ×{adapter.strength:g}" if adapter is not None else ""
        return {"model": getattr(self.model, "name", ""), **({"adapter": acting} if acting else {})}

    def _replace(self, **values: Any) -> None:
        from dataclasses import replace

        self.chat = replace(self.chat, **values)

    def _take(self, conversation: Any) -> None:
        self._replace(conversation=conversation)
        self._save_timer.start()
        self.conversation_changed.emit(conversation)
        self.changed.emit()
