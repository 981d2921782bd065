"""Every command of the window in one list: menus, palette and the page of shortcuts are made from it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from PySide6.QtCore import QObject, Signal, Slot
from PySide6.QtGui import QAction, QKeySequence

from ui import icons
from ui.theme import Theme

MENUS: Final = ("File", "Edit", "View", "Model", "Run", "Help")


@dataclass(frozen=True)
class ActionInfo:
    """One command. `menu` may name a submenu ("View/Theme"); a separator is drawn between groups. `idle` is the reason shown
    until something is bound to it."""

    id: str
    text: str
    tooltip: str
    menu: str = ""
    group: int = 0
    shortcut: tuple[str, ...] = ()
    icon: str = ""
    checkable: bool = False
    idle: str = "No panel of this window offers it."

    @property
    def plain_text(self) -> str:
        """The text without its mnemonic and dots."""
        return self.text.replace("&", "").rstrip("…")


_CHAT = "The chat is not open."
STANDARD: Final = (
    ActionInfo("model.open_file", "&Open GGUF file…", "Load a model from a .gguf file.", "File", 0, ("Ctrl+O",), "file"),
    ActionInfo("model.open_folder", "Open model &folder…", "Load a model from a folder in transformers' or our own format.", "File", 0,
               ("Ctrl+Shift+O",), "folder"),
    ActionInfo("chat.new", "&New chat", "Start an empty conversation.", "File", 1, ("Ctrl+N",), "add", idle=_CHAT),
    ActionInfo("chat.export", "&Export chat…", "Save the conversation as Markdown or JSON.", "File", 1, ("Ctrl+Shift+E",), "export",
               idle=_CHAT),
    ActionInfo("app.quit", "&Quit", "Close the window; running work is asked about first.", "File", 9, ("Ctrl+Q",)),
    ActionInfo("chat.regenerate", "&Regenerate reply", "Answer the last message once more; the old reply is kept.", "Edit", 0,
               ("Ctrl+Return", "Ctrl+Enter"), "refresh", idle=_CHAT),
    ActionInfo("chat.copy_reply", "&Copy last reply", "Put the newest reply on the clipboard.", "Edit", 0, ("Ctrl+Shift+C",), "copy",
               idle=_CHAT),
    ActionInfo("chat.compare", "Compare two settings (&A/B)", "Two settings answer each message side by side; again: one chat.", "Edit", 0,
               ("Ctrl+Shift+B",), checkable=True, idle=_CHAT),
    ActionInfo("app.palette", "Command &palette…", "Find any command by typing a few of its letters.", "Edit", 1, ("Ctrl+K",), "search"),
    ActionInfo("app.settings", "&Settings…", "Appearance, chat keys, device and threads.", "Edit", 1, ("Ctrl+,",), "settings"),
    ActionInfo("view.theme.system", "Like the desk&top", "Follow the desktop's light or dark setting.", "View/Theme", checkable=True),
    ActionInfo("view.theme.light", "&Light", "Dark text on a light ground.", "View/Theme", checkable=True),
    ActionInfo("view.theme.dark", "&Dark", "Light text on a dark ground.", "View/Theme", checkable=True),
    ActionInfo("view.theme.toggle", "&Switch light and dark", "Change to the other of the two themes.", "View/Theme", 1,
               ("Ctrl+Shift+D",), "theme"),
    ActionInfo("view.larger", "&Larger text", "Make all text one step larger.", "View", 2, ("Ctrl++", "Ctrl+=")),
    ActionInfo("view.smaller", "&Smaller text", "Make all text one step smaller.", "View", 2, ("Ctrl+-",)),
    ActionInfo("view.normal", "&Normal text size", "Text in the desktop's own size.", "View", 2, ("Ctrl+0",)),
    ActionInfo("view.reset", "&Reset layout", "Put every panel back where it was on the first start.", "View", 3),
    ActionInfo("view.full_screen", "&Full screen", "Use the whole screen, or go back.", "View", 3, ("F11",), checkable=True),
    ActionInfo("model.pick", "&Choose model…", "Go to the model picker.", "Model", 0, ("Ctrl+L",), "architecture",
               idle="The model panel is not open."),
    ActionInfo("run.start", "&Start run", "Start fine-tuning with the settings shown.", "Run", 0, ("Ctrl+R",), "play",
               idle="The fine-tune panel is not open."),
    ActionInfo("build.start", "Start &building", "Train a model from scratch with the settings of the Build page.", "Run", 0, ("Ctrl+B",),
               "play", idle="The Build page is not open."),
    ActionInfo("run.pause", "&Pause or resume", "Hold the run and free the machine, or go on with it.", "Run", 0,
               ("Ctrl+Shift+R",), "pause"),
    ActionInfo("run.stop", "S&top and save", "End the running work at its next step and keep what it has.", "Run", 0, ("Ctrl+.",), "stop"),
    ActionInfo("chat.stop", "Stop &generating", "End the reply here and keep its text.", "Run", 1, ("Esc",), "stop"),
    ActionInfo("help.field", "&Help on the focused field", "Explain the field that has the keyboard.", "Help", 0, ("F1",), "help"),
    ActionInfo("help.shortcuts", "&Keyboard shortcuts", "List every shortcut.", "Help", 0, ("Ctrl+/",)),
    ActionInfo("help.logs", "Open &log folder", "Show the folder with the log files.", "Help", 1, (), "folder"),
    ActionInfo("help.about", "&About", "Version, licence and what this program is built on.", "Help", 2, (), "info"),
)  # fmt: skip


class Command(QAction):
    """A `QAction` that knows its `info` and, when disabled, why (`reason`)."""

    def __init__(self, info: ActionInfo, parent: QObject) -> None:
        super().__init__(info.text, parent)
        self.info = info
        self.reason = ""
        self._callback: Callable[..., Any] | None = None
        self.setObjectName(info.id)
        self.setCheckable(info.checkable)
        self.setShortcuts([QKeySequence(s) for s in info.shortcut])
        self.triggered.connect(self._run)
        self.allow(False, info.idle)

    def bind(self, callback: Callable[..., Any]) -> None:
        """What happens; a checkable command calls it with its new state, any other with nothing. Enables the command."""
        self._callback = callback
        self.allow(True)

    def allow(self, enabled: bool, reason: str = "") -> None:
        """Enable, or disable with the reason that tooltip and palette show."""
        self.reason = "" if enabled else reason
        self.setEnabled(enabled)
        keys = f" ({self.keys})" if self.keys else ""
        tip = f"{self.info.tooltip}{keys}" if enabled else f"{self.info.tooltip}{keys}\nNot now: {reason}"
        self.setToolTip(tip)
        self.setStatusTip(self.info.tooltip if enabled else f"Not now: {reason}")

    @property
    def keys(self) -> str:
        """The first shortcut as people write it."""
        return self.shortcut().toString(QKeySequence.SequenceFormat.NativeText)

    @Slot(bool)
    def _run(self, checked: bool) -> None:
        if self._callback is not None:
            self._callback(checked) if self.info.checkable else self._callback()


class ActionRegistry(QObject):
    """The commands by id. Panels bind to the standard ones, or add their own."""

    added = Signal(object)
    """Command: the window puts it into its menu."""

    def __init__(self, theme: Theme, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._theme = theme
        self._commands: dict[str, Command] = {}
        for info in STANDARD:
            self._add(info)

    def add(
        self,
        id: str,
        text: str,
        callback: Callable[..., Any],
        *,
        tooltip: str,
        menu: str = "",
        group: int = 5,
        shortcut: str | tuple[str, ...] = (),
        icon: str = "",
        checkable: bool = False,
    ) -> Command:
        """A new command. `ValueError` when its id or a shortcut is taken: two actions with one shortcut would both be dead."""
        keys = (shortcut,) if isinstance(shortcut, str) and shortcut else tuple(shortcut)
        command = self._add(ActionInfo(id, text, tooltip, menu, group, keys, icon, checkable))
        command.bind(callback)
        return command

    def _add(self, info: ActionInfo) -> Command:
        if info.id in self._commands:
            raise ValueError(f"command {info.id!r} exists twice")
        taken = {k.toString(): c.info.id for c in self for k in c.shortcuts()}
        for key in info.shortcut:
            if QKeySequence(key).toString() in taken:
                raise ValueError(f"shortcut {key} of {info.id!r} belongs to {taken[QKeySequence(key).toString()]!r}")
        command = self._commands[info.id] = Command(info, self)
        if info.icon:
            icons.bind(command, info.icon, self._theme)
        self.added.emit(command)
        return command

    def bind(self, id: str, callback: Callable[..., Any], enabled: bool = True, reason: str = "") -> Command:
        """Give a standard command its meaning; the last one bound wins."""
        command = self[id]
        command.bind(callback)
        command.allow(enabled, reason)
        return command

    def allow(self, id: str, enabled: bool, reason: str = "") -> None:
        """Enable a command, or disable it and say why."""
        self[id].allow(enabled, reason)

    def __getitem__(self, id: str) -> Command:
        return self._commands[id]

    def __contains__(self, id: object) -> bool:
        return id in self._commands

    def __iter__(self) -> Iterator[Command]:
        return iter(self._commands.values())
