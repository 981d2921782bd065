"""One place for colours, spacing and fonts; light and dark, switched at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from PySide6.QtCore import QObject, Qt, Signal, Slot
from PySide6.QtGui import QColor, QFont, QFontDatabase, QPalette
from PySide6.QtWidgets import QApplication

Mode = Literal["system", "light", "dark"]

GRID: Final = 4
"""Pixels; every distance is a multiple of it."""
SMALL, MEDIUM, LARGE = GRID, 2 * GRID, 4 * GRID


@dataclass(frozen=True)
class Colours:
    """The colours of one theme as #rrggbb. Text pairs keep a WCAG contrast of at least 4.5 (see tests/ui/test_theme.py)."""

    dark: bool
    window: str
    base: str
    alternate: str
    raised: str
    """Buttons, headers of docks, table headers."""
    border: str
    text: str
    muted: str
    disabled: str
    accent: str
    """The one accent as a surface: primary buttons, selection, progress."""
    on_accent: str
    accent_text: str
    """The accent as text or a thin line on `base` or `window`."""
    good: str
    warning: str
    error: str
    info_surface: str
    warning_surface: str
    error_surface: str
    user_bubble: str
    code_background: str
    trained: str
    """Surface behind text that carries loss in the data preview."""
    tooltip: str
    plots: tuple[str, ...]
    """Okabe-Ito colours that reach a contrast of 3 on this theme's `base`."""


LIGHT: Final = Colours(
    dark=False, window="#f3f4f6", base="#ffffff", alternate="#f7f8fa", raised="#e9ebef", border="#c9cdd4", text="#1b1e24", muted="#59606c",
    disabled="#9aa0aa", accent="#1f5fbf", on_accent="#ffffff", accent_text="#1f5fbf", good="#1b6e3c", warning="#8a4b00", error="#b3261e",
    info_surface="#e3edfb", warning_surface="#fdf0d9", error_surface="#fbe4e2", user_bubble="#e3edfb", code_background="#f0f1f4",
    trained="#d8efdf", tooltip="#ffffff", plots=("#0072b2", "#d55e00", "#00805d", "#b0568d", "#8a6d00", "#3d4450"),
)  # fmt: skip
DARK: Final = Colours(
    dark=True, window="#27292e", base="#17181a", alternate="#1e2023", raised="#33363d", border="#4a4e57", text="#e7e9ed", muted="#adb4bf",
    disabled="#757b86", accent="#2f6fd0", on_accent="#ffffff", accent_text="#8ab4f8", good="#6fcf97", warning="#f0b45a", error="#f59a92",
    info_surface="#20304a", warning_surface="#3d2f17", error_surface="#452321", user_bubble="#22344f", code_background="#222429",
    trained="#1f4030", tooltip="#33363d", plots=("#56b4e9", "#e69f00", "#00b386", "#cc79a7", "#f0e442", "#c3c8d1"),
)  # fmt: skip

DASHES: Final[tuple[tuple[float, ...], ...]] = ((), (6, 4), (2, 3), (8, 3, 2, 3), (12, 4), (4, 2, 1, 2, 1, 2))
"""Pen dash patterns in pen widths, () = solid: the n-th curve differs from the others without its colour."""


def luminance(colour: str) -> float:
    """Relative luminance, 0 to 1 (WCAG 2.2)."""

    def linear(part: float) -> float:
        return part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4

    c = QColor(colour)
    return 0.2126 * linear(c.redF()) + 0.7152 * linear(c.greenF()) + 0.0722 * linear(c.blueF())


def contrast(one: str, other: str) -> float:
    """WCAG contrast ratio, 1 to 21."""
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def palette_of(c: Colours) -> QPalette:
    """A palette with every role set, Disabled group included: an unset role would keep the other theme's colour."""
    role, group = QPalette.ColorRole, QPalette.ColorGroup
    shades = {
        role.Window: c.window, role.WindowText: c.text, role.Base: c.base, role.AlternateBase: c.alternate, role.Text: c.text,
        role.Button: c.raised, role.ButtonText: c.text, role.BrightText: c.error, role.ToolTipBase: c.tooltip, role.ToolTipText: c.text,
        role.PlaceholderText: c.muted, role.Highlight: c.accent, role.HighlightedText: c.on_accent, role.Link: c.accent_text,
        role.LinkVisited: c.accent_text, role.Accent: c.accent, role.Mid: c.border, role.Midlight: c.alternate,
        role.Light: QColor(c.raised).lighter(115 if c.dark else 105).name(), role.Dark: QColor(c.border).darker(110).name(),
        role.Shadow: "#000000" if c.dark else "#8a8f98",
    }  # fmt: skip
    palette = QPalette()
    for which, colour in shades.items():
        palette.setColor(which, QColor(colour))
    for which in (role.WindowText, role.Text, role.ButtonText, role.PlaceholderText, role.HighlightedText):
        palette.setColor(group.Disabled, which, QColor(c.disabled))
    palette.setColor(group.Disabled, role.Highlight, QColor(c.border))
    palette.setColor(group.Disabled, role.Base, QColor(c.window))
    palette.setColor(group.Disabled, role.Accent, QColor(c.border))
    return palette


def style_sheet(c: Colours) -> str:
    """The few things a palette cannot say. Everything else is drawn by Fusion."""
    return f"""
    QToolTip {{ color: {c.text}; background: {c.tooltip}; border: 1px solid {c.border}; padding: {SMALL}px; }}
    QMainWindow::separator {{ background: {c.window}; width: {SMALL}px; height: {SMALL}px; }}
    QMainWindow::separator:hover {{ background: {c.accent}; }}
    QStatusBar::item {{ border: none; }}
    QDialogButtonBox {{ dialogbuttonbox-buttons-have-icons: 0; }}
    """


class Theme(QObject):
    """The colours now in force. `changed` comes after the palette was switched; who draws with own colours listens to it."""

    changed = Signal(object)
    """Colours."""

    def __init__(self, app: QApplication, mode: Mode = "system", font_scale: float = 1.0) -> None:
        super().__init__(app)
        self._app = app
        self._mode: Mode = mode
        self._applying = False
        self._font = QFont(app.font())
        app.setStyle("Fusion")
        app.styleHints().colorSchemeChanged.connect(self._follow_system)
        self.colours = LIGHT
        self.set_font_scale(font_scale)
        self.set_mode(mode)

    @property
    def mode(self) -> Mode:
        return self._mode

    @property
    def dark(self) -> bool:
        return self.colours.dark

    def set_mode(self, mode: Mode) -> None:
        """"system" follows the desktop at once and from then on; a desktop that does not say is light."""
        self._mode = mode
        self._applying = True
        hints = self._app.styleHints()
        try:
            if mode == "system":
                hints.unsetColorScheme()
                dark = hints.colorScheme() == Qt.ColorScheme.Dark
            else:
                dark = mode == "dark"
                hints.setColorScheme(Qt.ColorScheme.Dark if dark else Qt.ColorScheme.Light)
        finally:
            self._applying = False
        self._apply(DARK if dark else LIGHT)

    def toggle(self) -> None:
        """To the other of light and dark."""
        self.set_mode("light" if self.dark else "dark")

    def set_font_scale(self, scale: float) -> None:
        """Scale the application's font; 1.0 is the desktop's own size."""
        font = QFont(self._font)
        font.setPointSizeF(self._font.pointSizeF() * scale)
        if font != self._app.font():
            self._app.setFont(font)
            self._restyle()

    def plot_colour(self, index: int) -> QColor:
        """Colour of the n-th curve; repeats after six."""
        return QColor(self.colours.plots[index % len(self.colours.plots)])

    @staticmethod
    def dash(index: int) -> tuple[float, ...]:
        """Dash pattern of the n-th curve; () is solid."""
        return DASHES[index % len(DASHES)]

    @Slot()
    def _follow_system(self) -> None:
        if self._mode == "system" and not self._applying:
            dark = self._app.styleHints().colorScheme() == Qt.ColorScheme.Dark
            self._apply(DARK if dark else LIGHT)

    def _restyle(self) -> None:
        # Under a style sheet Qt hands a new application font to the widgets only when the sheet is set afresh.
        self._app.setStyleSheet("")
        self._app.setStyleSheet(style_sheet(self.colours))

    def _apply(self, colours: Colours) -> None:
        self.colours = colours
        self._app.setPalette(palette_of(colours))
        self._app.setStyleSheet(style_sheet(colours))  # once: fonts stay as they are
        self.changed.emit(colours)


def tabular(font: QFont) -> QFont:
    """The same font with digits of equal width, for numbers that change in place."""
    figures = QFont(font)
    figures.setFeature(QFont.Tag("tnum"), 1)
    return figures


def monospace(font: QFont) -> QFont:
    """The desktop's fixed-width font at the size of `font`."""
    fixed = QFont(font)  # only the family is set, so that the size still follows the application's
    fixed.setFamilies(QFontDatabase.systemFont(QFontDatabase.SystemFont.FixedFont).families())
    fixed.setStyleHint(QFont.StyleHint.Monospace)
    return fixed
