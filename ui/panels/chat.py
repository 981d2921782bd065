"""The Chat panel: puts the parts of `ui.chat` together."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, Final

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
        self.composer.stop_wanted.connect(control.stop)
        self.composer.edit_last_wanted.connect(view.edit_last)
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
        bind("chat.regenerate", self.controller.regenerate)
        bind("chat.copy_reply", self._copy_reply)

    @property
    def last_reply_text(self) -> str:
        """The newest reply that is shown; empty before the first."""
        from ui.chat.transcript import last_reply

        turn = last_reply(self.controller.conversation) if self.controller.chat is not None else None
        return turn.content if turn is not None else ""

    # ---- asked by people ---------------------------------------------------------------------------------------------

    @Slot(str)
    def _send(self, text: str) -> None:
        if self.controller.send(text):
            self.composer.take()
            self.view.follow()

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

        model = self.controller.model
        total = getattr(model, "context", None)
        cache = self._services.runtime.cache
        if total is not None and cache.use_cache and cache.capacity:
            total = min(total, cache.capacity)
        self.header.meter.show_use(tokens_used(self.controller.conversation), total)

    @Slot()
    def _show_state(self, _news: object = None) -> None:
        control, actions = self.controller, self._services.actions
        obstacle = control.obstacle()
        text, action = self._way_out(obstacle)
        self.composer.set_state(obstacle, control.generating, control.stopping, text, action)
        self.view.set_usable(not control.generating and not obstacle)
        self.header.new_button.setEnabled(control.chat is not None and not control.generating)
        self.header.chats_button.setEnabled(control.chat is not None and not control.generating)
        turns = bool(control.chat is not None and control.conversation.shown)
        busy = "A reply is being written." if control.generating else ""
        empty = "" if turns else "There is no message yet."
        reply = "" if self.last_reply_text else "There is no reply yet."
        for id, reason in (
            ("chat.new", busy or ("" if control.chat is not None else obstacle)),
            ("chat.export", empty),
            ("chat.regenerate", busy or obstacle or empty),
            ("chat.copy_reply", reply),
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
