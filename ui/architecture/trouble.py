"""What keeps an architecture from being built, above its settings."""

from __future__ import annotations

from html import escape

from PySide6.QtCore import QEvent, Qt, Signal, Slot
from PySide6.QtWidgets import QLabel, QSizePolicy

from ui.widgets.tones import colours_of
from workbench.core.fields import Problem


class Trouble(QLabel):
    """Hidden while all is well. The link leads to the field."""

    wanted = Signal(str)
    """The (dotted) field a person wants to be brought to."""

    def __init__(self) -> None:
        super().__init__(wordWrap=True, textFormat=Qt.TextFormat.RichText)
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Minimum)
        self.setTextInteractionFlags(Qt.TextInteractionFlag.LinksAccessibleByMouse | Qt.TextInteractionFlag.LinksAccessibleByKeyboard)
        self.linkActivated.connect(self._follow)
        self._problems: list[Problem] = []
        self.hide()

    def show_problems(self, problems: list[Problem]) -> None:
        """The first one in full, and how many more there are."""
        self._problems = problems
        more = f" And {len(problems) - 1} more." if len(problems) > 1 else ""
        words = f"Cannot be built: {problems[0]}{more}" if problems else ""
        self.setText(f'{escape(words)} <a href="0">Show</a>' if problems else "")
        self.setAccessibleName(words)
        self.setVisible(bool(problems))
        self._tint()

    @property
    def words(self) -> str:
        """What is said, without the link."""
        return self.accessibleName()

    @Slot(str)
    def _follow(self, _link: str) -> None:
        self.wanted.emit(self._problems[0].field)

    def changeEvent(self, event: QEvent) -> None:
        super().changeEvent(event)
        if event.type() == QEvent.Type.PaletteChange:
            self._tint()

    def _tint(self) -> None:
        sheet = f"color: {colours_of(self).error};"
        if sheet != self.styleSheet():
            self.setStyleSheet(sheet)
