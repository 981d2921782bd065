"""Small pieces of the models' rows: a badge, and how a download goes."""

from __future__ import annotations

from typing import Final

from PySide6.QtCore import QSize, Qt, Signal, Slot
from PySide6.QtWidgets import QHBoxLayout, QLabel, QProgressBar, QSizePolicy, QVBoxLayout, QWidget

from ui import icons
from ui.hub.controller import Download
from ui.theme import MEDIUM, SMALL, Colours, Theme, tabular
from ui.widgets.button import Button
from ui.widgets.labels import ElidingLabel
from ui.widgets.text import Muted
from workbench.core.format import bytes_text, duration_text
from workbench.library import Fit

STEPS: Final = 1000
ICON: Final = 14
_FITS: Final = {"fits": ("check", "good"), "tight": ("warning", "warning"), "too large": ("error", "error")}


class Badge(QWidget):
    """An icon and words; the outline says that the figure is estimated."""

    def __init__(self, theme: Theme) -> None:
        super().__init__()
        self.setObjectName("badge")
        self.setAttribute(Qt.WidgetAttribute.WA_StyledBackground)
        self._theme = theme
        self._icon_name, self._role, self._outlined = "", "muted", False
        self._icon = QLabel()
        self.text = QLabel(textFormat=Qt.TextFormat.PlainText)
        self.text.setFont(tabular(self.text.font()))
        row = QHBoxLayout(self)
        row.setContentsMargins(SMALL + 2, 1, SMALL + 2, 1)
        row.setSpacing(SMALL)
        row.addWidget(self._icon)
        row.addWidget(self.text)
        self.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Fixed)
        theme.changed.connect(self._tint)
        self.hide()

    def show_words(self, words: str, icon: str, role: str, tooltip: str = "", outlined: bool = False) -> None:
        """Say this; "" hides the badge."""
        self._icon_name, self._role, self._outlined = icon, role, outlined
        self.text.setText(words)
        self.setToolTip(tooltip)
        self.setAccessibleName(f"{words}. {tooltip}".strip())
        self.setVisible(bool(words))
        self._tint(self._theme.colours)

    def show_fit(self, fit: Fit | None) -> None:
        """Whether it fits, and the estimated need."""
        if fit is None:
            self.show_words("size not known", "info", "muted", "The hub does not say how many parameters this model has.", outlined=True)
            return
        icon, role = _FITS[fit.word]
        words = f"{fit.word} · about {bytes_text(fit.need)} estimated"
        self.show_words(words, icon, role, f"It {fit.text}.", outlined=True)

    @Slot(object)
    def _tint(self, c: Colours) -> None:
        if self._icon_name:
            self._icon.setPixmap(icons.icon(self._icon_name, c, self._role).pixmap(QSize(ICON, ICON)))
        colour = getattr(c, self._role)
        border = f"1px solid {c.border}" if self._outlined else "none"
        self.setStyleSheet(f"#badge {{ border: {border}; border-radius: 8px; }} QLabel {{ color: {colour}; }}")


class DownloadLine(QWidget):
    """A bar with bytes, speed and time left, and what can be done about it."""

    stop_wanted = Signal(str)
    resume_wanted = Signal(str)
    discard_wanted = Signal(str)

    def __init__(self, spec: str) -> None:
        super().__init__()
        self.spec = spec
        self.bar = QProgressBar(textVisible=False, maximum=STEPS)
        self.bar.setAccessibleName(f"Download of {spec}")
        self.bar.setFixedHeight(MEDIUM)
        self.name = ElidingLabel(spec, mode=Qt.TextElideMode.ElideMiddle)
        self.name.hide()
        self.words = Muted()
        self.stop_button = Button("Stop", "Stop the download; what has arrived is kept.")
        self.resume_button = Button("Resume", "Go on where it ended.")
        self.discard_button = Button("Discard", "Delete what has arrived.")
        self.stop_button.clicked.connect(lambda: self.stop_wanted.emit(self.spec))
        self.resume_button.clicked.connect(lambda: self.resume_wanted.emit(self.spec))
        self.discard_button.clicked.connect(lambda: self.discard_wanted.emit(self.spec))
        column = QVBoxLayout(spacing=SMALL)
        column.addWidget(self.name)
        column.addWidget(self.bar)
        column.addWidget(self.words)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, SMALL, 0, 0)
        row.setSpacing(MEDIUM)
        row.addLayout(column, 1)
        for button in (self.stop_button, self.resume_button, self.discard_button):
            row.addWidget(button, 0, Qt.AlignmentFlag.AlignTop)
        self.hide()

    def show_name(self) -> None:
        """Where nothing else says what is downloaded."""
        self.name.show()

    def show_download(self, download: Download | None) -> None:
        """How it goes; nothing for None and for one that is done."""
        shown = download is not None and download.word != "Done"
        self.setVisible(shown)
        if download is None or not shown:
            return
        unknown = download.running and not download.total
        self.bar.setVisible(download.running or download.done > 0)
        self.bar.setRange(0, 0 if unknown else STEPS)
        if not unknown:
            self.bar.setValue(round(STEPS * min(1.0, download.done / download.total)) if download.total else 0)
        self.words.setText(words_of(download))
        self.stop_button.setVisible(download.running)
        self.stop_button.setEnabled(download.word != "Stopping")
        self.resume_button.setVisible(not download.running)
        self.resume_button.set_words("Try again" if download.word == "Failed" else "Resume", "Go on where it ended.")
        self.discard_button.setVisible(not download.running)
        kept = download.done > 0
        self.discard_button.set_words("Discard" if kept else "Dismiss", "Delete what has arrived." if kept else "Forget this download.")


def words_of(download: Download) -> str:
    """ "Downloading · 120 MB of 540 MB · 12.3 MB/s · 35 s left"."""
    if download.word == "Failed":
        return f"{download.message} {download.hint}".strip()
    checking = download.message.startswith(("Checking", "The connection", "Looking"))
    parts = [download.message if checking and download.word == "Downloading" else download.word]
    if download.total:
        parts.append(f"{bytes_text(download.done)} of {bytes_text(download.total)}")
    if download.word == "Downloading" and not checking:
        if download.bytes_per_second:
            parts.append(f"{bytes_text(download.bytes_per_second)}/s")
        if download.eta_seconds:
            parts.append(f"about {duration_text(download.eta_seconds)} left")
    return " · ".join(parts)
