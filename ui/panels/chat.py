"""The Chat panel: puts the parts of `ui.chat` together."""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from PySide6.QtCore import QUrl, Slot
from PySide6.QtGui import QDesktopServices, QGuiApplication
from PySide6.QtWidgets import QFileDialog, QFrame, QMessageBox, QVBoxLayout, QWidget

from ui.chat.composer import Composer
from ui.chat.controller import ChatController
from ui.chat.drawer import ChatDrawer
from ui.chat.header import ChatHeader
from ui.chat.view import TranscriptView, is_web_link
from ui.panels import PANELS, PanelPlace
from ui.services import Services
from ui.theme import Colours
from workbench.core.errors import WorkbenchError

if TYPE_CHECKING:
    from ui.pairing.view import PairView

CHATS_SHOWN: Final = 15
EXPORT_FILTER: Final = "Markdown (*.md);;JSON with every version (*.json)"


@PANELS.register(
    "chat",
    label="Chat",
    help="Talk to the loaded model: streaming replies with their speed, first-token time and cache memory.",
    place=PanelPlace("centre", order=10, icon="chat"),
)
class ChatPanel(QWidget):
    """Transcript and composer, a line of switches above, settings that fold away."""

    def __init__(self, services: Services) -> None:
        super().__init__()
        self._services = services
        self.controller = ChatController(services)
        self.header = ChatHeader(services)
        self.drawer = ChatDrawer()
        self.view = TranscriptView(services)
        self.composer = Composer(services)
        self.pair: PairView | None = None
        """The comparison, once there was one."""
        self._line = QFrame(frameShape=QFrame.Shape.HLine, frameShadow=QFrame.Shadow.Plain)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        for part, stretch in ((self.header, 0), (self.drawer, 0), (self._line, 0), (self.view, 1), (self.composer, 0)):
            layout.addWidget(part, stretch)
        self.drawer.hide()
        self.destroyed.connect(self.controller.deleteLater)
        self._connect()
        self._bind()
        services.theme.changed.connect(self._tint)
        self._tint(services.theme.colours)
        if self.controller.chat is not None:
            self._on_restored(self.controller.chat)
            self.view.show_conversation(self.controller.conversation)
        self._show_state()

    def _connect(self) -> None:
        control, view, bus = self.controller, self.view, self._services.bus
        control.conversation_changed.connect(self._on_conversation)
        control.reply_started.connect(self._on_reply_started)
        control.streamed.connect(view.append)
        control.working.connect(view.set_working)
        control.reply_finished.connect(self._on_reply_finished)
        control.failed.connect(view.show_failure)
        control.changed.connect(self._show_state)
        control.restored.connect(self._on_restored)
        view.edit_wanted.connect(control.edit)
        view.version_wanted.connect(control.choose)
        view.regenerate_wanted.connect(control.regenerate)
        view.retry_wanted.connect(control.regenerate)
        view.link_wanted.connect(self.ask_about_link)
        view.example_chosen.connect(control.send)
        self.composer.send_wanted.connect(self._send)
        self.composer.stop_wanted.connect(self._stop)
        self.composer.edit_last_wanted.connect(self._edit_last)
        self.header.compare_toggled.connect(self._compare)
        self.header.settings_toggled.connect(self.drawer.setVisible)
        self.header.new_wanted.connect(self._new)
        self.header.chats_wanted.connect(self._fill_chats)
        self.drawer.system_changed.connect(control.set_system)
        self.drawer.generation_changed.connect(control.set_generation)
        bus.adapter_changed.connect(self._show_adapters)
        self._services.models.changed.connect(self._show_state)
        self._services.runtime.changed.connect(self._show_meter)

    def _bind(self) -> None:
        bind = self._services.actions.bind
        bind("chat.new", self._new)
        bind("chat.export", self._ask_where_to_export)
        bind("chat.regenerate", self._regenerate)
        bind("chat.copy_reply", self._copy_reply)
        bind("chat.compare", self.header.compare_button.setChecked)

    @property
    def last_reply_text(self) -> str:
        """The newest reply that is shown; empty before the first."""
        from ui.chat.transcript import last_reply

        turn = last_reply(self._conversation) if self.controller.chat is not None else None
        return turn.content if turn is not None else ""

    # ---- two settings side by side -----------------------------------------------------------------------------------

    @property
    def _comparing(self) -> PairView | None:
        """The comparison while it is on screen."""
        return self.pair if self.pair is not None and self.view.isHidden() else None

    @property
    def _conversation(self) -> Any:
        """What is on screen; of a comparison, side A."""
        return self.controller.conversation if self._comparing is None else self._comparing.controller.conversations["A"]

    @Slot(bool)
    def _compare(self, on: bool) -> None:
        """Split into two sides, or be one chat again."""
        if on == (self._comparing is not None) or self.controller.chat is None:
            return
        if on:
            pair = self._made_pair()
            self.view.hide()
            pair.show()
            pair.begin(self.controller.conversation)
        else:
            assert self.pair is not None
            self.pair.hide()
            self.view.show()
            self._services.engine.end_pair()
        self.header.show_comparing(on)
        self._services.actions["chat.compare"].setChecked(on)
        self._show_state()
        self.composer.edit.setFocus()

    def _made_pair(self) -> PairView:
        if self.pair is None:
            from ui.pairing.view import PairView  # the engine's types: any earlier would import torch

            self.pair = PairView(self._services)
            layout = self.layout()
            assert isinstance(layout, QVBoxLayout)
            layout.insertWidget(layout.indexOf(self.view), self.pair, 1)
            stops = [*self.pair.strip.keep.values(), self.composer.edit, self.composer.help_button, self.composer.send_button]
            for one, next_one in pairwise(stops):  # made last, its parts would come after the composer
                self.setTabOrder(one, next_one)
            self.pair.controller.changed.connect(self._show_state)
            self.pair.link_wanted.connect(self.ask_about_link)
            self.pair.example_chosen.connect(self._send)
            self.pair.keep_wanted.connect(self._keep)
        return self.pair

    @Slot(str)
    def _keep(self, side: str) -> None:
        """End the comparison and go on with one side's conversation."""
        if self.pair is not None and not self.pair.controller.generating:
            conversation = self.pair.controller.conversations[side]
            self.header.compare_button.setChecked(False)
            self.controller.go_on_with(conversation)

    # ---- asked by people ---------------------------------------------------------------------------------------------

    @Slot(str)
    def _send(self, text: str) -> None:
        pair = self._comparing
        if pair is None:
            if self.controller.send(text):
                self.composer.take()
                self.view.follow()
        elif not self.controller.obstacle():
            pair.controller.generation = self.controller.generation
            pair.controller.system = self.controller.conversation.system
            if pair.controller.send(text):
                self.composer.take()
                pair.follow()

    @Slot()
    def _stop(self) -> None:
        (self.controller if self._comparing is None else self._comparing.controller).stop()

    @Slot()
    def _regenerate(self) -> None:
        if self._comparing is None:
            self.controller.regenerate()
        elif not self.controller.obstacle():
            self._comparing.controller.regenerate()

    @Slot()
    def _edit_last(self) -> None:
        (self.view if self._comparing is None else self._comparing.views["A"]).edit_last()

    @Slot()
    def _new(self) -> None:
        self.controller.new()
        self.composer.edit.setFocus()

    @Slot()
    def _copy_reply(self) -> None:
        QGuiApplication.clipboard().setText(self.last_reply_text)

    @Slot()
    def _ask_where_to_export(self) -> None:
        dialog = QFileDialog(self.window(), "Export the chat", "chat.md", EXPORT_FILTER)
        dialog.setAcceptMode(QFileDialog.AcceptMode.AcceptSave)
        dialog.setDefaultSuffix("md")
        dialog.filterSelected.connect(lambda chosen: dialog.setDefaultSuffix("json" if "json" in chosen else "md"))
        dialog.fileSelected.connect(self._export)
        dialog.open()

    @Slot(str)
    def _export(self, path: str) -> None:
        self.controller.export(Path(path))

    @Slot(object)
    def ask_about_link(self, url: QUrl) -> QMessageBox | None:
        """A model may write any address: the person sees all of it before a browser does. Local files are never opened."""
        if not is_web_link(url):
            self._services.notify.warning(f"The link {url.toString()} was not opened.", "Only web addresses are.", source="chat")
            return None
        box = QMessageBox(self.window())
        box.setIcon(QMessageBox.Icon.Question)
        box.setWindowTitle("Open a link")
        box.setText("Open this address in the browser?")
        box.setInformativeText(url.toString())
        go = box.addButton("&Open", QMessageBox.ButtonRole.AcceptRole)
        stay = box.addButton(QMessageBox.StandardButton.Cancel)
        box.setDefaultButton(stay)
        go.clicked.connect(lambda _checked=False: QDesktopServices.openUrl(url))
        box.finished.connect(box.deleteLater)
        box.open()
        return box

    @Slot()
    def _fill_chats(self) -> None:
        from ui.chat.transcript import Chat, title_of

        menu = self.header.chats_menu
        menu.clear()
        for path in self.controller.files()[:CHATS_SHOWN]:
            try:
                title = title_of(Chat.read(path).conversation)
            except WorkbenchError:
                continue
            action = menu.addAction(title.replace("&", "&&"))
            action.setCheckable(True)
            action.setChecked(path == self.controller.path)
            action.triggered.connect(partial(self._open_chat, path))
        if menu.isEmpty():
            menu.addAction("No saved chats yet").setEnabled(False)

    def _open_chat(self, path: Path, _checked: bool = False) -> None:
        self.controller.open(path)

    # ---- news --------------------------------------------------------------------------------------------------------

    @Slot(object)
    def _on_restored(self, chat: Any) -> None:
        self.drawer.show_chat(chat.conversation.system, chat.generation)
        self.header.engine_is_there()
        self._show_adapters(None)

    @Slot(object)
    def _on_conversation(self, conversation: Any) -> None:
        self.view.show_conversation(conversation)
        if self._comparing is not None:
            self._comparing.controller.begin(conversation)
        self._show_meter()

    @Slot()
    def _on_reply_started(self) -> None:
        self.view.begin_reply(getattr(self.controller.model, "name", "Model"))

    @Slot(object)
    def _on_reply_finished(self, conversation: Any) -> None:
        self.view.finish_reply(conversation)
        self._show_meter()

    @Slot(object)
    def _show_adapters(self, adapters: Any) -> None:
        if adapters is None:
            one = getattr(self._services.session, "adapter", None)
            adapters = (one,) if one is not None else ()
        self.header.show_adapters(tuple(adapters))

    @Slot()
    def _show_meter(self, _news: object = None) -> None:
        if self.controller.chat is None:
            return
        from ui.chat.transcript import tokens_used
        from workbench.caches import STOP

        model = self.controller.model
        total = getattr(model, "context", None)
        cache = self._services.runtime.cache
        if total is not None and cache.use_cache and cache.capacity:
            total = min(total, cache.capacity)
        goes_on = cache.use_cache and cache.overflow != STOP
        self.header.meter.show_use(tokens_used(self._conversation), total, goes_on)

    @Slot()
    def _show_state(self, _news: object = None) -> None:
        control, actions = self.controller, self._services.actions
        obstacle = control.obstacle()
        text, action = self._way_out(obstacle)
        pair = self._comparing
        writer = control if pair is None else pair.controller
        self.composer.set_state(obstacle, writer.generating, writer.stopping, text, action)
        (self.view if pair is None else pair).set_usable(not writer.generating and not obstacle)
        for button in (self.header.new_button, self.header.chats_button, self.header.compare_button):
            button.setEnabled(control.chat is not None and not writer.generating)
        turns = bool(control.chat is not None and self._conversation.shown)
        busy = "A reply is being written." if writer.generating else ""
        empty = "" if turns else "There is no message yet."
        reply = "" if self.last_reply_text else "There is no reply yet."
        for id, reason in (
            ("chat.new", busy or ("" if control.chat is not None else obstacle)),
            ("chat.export", empty if pair is None else "Go on with one side first."),
            ("chat.regenerate", busy or obstacle or empty),
            ("chat.copy_reply", reply),
            ("chat.compare", busy or ("" if control.chat is not None else obstacle)),
        ):
            if actions[id].isEnabled() != (not reason) or actions[id].reason != reason:
                actions.allow(id, not reason, reason)
        self._show_meter()

    def _way_out(self, obstacle: str) -> tuple[str, str]:
        """A button's words and the command it triggers, when one helps."""
        models = self._services.models
        if not obstacle or self.controller.chat is None or self.controller.model is not None or models.activity.busy:
            return "", ""
        if models.library.starter_installed:
            return "Load the starter model", "model.fetch_starter"
        return "Get the starter model", "model.fetch_starter"

    @Slot(object)
    def _tint(self, colours: Colours) -> None:
        self._line.setStyleSheet(f"color: {colours.border};")
