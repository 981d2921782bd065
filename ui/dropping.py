"""Files dragged onto the window: while they hover it says what would happen, or why nothing will."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from PySide6.QtCore import QEvent, QObject, Qt, QTimer, Slot
from PySide6.QtGui import QColor, QFont
from PySide6.QtWidgets import QFrame, QLabel, QLineEdit, QPlainTextEdit, QTextEdit, QVBoxLayout, QWidget

from ui import icons
from ui.services import Services
from ui.theme import LARGE, MEDIUM
from workbench.core import layouts
from workbench.core.format import bytes_text
from workbench.library import model_format

KINDS: Final = {"gguf": "GGUF file", "hf": "Hugging Face folder", "workbench": "workbench checkpoint"}
ICON: Final = 48
VEIL: Final = 0.97
"""How much of the window the overlay covers: what lies below is still there, and does not disturb."""
_DATA: Final = (".jsonl", ".json", ".csv", ".tsv", ".txt", ".md", ".parquet")
_TEXT_FIELDS: Final = (QLineEdit, QPlainTextEdit, QTextEdit)
_DRAGS: Final = (QEvent.Type.DragEnter, QEvent.Type.DragMove, QEvent.Type.DragLeave, QEvent.Type.Drop)


@dataclass(frozen=True)
class Verdict:
    """What becomes of what is dragged: `path` is opened, or None and `words` say why not."""

    path: Path | None
    title: str
    words: str


def judge(paths: list[Path]) -> Verdict:
    """Look at names and first bytes only: a drag must not stutter."""
    folders = {p.parent for p in paths}
    if len(paths) > 1 and len(folders) == 1 and (folder := folders.pop()) and all(_belongs(p) for p in paths):
        paths = [folder]  # a model's files, all taken together
    if len(paths) != 1:
        return _no("Drop one model at a time." if paths else "Only files and folders on this computer can be opened.")
    path = paths[0]
    return _folder(path) if path.is_dir() else _file(path)


def _belongs(path: Path) -> bool:
    return path.suffix in (".safetensors", ".json", ".txt", ".model", ".jinja", ".md") and path.is_file()


def _no(words: str) -> Verdict:
    return Verdict(None, "This cannot be opened", words)


def _yes(path: Path, form: str, size: int | None = None) -> Verdict:
    return Verdict(path, f"Drop to open {path.name}", KINDS[form] + (f", {bytes_text(size)}" if size is not None else ""))


def _folder(path: Path) -> Verdict:
    form = model_format(path)
    if form is not None:
        return _yes(path, form)
    try:
        names = sorted(p.name for p in path.iterdir())
    except OSError as error:
        return _no(f"{path.name} cannot be read: {error.strerror}.")
    ggufs = [n for n in names if n.lower().endswith(".gguf")]
    if len(ggufs) == 1:
        return _yes(path / ggufs[0], "gguf", (path / ggufs[0]).stat().st_size)
    if ggufs:
        return _no(f"{path.name} holds {len(ggufs)} GGUF files; drop one of them.")
    if "adapter_config.json" in names:
        return _no(f"{path.name} holds an adapter, not a model: load its model, then attach it in Fine-tune.")
    pickles = [n for n in names if Path(n).suffix in layouts.PICKLES]
    if pickles:
        return _no(f"{path.name} has its weights as a Python pickle ({pickles[0]}), which can run any code when it is read.")
    if layouts.layout_of(path) is not None:
        return _no(f"{path.name} has a configuration but no weights (model.safetensors).")
    return _no(f"{path.name} holds no model: no config.json and no GGUF file.")


def _file(path: Path) -> Verdict:
    if layouts.layout_of(path) == "gguf":
        return _yes(path, "gguf", path.stat().st_size)
    if path.suffix == ".safetensors" or path.name in (layouts.HF_CONFIG, layouts.OWN_CONFIG):
        return _folder(path.parent)
    if path.suffix in layouts.PICKLES:
        return _no(f"{path.name} is a Python pickle, which can run any code when it is read.")
    more = " Data to learn from goes onto the Fine-tune panel." if path.suffix.lower() in _DATA else ""
    return _no(f"{path.name} is no model; drop a GGUF file or a model folder.{more}")


class DropOverlay(QFrame):
    """Over the whole window: an icon, what will happen, and of which kind it is. The mouse goes through it."""

    def __init__(self, window: QWidget, services: Services) -> None:
        super().__init__(window)
        self.setObjectName("dropHint")
        self.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        self._theme = services.theme
        self._icon = QLabel(alignment=Qt.AlignmentFlag.AlignCenter)
        self.title = QLabel(alignment=Qt.AlignmentFlag.AlignCenter, textFormat=Qt.TextFormat.PlainText, wordWrap=True)
        self.words = QLabel(alignment=Qt.AlignmentFlag.AlignCenter, textFormat=Qt.TextFormat.PlainText, wordWrap=True)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(2 * LARGE, 2 * LARGE, 2 * LARGE, 2 * LARGE)
        layout.setSpacing(MEDIUM)
        layout.addStretch(1)
        for label in (self._icon, self.title, self.words):
            layout.addWidget(label)
        layout.addStretch(1)
        self.hide()

    def show_verdict(self, verdict: Verdict) -> None:
        """Cover the window with it."""
        c, good = self._theme.colours, verdict.path is not None
        self._icon.setPixmap(icons.pixmap("folder" if good else "error", c.accent_text if good else c.error, ICON))
        self.title.setText(verdict.title)
        self.words.setText(verdict.words)
        ground = QColor(c.window)
        ground.setAlphaF(VEIL)
        self.setStyleSheet(
            f"#dropHint {{ background: {ground.name(QColor.NameFormat.HexArgb)}; border: 2px dashed {c.accent_text if good else c.error};"
            f" border-radius: {MEDIUM}px; }} QLabel {{ color: {c.text}; }}"
        )
        font = QFont(self.parentWidget().font())
        font.setPointSizeF(font.pointSizeF() * 1.5)
        font.setWeight(QFont.Weight.DemiBold)
        self.title.setFont(font)
        self.setAccessibleName(f"{verdict.title}. {verdict.words}")
        self.setGeometry(self.parentWidget().rect().adjusted(LARGE, LARGE, -LARGE, -LARGE))
        self.show()
        self.raise_()


class ModelDrop(QObject):
    """Takes what is dragged onto `window` where no panel takes it for itself."""

    def __init__(self, window: QWidget, services: Services) -> None:
        super().__init__(window)
        self._services = services
        self.overlay = DropOverlay(window, services)
        self._verdict: Verdict | None = None
        window.setAcceptDrops(True)
        window.installEventFilter(self)
        services.bus.engine_ready.connect(self._watch_later)

    @Slot(object)
    def _watch_later(self, _session: object) -> None:
        QTimer.singleShot(0, self, self.watch_text_fields)  # panels build their forms when the engine is there

    @Slot()
    def watch_text_fields(self) -> None:
        """Fields would take a dragged file as text, its address; they leave files to the window."""
        for field in self.parent().findChildren(QWidget):
            if isinstance(field, _TEXT_FIELDS) and not field.isReadOnly():
                taker = field.viewport() if isinstance(field, QPlainTextEdit | QTextEdit) else field
                taker.installEventFilter(self)  # a second time moves it to the front, no more

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        if event.type() not in _DRAGS:
            return False
        drag: Any = event
        if watched is not self.parent():
            carries_files = event.type() != QEvent.Type.DragLeave and drag.mimeData().hasUrls()
            if carries_files:
                drag.ignore()  # on to the parent, and in the end to the window
            return bool(carries_files)
        if event.type() == QEvent.Type.DragLeave:
            self.overlay.hide()
        elif event.type() == QEvent.Type.Drop:
            self._drop(drag)
        elif drag.mimeData().hasUrls():
            if event.type() == QEvent.Type.DragEnter or self._verdict is None:
                self._verdict = judge(_paths(drag))
                self.overlay.show_verdict(self._verdict)
            self._answer(drag)
        else:
            return False
        return True

    def _answer(self, drag: Any) -> None:
        """Taken either way, so that we are told when it leaves; what cannot be opened is taken with "do nothing"."""
        if self._verdict is not None and self._verdict.path is not None:
            drag.acceptProposedAction()
        else:
            drag.setDropAction(Qt.DropAction.IgnoreAction)
            drag.accept()

    def _drop(self, drag: Any) -> None:
        self.overlay.hide()
        verdict, self._verdict = judge(_paths(drag)), None
        if verdict.path is None:
            self._services.notify.warning(verdict.words, "A GGUF file or a model folder can be dropped here.")
            return
        drag.acceptProposedAction()
        self._services.bus.open_model.emit(verdict.path)


def _paths(drag: Any) -> list[Path]:
    """Local files and folders that are dragged."""
    urls = drag.mimeData().urls()
    return [Path(url.toLocalFile()) for url in urls if url.isLocalFile()] if all(u.isLocalFile() for u in urls) else []
