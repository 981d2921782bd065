"""The panels of the window. To add one: a file here with a registered class, and its line in `load`.

    @PANELS.register("runs", label="Runs", help="Compares finished runs.", place=PanelPlace("centre", order=30, icon="runs"))
    class RunsPanel(QWidget):
        def __init__(self, services: Services) -> None: ...

Panels never import each other; they meet on `services.bus`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from PySide6.QtWidgets import QWidget

from workbench.core.registry import NoOptions, Registry

Area = Literal["left", "centre", "right", "bottom"]
AREAS: tuple[Area, ...] = ("left", "centre", "right", "bottom")


@dataclass(frozen=True)
class PanelPlace:
    """Where a panel is on the first start: a tab in the centre, or a dock at an edge. Within an area `order` rises from left to right."""

    area: Area = "centre"
    order: int = 100
    icon: str = "panel"
    shown: bool = True
    shortcut: str = ""
    """Empty: Ctrl+1 … Ctrl+9 in the order of areas and panels."""


class PanelRegistry(Registry[QWidget]):
    """Panels by name; each entry's `make` takes the `Services`."""

    def __init__(self) -> None:
        super().__init__("panel")
        self._places: dict[str, PanelPlace] = {}

    def register(
        self,
        name: str,
        *,
        label: str,
        help: str,
        options: type = NoOptions,
        source: str = "",
        equation: str = "",
        used_by: str = "",
        place: PanelPlace | None = None,
    ) -> Callable[[Callable[..., QWidget]], Callable[..., Any]]:
        if "&" in label:
            raise ValueError(f"the label {label!r} of panel {name!r} would be read as a mnemonic; write it without &")
        add = super().register(name, label=label, help=help, options=options, source=source, equation=equation, used_by=used_by)
        self._places[name] = place or PanelPlace()
        return add

    def unregister(self, name: str) -> None:
        super().unregister(name)
        del self._places[name]

    def place(self, name: str) -> PanelPlace:
        """Where the panel `name` belongs; `ConfigError` for an unknown name."""
        return self._places[self[name].name]

    def in_order(self) -> tuple[str, ...]:
        """Names from the left edge over the centre and the right to the bottom."""
        return tuple(sorted(self._places, key=lambda n: (AREAS.index(self._places[n].area), self._places[n].order)))


PANELS = PanelRegistry()


def load() -> None:
    """Import every panel, which registers it. Called behind the window's first paint: some panels import a plotting library."""
    from ui.panels import architecture, build, cache, chat, compare, finetune, log, models, monitor, quality, quantize  # noqa: F401
