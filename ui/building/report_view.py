"""What the look at the data found, in words, and the first tokens as the model will see them."""

from __future__ import annotations

from html import escape
from typing import Any

from PySide6.QtCore import QEvent, Qt, Signal
from PySide6.QtWidgets import QHBoxLayout, QLabel, QSizePolicy, QToolButton, QVBoxLayout, QWidget

from ui import icons
from ui.theme import SMALL, Colours, Theme
from ui.training.check import Check
from ui.widgets.message import Message
from ui.widgets.section import CollapsibleSection
from ui.widgets.text import Muted, wrapping
from ui.widgets.tones import colours_of
from workbench.core.format import count_text

REASONS_SHOWN = 3


def figures(found: Any) -> str:
    """Tokens, windows and vocabulary of a `PretrainCheck`, a line each."""
    held = f", {found.held_out:,} to measure with" if found.held_out else ""
    return (
        f"{found.tokens:,} tokens of text in a vocabulary of {found.vocabulary:,}\n"
        f"{found.windows:,} windows of {found.length:,} tokens to train on{held}"
    )


def tokens_html(tokens: tuple[str, ...], c: Colours) -> str:
    """Each token on a ground of its own, so that its edges are seen; line ends and spaces are marked."""
    parts = []
    for number, token in enumerate(tokens):
        words = escape(token).replace(" ", "\N{NO-BREAK SPACE}").replace("\n", "↵<br>").replace("\t", "→")
        ground = c.info_surface if number % 2 else c.raised
        parts.append(f'<span style="background-color:{ground}; color:{c.text}">{words}</span>\N{ZERO WIDTH SPACE}')
    return f'<div style="white-space:pre-wrap">{"".join(parts)} <span style="color:{c.muted}">…</span></div>'


class ReportView(QWidget):
    """Follows a `Check`; shows nothing while there is nothing to say."""

    again = Signal()
    """A person wants the data to be read once more."""

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self._tokens: tuple[str, ...] = ()
        self.figures = wrapping(name="figures")
        self.refresh = QToolButton(autoRaise=True)
        self.refresh.setToolTip("Read the data once more, after a file was changed.")
        self.refresh.setAccessibleName("Check the data again")
        icons.bind(self.refresh, "refresh", theme)
        self.refresh.clicked.connect(self.again)
        self.notes = Muted()
        self.message = Message(theme)
        self.beginning = CollapsibleSection("How the text becomes tokens", expanded=False, quiet=True)
        self.tokens = QLabel(wordWrap=True, textFormat=Qt.TextFormat.RichText)
        self.tokens.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Minimum)
        self.tokens.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.beginning.body_layout.addWidget(self.tokens)
        line = QHBoxLayout(spacing=SMALL)
        line.addWidget(self.figures, 1)
        line.addWidget(self.refresh, 0, Qt.AlignmentFlag.AlignTop)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(SMALL + 2)
        layout.addLayout(line)
        layout.addWidget(self.notes)
        layout.addWidget(self.message)
        layout.addWidget(self.beginning)
        self.hide()

    def follow(self, check: Check) -> None:
        """Show how the check stands."""
        found, failure = check.found, check.failure
        self.setVisible(check.word != "none")
        checking = check.word == "checking"
        self.figures.setText(f"Reading the data… {check.progress}".strip() if checking else figures(found) if found is not None else "")
        self.figures.setVisible(checking or found is not None)
        self.refresh.setVisible(check.word in ("checked", "failed"))
        self.beginning.setVisible(found is not None and bool(found.beginning))
        if found is not None:
            self._tokens = found.beginning
            self._paint()
        if failure is not None:
            self.message.say("error", "The data cannot be used.", failure.message, failure.hint, failure.details)
        elif found is not None and found.problems:
            self._say_problems(found)
        self.notes.setText("" if found is None else "\n".join(found.notices))
        self.notes.setVisible(bool(self.notes.text()))
        self.message.setVisible(failure is not None or (found is not None and bool(found.problems)))

    def _say_problems(self, found: Any) -> None:
        count, first = len(found.problems), "\n".join(map(str, found.problems[:REASONS_SHOWN]))
        title = f"{count_text(count)} row{'s were' if count > 1 else ' was'} left out."
        self.message.say("warning", title, first, "", "\n".join(map(str, found.problems)))

    def changeEvent(self, event: QEvent) -> None:
        super().changeEvent(event)
        if event.type() == QEvent.Type.PaletteChange:
            self._paint()

    def _paint(self) -> None:
        self.tokens.setText(tokens_html(self._tokens, colours_of(self)) if self._tokens else "")
