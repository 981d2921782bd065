"""Real samples of the data as the model will see them: what is learnt is coloured and underlined, special tokens are framed."""

from __future__ import annotations

from html import escape
from typing import Final

from PySide6.QtCore import QEvent, Qt, Slot
from PySide6.QtWidgets import QLabel, QSizePolicy, QToolButton, QVBoxLayout, QWidget

from ui import icons
from ui.theme import MEDIUM, SMALL, Colours, Theme
from ui.widgets.labels import ElidingLabel
from ui.widgets.text import Muted, line_of
from ui.widgets.tones import colours_of
from workbench.data import Sample

SHOWN_LETTERS: Final = 1_200
"""Of one sample; the panel scrolls as a whole, so a sample must not fill it."""
_SPACES: Final = str.maketrans({"\u00a0": "⍽", "\t": "→   "})


def sample_html(sample: Sample, c: Colours, letters: int = SHOWN_LETTERS) -> str:
    """The segments in order; line ends are marked where something is learnt, so that a learnt line end can be seen."""
    parts: list[str] = []
    left = letters
    for segment in sample.segments:
        if left <= 0:
            break
        text, left = segment.text[:left], left - len(segment.text)
        words = escape(text.translate(_SPACES)).replace("\n", "↵<br>" if segment.trained else "<br>")
        style = f"background-color:{c.trained}; text-decoration:underline;" if segment.trained else ""
        if segment.special:
            style += f"color:{c.accent_text}; font-weight:600;"
            words = f"⟨{escape(text.strip('<>|') or text)}⟩"
        parts.append(f'<span style="{style}">{words}</span>' if style else words)
    while parts and parts[-1] == "<br>":  # templates end in an empty line
        parts.pop()
    if left <= 0 or sample.cut:
        parts.append(f'<span style="color:{c.muted}"> … (goes on)</span>')
    return f'<div style="white-space:pre-wrap; color:{c.text}">{"".join(parts)}</div>'


def sample_words(sample: Sample) -> str:
    """For those who hear the panel: what is learnt, without colours."""
    learnt = " ".join(s.text for s in sample.segments if s.trained)
    return f"Row {sample.row} of {sample.file}, {sample.tokens} tokens. Learnt: {learnt}"[:2000]


class SampleView(QWidget):
    """One sample at a time, with buttons to the next and the one before."""

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self._samples: tuple[Sample, ...] = ()
        self._index = 0
        self.place = ElidingLabel()
        self.before = self._button("chevron-left", "Previous sample", theme)
        self.before.clicked.connect(self._back)
        self.after = self._button("chevron-right", "Next sample", theme)
        self.after.clicked.connect(self._on)
        self.text = QLabel(wordWrap=True, textFormat=Qt.TextFormat.RichText)
        self.text.setObjectName("sample")
        self.text.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.text.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Minimum)
        self.text.setMargin(MEDIUM)
        head = line_of(self.place, self.before, self.after)
        head.setStretch(0, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(SMALL)
        layout.addLayout(head)
        layout.addWidget(self.text)
        layout.addWidget(Muted("Underlined on a coloured ground: learnt. The rest is only read. ⟨…⟩: special token, ↵: line end."))

    @staticmethod
    def _button(icon: str, name: str, theme: Theme) -> QToolButton:
        button = QToolButton(autoRaise=True)
        button.setToolTip(name)
        button.setAccessibleName(name)
        icons.bind(button, icon, theme)
        return button

    def set_samples(self, samples: tuple[Sample, ...]) -> None:
        """Show the first of these."""
        if samples != self._samples:
            self._samples, self._index = samples, 0
            self._show()

    @Slot()
    def _back(self) -> None:
        self._index = max(0, self._index - 1)
        self._show()

    @Slot()
    def _on(self) -> None:
        self._index = min(len(self._samples) - 1, self._index + 1)
        self._show()

    def _show(self) -> None:
        if not self._samples:
            self.text.clear()
            return
        sample, c = self._samples[self._index], colours_of(self)
        where = f"{sample.file}, row {sample.row}" if sample.row else sample.file
        figures = f"{sample.trained_tokens:,} of {sample.tokens:,} tokens learnt"
        self.place.set_full_text(f"{self._index + 1} of {len(self._samples)} · {figures} · {where}")
        self.text.setText(sample_html(sample, c))
        self.text.setAccessibleName(sample_words(sample))
        self.text.setStyleSheet(f"#sample {{ background: {c.base}; border: 1px solid {c.border}; border-radius: 3px; }}")
        self.before.setEnabled(self._index > 0)
        self.after.setEnabled(self._index < len(self._samples) - 1)

    def changeEvent(self, event: QEvent) -> None:
        super().changeEvent(event)
        if event.type() == QEvent.Type.PaletteChange:
            self._show()
