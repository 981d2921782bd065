"""Where the window and its panels were: opaque blobs in a file of their own."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from PySide6.QtCore import QByteArray

from workbench.core.errors import WorkbenchError
from workbench.core.fields import from_dict, to_dict
from workbench.core.store import read_json, write_json

LAYOUT_VERSION: Final = 1
"""Raised when saved dock arrangements no longer fit; an older one is then left unused."""
_KIND: Final = "workbench window"
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class WindowState:
    """`geometry` and `docks` are Qt's blobs in base64; `tabs` the centre panels in order, `hidden` those not shown, `docked`
    the panels at the edges."""

    geometry: str = ""
    docks: str = ""
    tabs: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()
    docked: tuple[str, ...] = ()
    current: str = ""


def encode(blob: QByteArray) -> str:
    """Base64 text of a Qt blob."""
    return bytes(blob.toBase64().data()).decode("ascii")


def decode(text: str) -> QByteArray:
    """The inverse of `encode`."""
    return QByteArray.fromBase64(text.encode("ascii", "replace"))


def load(path: Path) -> WindowState:
    """The saved state, or an empty one: a lost layout is no reason to stop a start."""
    if not path.exists():
        return WindowState()
    try:
        data = read_json(path, kind=_KIND, version=LAYOUT_VERSION)
        return from_dict(WindowState, {k: tuple(v) if isinstance(v, list) else v for k, v in data.items()})
    except (WorkbenchError, TypeError) as error:
        _log.warning("The saved window layout is not used: %s", error)
        return WindowState()


def save(path: Path, state: WindowState) -> None:
    """Write `state` atomically. Raises `FileError`."""
    write_json(path, to_dict(state), kind=_KIND, version=LAYOUT_VERSION)
