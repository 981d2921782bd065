"""The menu of named architectures: by lineage, each with its size; to show one, or to compare with one."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from PySide6.QtGui import QAction, QActionGroup
from PySide6.QtWidgets import QMenu, QWidget

from workbench.core.format import count_text
from workbench.model import PRESETS


class PresetsMenu(QMenu):
    """`show_preset(name)` puts one into the form; `compare_with(name)` prices against one ("" the loaded model);
    `side_by_side()` opens the page that lays architectures beside each other."""

    def __init__(
        self,
        parent: QWidget,
        show_preset: Callable[[str], None],
        compare_with: Callable[[str], None],
        side_by_side: Callable[[], None],
    ) -> None:
        super().__init__(parent)
        self.setToolTipsVisible(True)
        self._lineages(self, show_preset)
        self.addSeparator()
        compare = self.addMenu("Differences against")
        compare.setToolTipsVisible(True)
        self._group = QActionGroup(compare)
        home = compare.addAction("The loaded model")
        home.triggered.connect(partial(_call, compare_with, ""))
        self._mark(home, "")
        compare.addSeparator()
        for action, name in self._lineages(compare, compare_with):
            self._mark(action, name)
        self.select("")
        self.addAction("Compare side by side…").triggered.connect(partial(_call, side_by_side))

    def _mark(self, action: QAction, name: str) -> None:
        action.setCheckable(True)
        action.setData(name)
        self._group.addAction(action)

    def _lineages(self, menu: QMenu, chosen: Callable[[str], None]) -> list[tuple[QAction, str]]:
        """A submenu for each lineage, in the order in which they are registered."""
        found = []
        menus: dict[str, QMenu] = {}
        for preset in PRESETS.values():
            if preset.family not in menus:
                menus[preset.family] = menu.addMenu(preset.family)
                menus[preset.family].setToolTipsVisible(True)
            action = menus[preset.family].addAction(f"{preset.label}\t{count_text(preset.parameters)}")
            action.setToolTip(f"{preset.help} {preset.source} ({preset.year})")
            action.triggered.connect(partial(_call, chosen, preset.name))
            found.append((action, preset.name))
        return found

    def select(self, name: str) -> None:
        """Tick what is compared with; "" is the loaded model."""
        next(a for a in self._group.actions() if a.data() == name).setChecked(True)

    def name_home(self, words: str) -> None:
        """What the first entry of the comparison is called now."""
        self._group.actions()[0].setText(words)


def _call(what: Callable[..., None], *arguments: object) -> None:
    """For `triggered`, whose own argument nobody wants."""
    what(*(a for a in arguments if not isinstance(a, bool)))
