"""The command palette: every command, found by a few of its letters."""

from __future__ import annotations

from typing import Any, Final

from PySide6.QtCore import QEvent, QModelIndex, QObject, QPersistentModelIndex, QRect, QSize, Qt, Slot
from PySide6.QtGui import QFont, QKeyEvent, QPainter, QPaintEvent, QPalette, QStandardItem, QStandardItemModel
from PySide6.QtWidgets import QDialog, QFrame, QLineEdit, QListView, QStyle, QStyledItemDelegate, QStyleOptionViewItem, QVBoxLayout, QWidget

from ui.actions import ActionRegistry, Command
from ui.theme import MEDIUM, SMALL, Theme


def match(query: str, text: str) -> int | None:
    """How well the letters of `query` occur in order in `text`: lower is better, None when they do not.

    Starts of words and unbroken runs count most, so that "rl" finds "Reset layout" before "Larger text".
    """
    wanted, lowered = query.lower().replace(" ", ""), text.lower()
    if not wanted:
        return len(text)
    size, never = len(lowered), 10**6
    before = [never] * size  # cost of the letters so far when the last of them stands at this place
    for n, letter in enumerate(wanted):
        now, gap = [never] * size, 0 if n == 0 else never
        for j in range(size):
            gap = min(gap, before[j - 2]) if n and j >= 2 else gap
            if lowered[j] == letter:
                starts_word = j == 0 or not lowered[j - 1].isalnum()
                now[j] = min(gap + (1 if starts_word else 4), before[j - 1] if n and j else never)
        before = now
    cost = min(before, default=never)
    return None if cost >= never else cost * 100 + size


MENU_COST: Final = 2_000


class _Row(QStyledItemDelegate):
    """Text left, shortcut right, the reason of a disabled command below."""

    def __init__(self, theme: Theme, parent: QObject) -> None:
        super().__init__(parent)
        self._theme = theme

    def sizeHint(self, option: QStyleOptionViewItem, index: QModelIndex | QPersistentModelIndex) -> QSize:
        command: Command = index.data(Qt.ItemDataRole.UserRole)
        lines = 2 if command.reason else 1
        return QSize(200, option.fontMetrics.height() * lines + 2 * SMALL + 2)

    def paint(self, painter: QPainter, option: QStyleOptionViewItem, index: QModelIndex | QPersistentModelIndex) -> None:
        command: Command = index.data(Qt.ItemDataRole.UserRole)
        style: Any = option
        self.initStyleOption(style, index)
        selected = bool(style.state & QStyle.StateFlag.State_Selected)
        c = self._theme.colours
        painter.save()
        painter.fillRect(style.rect, style.palette.color(QPalette.ColorRole.Highlight) if selected else style.palette.base())
        inner = style.rect.adjusted(MEDIUM, SMALL, -MEDIUM, -SMALL)
        line = QRect(inner.left(), inner.top(), inner.width(), style.fontMetrics.height())
        quiet = c.on_accent if selected else c.muted
        icon = command.icon()
        if not icon.isNull() and not selected:
            icon.paint(painter, QRect(line.left(), line.top(), line.height(), line.height()))
        text = line.adjusted(line.height() + MEDIUM, 0, 0, 0)
        painter.setPen(quiet if command.reason else (c.on_accent if selected else c.text))
        painter.drawText(text, Qt.AlignmentFlag.AlignVCenter, index.data())
        painter.setPen(quiet)
        painter.drawText(text, Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignRight, command.keys)
        if command.reason:
            below = text.translated(0, line.height())
            small = QFont(style.font)
            small.setPointSizeF(style.font.pointSizeF() * 0.9)
            painter.setFont(small)
            painter.drawText(below, Qt.AlignmentFlag.AlignVCenter, f"Not now: {command.reason}")
        painter.restore()


class CommandPalette(QDialog):
    """Type, choose with the arrow keys, Enter runs it, Esc leaves."""

    def __init__(self, actions: ActionRegistry, theme: Theme, parent: QWidget) -> None:
        super().__init__(parent, Qt.WindowType.Dialog | Qt.WindowType.FramelessWindowHint)
        self.setObjectName("palette")
        self.setAccessibleName("Command palette")
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self._actions = actions
        self._was_active = False
        self._model = QStandardItemModel(self)
        self.filter = QLineEdit(placeholderText="Type a command…", clearButtonEnabled=True)
        self.filter.setAccessibleName("Command to look for")
        self.filter.textChanged.connect(self._refill)
        self.filter.installEventFilter(self)
        self.list = QListView()
        self.list.setModel(self._model)
        self.list.setAccessibleName("Commands found")
        self.list.setItemDelegate(_Row(theme, self.list))
        self.list.setFrameShape(QFrame.Shape.NoFrame)
        self.list.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.list.activated.connect(self._run)
        self.list.clicked.connect(self._run)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(MEDIUM, MEDIUM, MEDIUM, MEDIUM)
        layout.setSpacing(MEDIUM)
        layout.addWidget(self.filter)
        layout.addWidget(self.list)
        self._refill("")

    def open_over(self, window: QWidget) -> None:
        """Show below the middle of `window`'s upper edge."""
        self.resize(min(560, window.width() - 32), min(440, window.height() - 96))
        corner = window.mapToGlobal(window.rect().topLeft())
        self.move(corner.x() + (window.width() - self.width()) // 2, corner.y() + 56)
        self.show()
        self.activateWindow()
        self.filter.setFocus(Qt.FocusReason.PopupFocusReason)

    def changeEvent(self, event: QEvent) -> None:
        super().changeEvent(event)
        if event.type() == QEvent.Type.ActivationChange and self._was_active and not self.isActiveWindow():
            self.close()  # a click elsewhere
        self._was_active = self.isActiveWindow()

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        painter.setPen(self.palette().color(QPalette.ColorRole.Mid))
        painter.drawRect(self.rect().adjusted(0, 0, -1, -1))

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        if isinstance(event, QKeyEvent) and event.type() == QEvent.Type.KeyPress:
            steps = {Qt.Key.Key_Down: 1, Qt.Key.Key_Up: -1, Qt.Key.Key_PageDown: 8, Qt.Key.Key_PageUp: -8}
            if event.key() in steps:
                self._select(self.list.currentIndex().row() + steps[Qt.Key(event.key())])
                return True
            if event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter):
                self._run(self.list.currentIndex())
                return True
        return super().eventFilter(watched, event)

    @Slot(str)
    def _refill(self, query: str) -> None:
        found = [(_score(query, c), n, c) for n, c in enumerate(self._actions) if c.info.id != "app.palette"]
        ordered = sorted((bool(c.reason), score if query else 0, n) for score, n, c in found if score is not None)
        commands = list(self._actions)
        self._model.clear()
        for _, _, number in ordered:
            command = commands[number]
            item = QStandardItem(_text(command))
            item.setEditable(False)
            item.setData(command, Qt.ItemDataRole.UserRole)
            item.setToolTip(command.toolTip())
            item.setAccessibleText(f"{_text(command)} {command.keys} {command.reason}".strip())
            self._model.appendRow(item)
        self._select(0)

    def _select(self, row: int) -> None:
        row = max(0, min(row, self._model.rowCount() - 1))
        self.list.setCurrentIndex(self._model.index(row, 0))

    @Slot(QModelIndex)
    def _run(self, index: QModelIndex) -> None:
        command = index.data(Qt.ItemDataRole.UserRole) if index.isValid() else None
        if command is not None and command.isEnabled():
            self.close()
            command.trigger()


def _score(query: str, command: Command) -> int | None:
    """A command's own words count before the name of its menu."""
    own = match(query, command.info.plain_text)
    if own is not None:
        return own
    whole = match(query, _text(command))
    return None if whole is None else whole + MENU_COST


def _text(command: Command) -> str:
    menu = command.info.menu.split("/")[-1]
    return f"{menu}: {command.info.plain_text}" if menu else command.info.plain_text
