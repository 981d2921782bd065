"""All about one setting, under its row: what it is, its equation and paper, who uses it, and what its alternatives cost here."""

from __future__ import annotations

import re
from collections.abc import Callable
from html import escape
from typing import Any, Final

from PySide6.QtCore import QEvent, Qt, QUrl, Signal, Slot
from PySide6.QtGui import QDesktopServices, QFont, QKeyEvent
from PySide6.QtWidgets import QFrame, QLabel, QSizePolicy, QToolButton, QVBoxLayout, QWidget

from ui import icons
from ui.architecture.alternatives import Alternative, alternatives, field_at
from ui.forms.help import bounds_text, plain_value
from ui.forms.row import FieldRow
from ui.theme import MEDIUM, SMALL, Theme, tabular
from ui.widgets.text import line_of, wrapping
from ui.widgets.tones import colours_of
from workbench.core.errors import ConfigError
from workbench.core.fields import FieldInfo, Option
from workbench.core.format import bytes_text, count_text
from workbench.core.registry import Choice
from workbench.model import Accounting

ARXIV: Final = re.compile(r"arXiv:(\d{4}\.\d{4,5})")
EXACT_UP_TO: Final = 10_000_000
MINUS: Final = "\N{MINUS SIGN}"
NOTHING: Final = "Choosing another value changes neither parameters nor cache nor FLOPs."


def linked(text: str) -> str:
    """Plain text as HTML whose arXiv numbers open the paper."""
    return ARXIV.sub(r'<a href="https://arxiv.org/abs/\1">arXiv:\1</a>', escape(text))


def signed(value: int, words: Callable[[float], str]) -> str:
    """ "+23,040", "−1.2 M", "=" for no difference."""
    if not value:
        return "="
    return f"{'+' if value > 0 else MINUS}{words(abs(value))}"


def exact_count(value: float) -> str:
    """All digits while they can be read at a glance."""
    return f"{int(value):,}" if abs(value) < EXACT_UP_TO else count_text(value)


class HelpCard(QFrame):
    """Lies under the row it speaks of; one for a whole form. A click on an alternative asks for it."""

    picked = Signal(str, object)
    """(dotted path, value) of an alternative a person wants."""
    closed = Signal()

    def __init__(self, theme: Theme, parent: QWidget) -> None:
        super().__init__(parent)
        self.setObjectName("helpCard")
        self.path = ""
        self._found: list[Alternative] = []
        self.title = wrapping()
        font = QFont(self.title.font())
        font.setWeight(QFont.Weight.DemiBold)
        self.title.setFont(font)
        self.close_button = QToolButton(autoRaise=True)
        self.close_button.setAccessibleName("Close the explanation")
        self.close_button.setToolTip("Close (Esc)")
        self.close_button.clicked.connect(self.leave)
        icons.bind(self.close_button, "close", theme)
        self.body = QLabel(wordWrap=True, textFormat=Qt.TextFormat.RichText)
        self.body.setTextInteractionFlags(Qt.TextInteractionFlag.TextBrowserInteraction)
        self.body.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Minimum)
        self.body.setFont(tabular(self.body.font()))
        self.body.linkActivated.connect(self._follow)
        head = line_of(self.title, self.close_button)
        head.setStretch(0, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(MEDIUM, SMALL, SMALL, MEDIUM)
        layout.setSpacing(SMALL)
        layout.addLayout(head)
        layout.addWidget(self.body)
        self.hide()
        self._tint()

    def explain(self, row: FieldRow, accounting: Accounting, context: int) -> None:
        """Speak of a row; prices are told against `accounting`, FLOPs with `context` tokens attended to."""
        self.path = row.path
        self.title.setText(row.info.label)
        row.show_below(self)
        self.refresh(accounting, context)

    def refresh(self, accounting: Accounting, context: int) -> None:
        """The same setting in an architecture that has changed."""
        if not self.path:
            return
        try:
            info, value = field_at(accounting.config, self.path)
        except (AttributeError, ConfigError):  # an option of a kind that is no longer chosen
            self.leave()
            return
        self._found = alternatives(accounting, self.path, context)
        self.body.setText(card_html(info, value, self._found))
        self.body.setAccessibleName(f"About {info.label}")

    @Slot()
    def leave(self) -> None:
        if self.path:
            self.path = ""
            self.hide()
            self.closed.emit()

    @Slot(str)
    def _follow(self, link: str) -> None:
        if link.startswith("pick:"):
            chosen = self._found[int(link.removeprefix("pick:"))]
            self.picked.emit(self.path, chosen.value)
        else:
            QDesktopServices.openUrl(QUrl(link))

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if event.key() == Qt.Key.Key_Escape:
            self.leave()
        else:
            super().keyPressEvent(event)

    def changeEvent(self, event: QEvent) -> None:
        super().changeEvent(event)
        if event.type() == QEvent.Type.PaletteChange:
            self._tint()

    def _tint(self) -> None:
        c = colours_of(self.parentWidget() or self)  # its own palette follows its style sheet
        sheet = f"#helpCard {{ background: {c.base}; border: 1px solid {c.border}; border-left: 3px solid {c.accent_text}; }}"
        if sheet != self.styleSheet():
            self.setStyleSheet(sheet)


# ---- what it says ----------------------------------------------------------------------------------------------------


def card_html(info: FieldInfo, value: Any, found: list[Alternative]) -> str:
    """Help, the value in force with its equation and source, costs of the others, and the bounds."""
    parts = [linked(info.help)]
    about = _facts(info.equation, info.used_by, info.source)
    if about:
        parts.append(about)
    kind = _option_of(info, value)
    if kind is not None:
        facts = _facts(kind.equation, kind.used_by, kind.source)
        parts.append(f"Now <b>{escape(kind.label)}</b>: {linked(kind.help)}" + (f"<br>{facts}" if facts else ""))
    parts.append(_costs(found, plain_value(info, value)))
    parts.append(_small(info))
    return "".join(f"<p style='margin: 0 0 5px 0'>{part}</p>" for part in parts if part)


def _option_of(info: FieldInfo, value: Any) -> Option | None:
    name = value.kind if isinstance(value, Choice) else value
    return next((o for o in info.pick_options() if o.name == name), None)


def _facts(equation: str, used_by: str, source: str) -> str:
    lines = []
    if equation:
        lines.append(f"<code>{escape(equation)}</code>")
    if used_by:
        lines.append(f"Used by {escape(used_by)}.")
    if source:
        lines.append(f"Paper: {linked(source)}")
    return "<br>".join(lines)


def _costs(found: list[Alternative], now: str) -> str:
    if not found:
        return ""
    rows = []
    priced = [a for a in found if a.cost is not None]
    if priced and all(a.cost.none for a in priced if a.cost is not None):
        words = ", ".join(_link(found, a) for a in found)
        return f"Instead of {escape(now)}: {words}.<br>{NOTHING}"
    for one in found:
        if one.cost is None:
            rows.append(f"<tr><td>{_link(found, one)}&nbsp;&nbsp;</td><td colspan=3>{escape(one.problem)}</td></tr>")
            continue
        cost = one.cost
        cells = (signed(cost.parameters, exact_count), signed(cost.kv_bytes, bytes_text), signed(cost.flops, count_text))
        figures = "".join(f"<td align=right>&nbsp;&nbsp;{cell}</td>" for cell in cells)
        rows.append(f"<tr><td>{_link(found, one)}</td>{figures}</tr>")
    header = "".join(f"<td align=right>&nbsp;&nbsp;{word}</td>" for word in ("parameters", "KV/token", "FLOPs/token"))
    return (
        f"What it would cost here instead of {escape(now)}:"
        f"<table cellspacing=0 cellpadding=1><tr><td></td>{header}</tr>{''.join(rows)}</table>"
    )


def _link(found: list[Alternative], one: Alternative) -> str:
    return f'<a href="pick:{found.index(one)}">{escape(one.label)}</a>'


def _small(info: FieldInfo) -> str:
    facts = [f"Key <code>{escape(info.key or info.name)}</code>", escape(bounds_text(info))]
    return f"<small>{' · '.join(fact for fact in facts if fact)}</small>"
