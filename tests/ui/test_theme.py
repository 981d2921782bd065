"""Colours: readable in both themes, every role set, switched at once."""

from __future__ import annotations

from itertools import pairwise

import pytest
from PySide6.QtGui import QColor, QFontMetricsF, QPalette
from PySide6.QtWidgets import QApplication, QLabel
from pytestqt.qtbot import QtBot

from ui import icons
from ui.services import Services
from ui.theme import DARK, DASHES, LIGHT, Colours, contrast, palette_of, tabular

TEXTS = ("text", "muted", "accent_text", "good", "warning", "error")
GROUNDS = (
    "window", "base", "alternate", "raised", "info_surface", "warning_surface", "error_surface", "user_bubble", "code_background",
    "trained", "tooltip",
)  # fmt: skip


@pytest.fixture(params=[LIGHT, DARK], ids=["light", "dark"])
def colours(request: pytest.FixtureRequest) -> Colours:
    return request.param  # type: ignore[no-any-return]


def test_contrast_is_that_of_wcag() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21.0)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("ground", GROUNDS)
@pytest.mark.parametrize("text", TEXTS)
def test_every_text_is_readable_on_every_ground(colours: Colours, text: str, ground: str) -> None:
    assert contrast(getattr(colours, text), getattr(colours, ground)) >= 4.5


def test_the_accent_carries_text_and_plots_are_seen(colours: Colours) -> None:
    assert contrast(colours.on_accent, colours.accent) >= 4.5
    assert min(contrast(p, colours.base) for p in colours.plots) >= 3
    assert len(set(colours.plots)) == len(colours.plots) == len(set(DASHES))


def test_palette_pairs_are_readable(qapp: QApplication, colours: Colours) -> None:
    role, palette = QPalette.ColorRole, palette_of(colours)
    pairs = ((role.WindowText, role.Window), (role.Text, role.Base), (role.Text, role.AlternateBase), (role.ButtonText, role.Button),
             (role.HighlightedText, role.Highlight), (role.ToolTipText, role.ToolTipBase), (role.PlaceholderText, role.Base),
             (role.Link, role.Base), (role.BrightText, role.Window))  # fmt: skip
    for text, ground in pairs:
        assert contrast(palette.color(text).name(), palette.color(ground).name()) >= 4.5, (text, ground)


def test_no_role_keeps_the_other_themes_colour(qapp: QApplication, colours: Colours) -> None:
    palette = palette_of(colours)
    for role in QPalette.ColorRole:
        if role not in (QPalette.ColorRole.NColorRoles, QPalette.ColorRole.NoRole):
            assert palette.isBrushSet(QPalette.ColorGroup.Active, role), role
    disabled = palette.color(QPalette.ColorGroup.Disabled, QPalette.ColorRole.Text).name()
    assert disabled == colours.disabled != colours.text


def test_a_switch_recolours_everything_at_once(services: Services, qtbot: QtBot) -> None:
    theme = services.theme
    label = QLabel("text")
    qtbot.addWidget(label)
    label.ensurePolished()
    with qtbot.waitSignal(theme.changed) as changed:
        theme.set_mode("dark")
    assert changed.args == [DARK]
    assert theme.dark
    assert label.palette().color(QPalette.ColorRole.Window) == QColor(DARK.window)
    assert DARK.tooltip in QApplication.instance().styleSheet()  # type: ignore[union-attr]
    theme.toggle()
    assert label.palette().color(QPalette.ColorRole.Window) == QColor(LIGHT.window)


def test_a_desktop_that_does_not_say_is_light(services: Services) -> None:
    services.theme.set_mode("dark")
    services.theme.set_mode("system")
    assert services.theme.mode == "system"
    assert not services.theme.dark


def test_text_scales(services: Services, qtbot: QtBot) -> None:
    label = QLabel("text")
    qtbot.addWidget(label)
    label.ensurePolished()
    before = label.sizeHint().width()
    services.theme.set_font_scale(1.5)
    assert label.sizeHint().width() > before
    services.theme.set_font_scale(1.0)
    assert label.sizeHint().width() == before


def test_tabular_figures_are_equally_wide(qapp: QApplication) -> None:
    metrics = QFontMetricsF(tabular(qapp.font()))
    widths = [metrics.horizontalAdvance(digit * 8) for digit in "0123456789"]
    assert all(a == b for a, b in pairwise(widths))


@pytest.mark.parametrize("name", icons.names())
def test_every_icon_draws_in_the_colour_asked_for(qapp: QApplication, name: str) -> None:
    image = icons.pixmap(name, "#12ab34", 32).toImage()
    drawn = [image.pixelColor(x, y) for x in range(32) for y in range(32) if image.pixelColor(x, y).alpha() > 200]
    assert drawn, "nothing is drawn"
    if name != "app":  # has its own colours
        assert any(c.name() == "#12ab34" for c in drawn)


def test_icons_follow_the_theme(services: Services, qtbot: QtBot) -> None:
    command = services.actions["app.settings"]

    def darkest() -> int:
        image = command.icon().pixmap(16, 16).toImage()
        return min(image.pixelColor(x, y).lightness() for x in range(16) for y in range(16) if image.pixelColor(x, y).alpha() > 200)

    assert darkest() < 100
    services.theme.set_mode("dark")
    assert darkest() > 150
