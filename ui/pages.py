"""Small windows beside the main one: settings, the list of shortcuts, about."""

from __future__ import annotations

import platform
import sys
from importlib import metadata
from typing import Any

import PySide6
from PySide6.QtCore import Qt, QUrl, Slot
from PySide6.QtGui import QDesktopServices, QKeySequence
from PySide6.QtWidgets import (
    QAbstractItemView,
    QDialog,
    QDialogButtonBox,
    QFormLayout,
    QGroupBox,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QPushButton,
    QTreeWidget,
    QTreeWidgetItem,
    QVBoxLayout,
    QWidget,
)

import workbench
from ui import icons
from ui.actions import MENUS, ActionRegistry
from ui.notify import Notifier
from ui.settings import Preferences, Settings
from ui.theme import LARGE, MEDIUM
from workbench.core.errors import WorkbenchError


class SettingsDialog(QDialog):
    """The preferences as a generated form; every change acts and is saved at once."""

    def __init__(self, settings: Settings, notify: Notifier, parent: QWidget) -> None:
        super().__init__(parent)
        from ui.forms.form import ConfigForm

        self.setWindowTitle("Settings")
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self._settings = settings
        self._notify = notify
        self.form: Any = ConfigForm(Preferences, settings.value)
        self.form.changed.connect(self._apply)
        buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Close | QDialogButtonBox.StandardButton.RestoreDefaults)
        buttons.rejected.connect(self.close)
        buttons.button(QDialogButtonBox.StandardButton.RestoreDefaults).clicked.connect(self._reset)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(LARGE, LARGE, LARGE, LARGE)
        layout.setSpacing(LARGE)
        layout.addWidget(self.form)
        layout.addWidget(self._folders())
        layout.addStretch(1)
        layout.addWidget(buttons)
        self.setMinimumWidth(460)

    def _folders(self) -> QGroupBox:
        box = QGroupBox("Folders")
        form = QFormLayout(box)
        folders = self._settings.folders
        for label, path in (("Settings", folders.config), ("Log files", folders.logs)):
            where = QLabel(str(path), wordWrap=True, textInteractionFlags=Qt.TextInteractionFlag.TextSelectableByMouse)
            where.setEnabled(True)
            button = QPushButton("Open", flat=True)
            button.setAccessibleName(f"Open the folder: {label}")
            button.setProperty("folder", str(path))
            button.clicked.connect(self._open_folder)
            row = QHBoxLayout(spacing=MEDIUM)
            row.addWidget(where, 1)
            row.addWidget(button)
            form.addRow(label, row)
        return box

    @Slot(object)
    def _apply(self, value: Preferences) -> None:
        if value.problems():
            return
        try:
            self._settings.set(value)
        except WorkbenchError as error:
            self._notify.exception(error, source="settings")

    @Slot()
    def _reset(self) -> None:
        self.form.set_value(Preferences())
        self._apply(Preferences())

    @Slot()
    def _open_folder(self) -> None:
        QDesktopServices.openUrl(QUrl.fromLocalFile(self.sender().property("folder")))


class ShortcutsDialog(QDialog):
    """Every command that has a shortcut, by menu."""

    def __init__(self, actions: ActionRegistry, parent: QWidget) -> None:
        super().__init__(parent)
        self.setWindowTitle("Keyboard shortcuts")
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.tree = QTreeWidget(columnCount=2, rootIsDecorated=False, itemsExpandable=False)
        self.tree.setAccessibleName("Keyboard shortcuts")
        self.tree.setHeaderLabels(["Command", "Keys"])
        self.tree.setSelectionMode(QAbstractItemView.SelectionMode.NoSelection)
        self.tree.setFrameShape(QTreeWidget.Shape.NoFrame)
        self.tree.header().setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
        self.tree.header().setSectionResizeMode(1, QHeaderView.ResizeMode.ResizeToContents)
        for menu in MENUS:
            rows = [c for c in actions if c.info.menu.split("/")[0] == menu and c.shortcuts()]
            head = QTreeWidgetItem([menu])
            font = head.font(0)
            font.setBold(True)
            head.setFont(0, font)
            for command in rows:
                keys = "  or  ".join(k.toString(QKeySequence.SequenceFormat.NativeText) for k in command.shortcuts())
                head.addChild(QTreeWidgetItem([command.info.plain_text, keys]))
            if rows:
                self.tree.addTopLevelItem(head)
        self.tree.expandAll()
        buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Close)
        buttons.rejected.connect(self.close)
        layout = QVBoxLayout(self)
        layout.addWidget(self.tree)
        layout.addWidget(buttons)
        self.resize(440, 560)


class AboutDialog(QDialog):
    """Version, parts and licence; the text can be copied into a report."""

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self.setWindowTitle("About LLM Workbench")
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        picture = QLabel()
        picture.setPixmap(icons.app_icon().pixmap(64, 64))
        text = QLabel(about_text(), wordWrap=True, textInteractionFlags=Qt.TextInteractionFlag.TextSelectableByMouse)
        text.setAccessibleName("About this program")
        row = QHBoxLayout(spacing=LARGE)
        row.addWidget(picture, 0, Qt.AlignmentFlag.AlignTop)
        row.addWidget(text, 1)
        buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Close)
        buttons.rejected.connect(self.close)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(LARGE, LARGE, LARGE, LARGE)
        layout.setSpacing(LARGE)
        layout.addLayout(row)
        layout.addWidget(buttons)
        self.setMinimumWidth(440)


def about_text() -> str:
    """Name, versions and licences in a few lines."""
    return (
        f"LLM Workbench {workbench.__version__}\n"
        "Take language models apart, rebuild, fine-tune and watch them.\n\n"
        f"Python {platform.python_version()} on {sys.platform} · PySide6 {PySide6.__version__} · "
        f"pyqtgraph {_version('pyqtgraph')} · torch {_version('torch')}\n\n"
        "Apache License 2.0. Qt and PySide6 are used under the LGPL v3."
    )


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "not installed"
