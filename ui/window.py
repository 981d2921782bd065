"""The main window: panels from the registry at their places, menus from the commands. No feature logic."""

from __future__ import annotations

import logging
from functools import partial
from itertools import pairwise
from typing import Any, Final

from PySide6.QtCore import QEvent, QSize, Qt, QTimer, Signal, Slot
from PySide6.QtGui import QCloseEvent, QPaintEvent
from PySide6.QtWidgets import QApplication, QLabel, QMainWindow, QTabWidget, QToolButton, QVBoxLayout, QWidget

from ui import icons, panels, window_state
from ui.closing import Closing
from ui.docks import PanelDock
from ui.dropping import ModelDrop
from ui.jobs.runner import Job
from ui.menus import Menus
from ui.messagebar import MessageBar
from ui.palette import CommandPalette
from ui.panels import PANELS
from ui.services import Services
from ui.statusbar import StatusBar
from ui.theme import GRID, LARGE
from ui.window_state import LAYOUT_VERSION, WindowState
from workbench.core.errors import WorkbenchError

TITLE: Final = "LLM Workbench"
FIRST_SIZE: Final = QSize(1440, 900)
LEAST_SIZE: Final = QSize(1000, 640)
SHARES: Final = {"left": 0.24, "right": 0.25, "bottom": 0.30}
ALERT_AFTER_S: Final = 30.0
_AREAS: Final = {
    "left": Qt.DockWidgetArea.LeftDockWidgetArea,
    "right": Qt.DockWidgetArea.RightDockWidgetArea,
    "bottom": Qt.DockWidgetArea.BottomDockWidgetArea,
}
_log = logging.getLogger(__name__)


class Window(QMainWindow):
    """Shown at once with an empty centre; `build_panels` fills it behind the first paint."""

    painted = Signal()
    """The first paint is done; once."""
    closed = Signal()
    """Every job has ended, the layout is saved, the window is gone."""

    def __init__(self, services: Services) -> None:
        super().__init__()
        self.services = services
        self.docks: dict[str, PanelDock] = {}
        self.panels: dict[str, QWidget] = {}
        self._state_path = services.settings.folders.config / "window.json"
        self._state = window_state.load(self._state_path)
        self._was_painted = False
        self.setObjectName("window")
        self.setWindowTitle(TITLE)
        self.setWindowIcon(icons.app_icon())
        self.setMinimumSize(LEAST_SIZE)
        self.setDockOptions(QMainWindow.DockOption.AllowNestedDocks | QMainWindow.DockOption.AllowTabbedDocks)
        self.setTabPosition(Qt.DockWidgetArea.AllDockWidgetAreas, QTabWidget.TabPosition.North)
        self._build_centre()
        self.status = StatusBar(services)
        self.setStatusBar(self.status)
        self._build_menus()
        self.closing = Closing(self, services.jobs)
        self.drops = ModelDrop(self, services)
        self._titles_soon = QTimer(self, singleShot=True, interval=0)
        self._titles_soon.timeout.connect(self._show_titles)
        self._restore_geometry()
        self._connect()

    # ---- frame ---------------------------------------------------------------------------------------------------

    def _build_centre(self) -> None:
        self.messages = MessageBar(self.services.theme)
        self.messages.log_wanted.connect(partial(self.show_panel, "log"))
        self.tabs = QTabWidget(documentMode=True, movable=True)
        self.tabs.setObjectName("centre")
        self.tabs.tabBar().setAccessibleName("Centre panels")
        self.tabs.tabBar().setDrawBase(False)
        self._waiting = QLabel("Opening the panels…", alignment=Qt.AlignmentFlag.AlignCenter)
        self._waiting.setEnabled(False)
        centre = QWidget()
        layout = QVBoxLayout(centre)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        layout.addWidget(self.messages)
        layout.addWidget(self.tabs, 1)
        layout.addWidget(self._waiting, 1)
        self.tabs.hide()
        self.setCentralWidget(centre)

    def _build_menus(self) -> None:
        actions = self.services.actions
        self.menus = Menus(self.menuBar(), actions)
        for command in actions:
            self.addAction(command)
        actions.added.connect(self.addAction)
        search = QToolButton(text="Search commands   Ctrl+K", autoRaise=True, toolButtonStyle=Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        search.setIconSize(QSize(3 * GRID, 3 * GRID))
        search.setStyleSheet("QToolButton { border: none; padding: 0 8px; }")
        search.setAccessibleName("Search commands")
        search.setToolTip(actions["app.palette"].toolTip())
        search.clicked.connect(actions["app.palette"].trigger)
        icons.bind(search, "search", self.services.theme, "muted")
        self.menuBar().setCornerWidget(search)
        actions.bind("app.palette", self.open_palette)
        actions.bind("app.quit", self.close)
        actions.bind("view.reset", self.reset_layout)
        actions.bind("view.full_screen", self._full_screen)

    def _connect(self) -> None:
        bus = self.services.bus
        bus.show_panel.connect(self.show_panel)
        bus.model_changed.connect(self._on_model)
        bus.job_finished.connect(self._on_job_finished)
        self.services.notify.posted.connect(self.messages.show_message)
        self.closing.done.connect(self.close)

    @Slot()
    def open_palette(self) -> None:
        """Show the command palette."""
        CommandPalette(self.services.actions, self.services.theme, self).open_over(self)

    @Slot(object)
    def _on_model(self, model: Any) -> None:
        self.setWindowTitle(f"{model.name} – {TITLE}" if model is not None else TITLE)

    @Slot(object)
    def _on_job_finished(self, job: Job) -> None:
        if job.elapsed > ALERT_AFTER_S and not self.isActiveWindow():
            QApplication.alert(self)

    def _full_screen(self, on: bool) -> None:
        self.showFullScreen() if on else self.showNormal()

    def paintEvent(self, event: QPaintEvent) -> None:
        super().paintEvent(event)
        if not self._was_painted:
            self._was_painted = True
            QTimer.singleShot(0, self.painted.emit)

    # ---- panels --------------------------------------------------------------------------------------------------

    def build_panels(self) -> None:
        """Make every registered panel, put it where it was left, and give it its commands."""
        panels.load()
        self.setUpdatesEnabled(False)
        try:
            for name in PANELS.in_order():
                self._add_panel(name)
            self._waiting.hide()
            self.tabs.show()
            self._default_layout()
            self._restore_layout()
            self._add_panel_commands()
            self.drops.watch_text_fields()
        finally:
            self.setUpdatesEnabled(True)

    def _make(self, name: str) -> QWidget:
        try:
            return PANELS[name].make(self.services)
        except Exception as error:  # one broken panel must not take the others with it
            self.services.notify.exception(error, source=name)
            broken = QLabel(f"The {PANELS[name].label} panel could not be opened. The Log has the details.", wordWrap=True)
            broken.setAlignment(Qt.AlignmentFlag.AlignCenter)
            broken.setMargin(LARGE)
            return broken

    def _add_panel(self, name: str) -> None:
        entry, place = PANELS[name], PANELS.place(name)
        panel = self.panels[name] = self._make(name)
        panel.setObjectName(f"panel.{name}")
        panel.setAccessibleName(panel.accessibleName() or entry.label)
        if place.area == "centre":
            index = self.tabs.addTab(panel, entry.label)
            self.tabs.setTabToolTip(index, entry.help)
            return
        dock = self.docks[name] = PanelDock(name, entry.label, place.icon, panel, self.services.theme)
        self.addDockWidget(_AREAS[place.area], dock)
        for moved in (dock.dockLocationChanged, dock.topLevelChanged, dock.visibilityChanged):
            moved.connect(self._titles_soon.start)

    @Slot()
    def _show_titles(self) -> None:
        """A dock in a tab has its name on the tab; a title bar below would only take room."""
        for dock in self.docks.values():
            mates = self.tabifiedDockWidgets(dock)
            dock.show_title(dock.isFloating() or not any(not m.isHidden() for m in mates))

    def _default_layout(self) -> None:
        for area, edge in _AREAS.items():
            group = [self.docks[n] for n in PANELS.in_order() if PANELS.place(n).area == area]
            for dock in group:
                dock.setFloating(False)
                self.addDockWidget(edge, dock)
            for first, second in pairwise(group):
                self.tabifyDockWidget(first, second)
            for name in self.docks:
                if PANELS.place(name).area == area:
                    self.docks[name].setVisible(PANELS.place(name).shown)
            if group:
                group[0].raise_()
        self._share_out()
        for name in self._tab_names():
            self._set_shown(name, PANELS.place(name).shown)
        order = [n for n in PANELS.in_order() if PANELS.place(n).area == "centre"]
        self._order_tabs(tuple(order))
        front = next((n for n in order if PANELS.place(n).shown), None)
        if front is not None:
            self.tabs.setCurrentWidget(self.panels[front])

    def _share_out(self) -> None:
        for area, share in SHARES.items():
            docks = [d for n, d in self.docks.items() if PANELS.place(n).area == area and not d.isHidden()]
            upright = area == "bottom"
            size = round(share * (self.height() if upright else self.width()))
            if docks:
                direction = Qt.Orientation.Vertical if upright else Qt.Orientation.Horizontal
                self.resizeDocks(docks[:1], [size], direction)

    @Slot()
    def reset_layout(self) -> None:
        """Every panel where it was on the first start."""
        self._default_layout()

    def _tab_names(self) -> list[str]:
        widgets = {widget: name for name, widget in self.panels.items()}
        return [widgets[self.tabs.widget(n)] for n in range(self.tabs.count())]

    def _order_tabs(self, wanted: tuple[str, ...]) -> None:
        known = [n for n in wanted if n in self._tab_names()]
        for place, name in enumerate(known):
            self.tabs.tabBar().moveTab(self._tab_names().index(name), place)

    def _add_panel_commands(self) -> None:
        actions = self.services.actions
        for number, name in enumerate(PANELS.in_order(), start=1):
            entry, place = PANELS[name], PANELS.place(name)
            keys = place.shortcut or (f"Ctrl+{number}" if number <= 9 else "")
            actions.add(
                f"go.{name}", entry.label, partial(self.show_panel, name),
                tooltip=f"Go to {entry.label}: {entry.help}", menu="View/Go to", shortcut=keys, icon=place.icon,
            )  # fmt: skip
            shown = actions.add(
                f"show.{name}", entry.label, partial(self._set_shown, name), tooltip=f"Show or hide {entry.label}.", menu="View/Show",
                checkable=True,
            )  # fmt: skip
            if name in self.docks:
                toggle = self.docks[name].toggleViewAction()
                toggle.toggled.connect(shown.setChecked)
                shown.setChecked(toggle.isChecked())
            else:
                shown.setChecked(self.tabs.isTabVisible(self.tabs.indexOf(self.panels[name])))

    def _set_shown(self, name: str, shown: bool) -> None:
        if name in self.docks:
            self.docks[name].setVisible(shown)
            if shown:
                self.docks[name].raise_()
            return
        self.tabs.setTabVisible(self.tabs.indexOf(self.panels[name]), shown)
        if f"show.{name}" in self.services.actions:
            self.services.actions[f"show.{name}"].setChecked(shown)

    @Slot(object)
    def show_panel(self, name: str) -> None:
        """Bring a panel to the front and give it the keyboard."""
        if name not in self.panels:
            _log.warning("There is no panel %r to show.", name)
            return
        self._set_shown(name, True)
        if name not in self.docks:
            self.tabs.setCurrentWidget(self.panels[name])
        elif self.docks[name].isFloating():
            self.docks[name].activateWindow()
        panel = self.panels[name]
        target = panel.focusProxy() or (panel if panel.focusPolicy() & Qt.FocusPolicy.TabFocus else _first_focus(panel))
        target.setFocus(Qt.FocusReason.ShortcutFocusReason)

    # ---- where things were ---------------------------------------------------------------------------------------

    def _restore_geometry(self) -> None:
        screen = self.screen().availableGeometry()
        self.resize(FIRST_SIZE.boundedTo(screen.size()))
        if self._state.geometry:
            self.restoreGeometry(window_state.decode(self._state.geometry))
        if not any(s.availableGeometry().intersects(self.frameGeometry()) for s in QApplication.screens()):
            self.move(screen.topLeft())

    def _restore_layout(self) -> None:
        state = self._state
        if not state.docks or not self.restoreState(window_state.decode(state.docks), LAYOUT_VERSION):
            return
        self._place_new_docks(state.docked)
        self._order_tabs(state.tabs)
        for name in self._tab_names():
            known = name in state.tabs  # a panel that is new since the layout was saved keeps its default
            self._set_shown(name, name not in state.hidden if known else PANELS.place(name).shown)
        if state.current in self._tab_names():
            self.tabs.setCurrentWidget(self.panels[state.current])

    def _place_new_docks(self, known: tuple[str, ...]) -> None:
        """Docks that are new since the layout was saved become tabs where their kin are; else they would take half of that place."""
        for name in (n for n in self.docks if n not in known):
            kin = [n for n in PANELS.in_order() if n in self.docks and n != name and PANELS.place(n).area == PANELS.place(name).area]
            if kin and not self.docks[kin[0]].isFloating():
                self.tabifyDockWidget(self.docks[kin[0]], self.docks[name])
                self.docks[kin[0]].raise_()

    def save_layout(self) -> None:
        """Write where everything is. A disk that refuses costs the layout, not the close."""
        tabs = self._tab_names()
        current = self.tabs.currentWidget()
        state = WindowState(
            geometry=window_state.encode(self.saveGeometry()),
            docks=window_state.encode(self.saveState(LAYOUT_VERSION)),
            tabs=tuple(tabs),
            docked=tuple(self.docks),
            hidden=tuple(n for i, n in enumerate(tabs) if not self.tabs.isTabVisible(i)),
            current=next((n for n in tabs if self.panels[n] is current), ""),
        )
        try:
            window_state.save(self._state_path, state)
        except WorkbenchError as error:
            _log.warning("The window layout was not saved: %s", error)

    def closeEvent(self, event: QCloseEvent) -> None:
        if not self.closing.may_close():
            event.ignore()
            return
        if self.panels:
            self.save_layout()
        event.accept()
        self.closed.emit()

    def changeEvent(self, event: QEvent) -> None:
        super().changeEvent(event)
        if event.type() == QEvent.Type.WindowStateChange:
            self.services.actions["view.full_screen"].setChecked(self.isFullScreen())


def _first_focus(panel: QWidget) -> QWidget:
    """The first widget inside `panel` that Tab would reach."""
    for child in panel.findChildren(QWidget):
        if child.focusPolicy() & Qt.FocusPolicy.TabFocus and child.isVisibleTo(panel) and child.isEnabled():
            return child
    return panel
