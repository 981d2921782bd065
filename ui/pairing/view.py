"""Two transcripts side by side that stream together, each below its settings; their figures below. Made when a comparison begins."""

from __future__ import annotations

from functools import partial
from typing import Any, Final

from PySide6.QtCore import Qt, QUrl, Signal, Slot
from PySide6.QtGui import QResizeEvent
from PySide6.QtWidgets import QFrame, QSplitter, QVBoxLayout, QWidget

from ui.chat.view import TranscriptView
from ui.jobs.worker import JobFailure
from ui.pairing.controller import SIDES, PairController
from ui.pairing.difference import Figures, sameness
from ui.pairing.settings import SideChooser, first_settings
from ui.pairing.strip import PairStrip
from ui.services import Services
from workbench.requests import SideSettings

STACKED_BELOW: Final = 480
"""Pixels at the normal text size below which the sides lie one above the other."""


class PairView(QWidget):
    """Both sides, and what is compared of them."""

    link_wanted = Signal(QUrl)
    example_chosen = Signal(str)
    keep_wanted = Signal(str)
    """Side whose conversation a person wants to go on with."""

    def __init__(self, services: Services) -> None:
        super().__init__()
        self._services = services
        self.controller = PairController(services, self)
        self.choosers = {side: SideChooser(services, side) for side in SIDES}
        self.views = {side: TranscriptView(services, marks=True) for side in SIDES}
        self.strip = PairStrip()
        self.splitter = QSplitter(Qt.Orientation.Horizontal, childrenCollapsible=False)
        self._line = QFrame(frameShape=QFrame.Shape.HLine, frameShadow=QFrame.Shadow.Plain)
        self._chosen = False
        """A person has chosen settings of a side; until then they follow the chat's."""
        for side in SIDES:
            self._build_side(side)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        layout.addWidget(self.splitter, 1)
        layout.addWidget(self._line)
        layout.addWidget(self.strip)
        self._connect()
        services.bus.adapter_changed.connect(self._show_adapter)
        services.theme.changed.connect(self._tint)
        self._tint()
        self._show_adapter()

    def _build_side(self, side: str) -> None:
        pane = QWidget()
        pane.setAccessibleName(f"Side {side}")
        column = QVBoxLayout(pane)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        self.views[side].setAccessibleName(f"Transcript of side {side}")
        self.views[side].setObjectName("chat.transcript")
        column.addWidget(self.choosers[side])
        column.addWidget(self.views[side], 1)
        self.splitter.addWidget(pane)

    def _connect(self) -> None:
        control = self.controller
        control.conversation_changed.connect(self._on_conversation)
        control.reply_started.connect(self._on_started)
        control.streamed.connect(self._on_streamed)
        control.working.connect(self._on_working)
        control.reply_finished.connect(self._on_finished)
        control.progressed.connect(self._show_progress)
        control.compared.connect(self._on_compared)
        control.side_failed.connect(self._on_side_failed)
        control.changed.connect(self._on_changed)
        self.strip.keep_wanted.connect(self.keep_wanted)
        self.strip.show_wanted.connect(self._show_marks)
        for side, view in self.views.items():
            view.edit_wanted.connect(partial(control.edit, side))
            view.version_wanted.connect(partial(control.choose, side))
            view.regenerate_wanted.connect(control.regenerate)
            view.retry_wanted.connect(control.regenerate)
            view.link_wanted.connect(self.link_wanted)
            view.example_chosen.connect(self.example_chosen)
            self.choosers[side].changed.connect(partial(self._on_settings, side))

    @Slot(str, object)
    def _on_conversation(self, side: str, conversation: Any) -> None:
        self.views[side].show_conversation(conversation)

    @Slot(str, str)
    def _on_streamed(self, side: str, text: str) -> None:
        self.views[side].append(text)

    @Slot(str, str)
    def _on_working(self, side: str, text: str) -> None:
        self.views[side].set_working(text)

    @Slot(str, object)
    def _on_finished(self, side: str, conversation: Any) -> None:
        self.views[side].finish_reply(conversation)

    @Slot(str, object)
    def _on_side_failed(self, side: str, failure: JobFailure) -> None:
        self.views[side].show_failure(failure)

    @Slot()
    def _on_started(self) -> None:
        name = getattr(getattr(self._services.session, "model", None), "name", "Model")
        for view in self.views.values():
            view.begin_reply(name)
        self._show_progress()

    def begin(self, conversation: Any) -> None:
        """Compare from this conversation on, with the settings that were chosen, else with the chat's and others."""
        if not self._chosen:
            weights = getattr(self._services.session, "quantization_config", None)
            for side, settings in zip(SIDES, first_settings(self._services.runtime.cache, weights), strict=True):
                self.controller.settings[side] = settings
                self.choosers[side].show_settings(settings)
        self.controller.begin(conversation)

    def _on_settings(self, side: str, settings: SideSettings) -> None:
        self._chosen = True
        self.controller.settings[side] = settings

    @Slot()
    def _on_changed(self) -> None:
        busy = self.controller.generating
        for chooser in self.choosers.values():
            chooser.setEnabled(not busy)
        last = self.controller.last
        self.strip.point_out(last is not None and last.first_difference is not None)
        self.strip.offer(() if busy else [side for side in SIDES if self._answered(side)])
        if self.controller.last is None and not busy:
            self._show_figures()

    @Slot(bool)
    def set_usable(self, usable: bool) -> None:
        """Whether messages can be edited and replies asked for again."""
        for view in self.views.values():
            view.set_usable(usable)

    @Slot()
    def _show_marks(self) -> None:
        for view in self.views.values():
            view.show_mark()

    def follow(self) -> None:
        """Both transcripts to their ends."""
        for view in self.views.values():
            view.follow()

    # ---- figures -----------------------------------------------------------------------------------------------------

    @Slot()
    def _show_progress(self) -> None:
        streams, settings = self.controller.streams, self.controller.settings
        found = []
        for side in SIDES:
            stream, cached = streams[side], settings[side].cache.use_cache
            found.append(Figures(stream.speed, stream.first_ms, stream.cache_bytes if cached and stream.ids else None, cached))
        self.strip.show_figures(*found)
        parted, both = self.controller.parted_at, self.controller.identical
        self.strip.say(sameness(both or 0, parted, None, running=True))

    @Slot(object)
    def _on_compared(self, reply: Any) -> None:
        self._show_figures()
        silent = [side for side in SIDES if not self._answered(side)]
        if silent and not reply.compared:
            self.strip.say(f"Side {' and '.join(silent)} gave no reply to compare.")
            return
        broken = any(one is None or one.result.stop_reason == "stopped" for one in (reply.a, reply.b))
        said = sameness(reply.compared, reply.first_difference, reply.logprob_difference, broken=broken)
        a, b = (self.controller.settings[side].cache for side in SIDES)
        both_exact = a != b and set(reply.exact) == set(SIDES)
        self.strip.say(f"{said}. So few tokens are kept exact by both caches." if both_exact and said else said)

    def _answered(self, side: str) -> bool:
        """A side has a reply to the newest message."""
        shown = self.controller.conversations[side].shown
        return self.controller.last is not None and bool(shown) and shown[-1].role == "assistant"

    def _show_figures(self) -> None:
        """Of the newest replies that are shown."""
        found = []
        for side in SIDES:
            shown = self.controller.conversations[side].shown
            found.append(Figures.of(shown[-1].figures) if self._answered(side) else Figures(cached=self._cached(side)))
        self.strip.show_figures(*found)
        if self.controller.last is None:
            self.strip.say("Both sides answer the next message, a token of each in turn.")

    def _cached(self, side: str) -> bool:
        return self.controller.settings[side].cache.use_cache

    @Slot()
    def _show_adapter(self, _news: object = None) -> None:
        there = getattr(self._services.session, "adapter", None) is not None
        for chooser in self.choosers.values():
            chooser.show_adapter(there)

    # ---- looks -------------------------------------------------------------------------------------------------------

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        narrow = self.width() < STACKED_BELOW * self.fontMetrics().height() / 15
        wanted = Qt.Orientation.Vertical if narrow else Qt.Orientation.Horizontal
        if wanted != self.splitter.orientation():
            self.splitter.setOrientation(wanted)
        if event.oldSize().width() != event.size().width():
            self.splitter.setSizes([1000, 1000])

    @Slot()
    def _tint(self) -> None:
        c = self._services.theme.colours
        self._line.setStyleSheet(f"color: {c.border};")
        self.splitter.setStyleSheet(f"QSplitter::handle {{ background: {c.border}; }}")
        self.splitter.setHandleWidth(1)
