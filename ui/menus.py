"""The menu bar, made from the commands: one menu per word, submenus by path, separators between groups."""

from __future__ import annotations

from PySide6.QtCore import QObject, QTimer, Slot
from PySide6.QtWidgets import QMenu, QMenuBar

from ui.actions import MENUS, ActionRegistry, Command


class Menus(QObject):
    """Keeps the menus in step with the registry; additions of one round are drawn together."""

    def __init__(self, bar: QMenuBar, actions: ActionRegistry) -> None:
        super().__init__(bar)
        self._bar = bar
        self._actions = actions
        self._menus: dict[str, QMenu] = {}
        for name in MENUS:
            self._menu(name)
        self._soon = QTimer(self, singleShot=True, interval=0)
        self._soon.timeout.connect(self.rebuild)
        actions.added.connect(self._soon.start)
        self.rebuild()

    def _menu(self, path: str) -> QMenu:
        if path not in self._menus:
            parent, _, name = path.rpartition("/")
            host = self._menu(parent) if parent else self._bar
            menu = QMenu(f"&{name}", host)
            menu.setObjectName(f"menu.{path}")
            menu.setToolTipsVisible(True)
            self._menus[path] = menu
            if not parent:
                self._bar.addMenu(menu)
        return self._menus[path]

    @Slot()
    def rebuild(self) -> None:
        """Put every command into its menu again."""
        for command in self._actions:
            if command.info.menu:
                self._menu(command.info.menu)
        for path, menu in self._menus.items():
            self._fill(path, menu)

    def _fill(self, path: str, menu: QMenu) -> None:
        menu.clear()
        for child, submenu in self._menus.items():
            if child.rpartition("/")[0] == path:
                menu.addMenu(submenu)
        if menu.actions():
            menu.addSeparator()
        group: int | None = None
        for command in sorted(self._of(path), key=lambda c: c.info.group):
            if group is not None and command.info.group != group:
                menu.addSeparator()
            group = command.info.group
            menu.addAction(command)

    def _of(self, path: str) -> list[Command]:
        return [c for c in self._actions if c.info.menu == path]
