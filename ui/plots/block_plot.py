"""What happens inside: one value of every block over the steps as a map of colours, and beside it the newest values by block.

plot = BlockPlot(FAMILIES["residual_rms"])
plot.start_run("run 2 A")
plot.append(step, family.profile(event.metrics))
plot.refresh()
"""

from __future__ import annotations

import csv
import io
import time
from pathlib import Path
from typing import Final

import numpy as np
import pyqtgraph as pg
from PySide6.QtCore import QEvent, QRectF, Qt, Signal, Slot
from PySide6.QtGui import QColor, QFontMetrics, QGuiApplication, QLinearGradient, QPainter, QPaintEvent
from PySide6.QtWidgets import QFileDialog, QHBoxLayout, QSizePolicy, QVBoxLayout, QWidget

from ui.plots import export
from ui.plots.axes import UnitAxis, number_text
from ui.plots.curves import scaled
from ui.plots.header import PlotHeader
from ui.plots.legend import Legend
from ui.plots.live_plot import FILTERS, PICTURE_RATIO
from ui.plots.profile import Profiles
from ui.plots.series import Floats
from ui.theme import SMALL
from ui.widgets.labels import MutedLabel
from ui.widgets.tones import colours_of
from workbench.core.errors import FileError
from workbench.core.metrics import MetricFamily, MetricInfo

COLUMNS: Final = 400
MAP: Final = "viridis"
"""Even steps for the eye, light to dark without colour: told apart by every kind of sight and in print."""
SHARES: Final = (3, 2)
PAD: Final = 0.08


class ColourScale(QWidget):
    """The map's colours with the values at its ends."""

    def __init__(self) -> None:
        super().__init__()
        self._ends = ("", "")
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setFixedHeight(self.fontMetrics().height() + 4)

    def set_ends(self, low: str, high: str) -> None:
        if (low, high) != self._ends:
            self._ends = (low, high)
            self.setVisible(bool(low))
            self.setAccessibleName(f"Colours from {low} to {high}")
            self.update()

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        painter.setPen(QColor(colours_of(self).muted))
        metrics = QFontMetrics(self.font())
        left, right = (metrics.horizontalAdvance(t) + 6 for t in self._ends)
        bar = QRectF(left, self.height() / 2 - 4, max(self.width() - left - right, 8), 8)
        sides = (Qt.AlignmentFlag.AlignLeft, Qt.AlignmentFlag.AlignRight)
        for text, side in zip(self._ends, sides, strict=True):
            painter.drawText(self.rect(), side | Qt.AlignmentFlag.AlignVCenter, text)
        gradient = QLinearGradient(bar.topLeft(), bar.topRight())
        for part in np.linspace(0, 1, 12):
            gradient.setColorAt(float(part), pg.colormap.get(MAP).map(float(part), mode="qcolor"))
        painter.fillRect(bar, gradient)


class BlockPlot(QWidget):
    """One family of metrics. Several runs: the map shows the newest of those that are checked, the profile all of them."""

    drawn = Signal()
    axis = "step"

    def __init__(self, family: MetricFamily, parent: QWidget | None = None, *, max_runs: int = 4, empty_text: str = "") -> None:
        super().__init__(parent)
        self.family = family
        self.info = family.plot
        self.refresh_seconds = 0.0
        self._max_runs = max_runs
        self._runs: dict[str, Profiles] = {}
        self._lines: dict[str, pg.PlotCurveItem] = {}
        self._colours: dict[str, int] = {}
        self._notes: dict[str, str] = {}
        self._log = family.log
        self._dirty = True
        self.setAutoFillBackground(True)
        self.setBackgroundRole(self.palette().ColorRole.Base)
        self.setAccessibleName(f"{family.label} plot")
        about = MetricInfo(family.name, family.label, family.unit, family.name, family.help)
        self.header = PlotHeader(family.label, [about])
        self.header.log_action.setChecked(self._log)
        self.legend = Legend(family.label, self)
        self.scale = ColourScale()
        self.empty = MutedLabel(empty_text or "Nothing was looked at yet.", self)
        self.empty.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.empty.setWordWrap(True)
        self._build()
        self._connect()
        self._restyle()

    # ---- construction --------------------------------------------------------------------------------------------

    def _build(self) -> None:
        self.map = self._canvas(UnitAxis("bottom", "step"), UnitAxis("left", "step"))
        self.profile = self._canvas(UnitAxis("bottom"), UnitAxis("left", "step"))
        self.map.setLabel("bottom", "step")
        self.map.setLabel("left", "block")
        self.profile.setLabel("bottom", f"{self.family.y_label}, newest")
        self.profile.hideAxis("left")
        self.profile.setYLink(self.map)
        self._image = pg.ImageItem(colorMap=MAP)
        self.map.addItem(self._image)
        self.profile.getPlotItem().setLogMode(x=False, y=False)
        row = QHBoxLayout(spacing=0)
        row.addWidget(self.map, SHARES[0])
        row.addWidget(self.profile, SHARES[1])
        top = QHBoxLayout(spacing=SMALL)
        top.addWidget(self.scale, 1)
        self._plots = QWidget()
        self._plots.setLayout(row)
        row.setContentsMargins(0, 0, 0, 0)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(2 * SMALL, SMALL, SMALL, SMALL)
        layout.setSpacing(2)
        layout.addWidget(self.header)
        layout.addLayout(top)
        layout.addWidget(self.legend)
        layout.addWidget(self._plots, 1)
        layout.addWidget(self.empty, 1)
        self.legend.hide()
        self._show_empty()

    def _canvas(self, bottom: UnitAxis, left: UnitAxis) -> pg.PlotWidget:
        canvas = pg.PlotWidget(axisItems={"bottom": bottom, "left": left})
        item = canvas.getPlotItem()
        item.hideButtons()
        item.setMenuEnabled(False)
        item.getViewBox().disableAutoRange()
        item.getViewBox().setMouseEnabled(x=False, y=False)
        canvas.setFrameShape(canvas.Shape.NoFrame)
        canvas.setCacheMode(canvas.CacheModeFlag.CacheNone)
        canvas.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        canvas.setMinimumSize(60, 60)
        return canvas

    def _connect(self) -> None:
        self.legend.toggled.connect(self._changed)
        self.header.log_wanted.connect(self.set_log)
        self.header.follow_wanted.connect(self._changed)
        self.header.copy_image_wanted.connect(self.copy_image)
        self.header.copy_values_wanted.connect(self.copy_values)
        self.header.save_wanted.connect(self.ask_export)
        self.map.scene().sigMouseMoved.connect(self._read)

    # ---- values --------------------------------------------------------------------------------------------------

    @property
    def runs(self) -> tuple[str, ...]:
        return tuple(self._runs)

    @property
    def newest_run(self) -> tuple[str, str] | None:
        name = next(reversed(self._runs), None)
        return None if name is None else (name, self._notes.get(name, ""))

    @property
    def has_values(self) -> bool:
        return any(len(p) for p in self._runs.values())

    def profiles(self, run: str | None = None) -> Profiles | None:
        """What was seen in `run` (default: the newest)."""
        return self._runs.get(run if run is not None else next(reversed(self._runs), ""))

    def start_run(self, name: str, note: str = "") -> None:
        """Later values belong to `name`. The oldest run goes when there are `max_runs`."""
        self._notes[name] = note
        if name in self._runs:
            self._runs[name] = self._runs.pop(name)
            return
        while len(self._runs) >= self._max_runs:
            self._forget(next(iter(self._runs)))
        taken = set(self._colours.values())
        self._colours[name] = next(i for i in range(self._max_runs) if i not in taken)
        self._runs[name] = Profiles()
        self._update_legend()

    def append(self, step: float, values: tuple[float, ...], run: str | None = None) -> None:
        """One look at every block of `run` (default: the newest)."""
        name = run if run is not None else next(reversed(self._runs), "")
        if name not in self._runs:
            self.start_run(name)
        self._runs[name].append(step, values)
        self._dirty = True

    def clear(self) -> None:
        """Forget every run."""
        for name in list(self._runs):
            self._forget(name)
        self._update_legend()

    def _forget(self, name: str) -> None:
        self._runs.pop(name, None)
        self._colours.pop(name, None)
        self._notes.pop(name, None)
        if name in self._lines:
            self.profile.removeItem(self._lines.pop(name))
        self._dirty = True

    def _update_legend(self) -> None:
        entries = [(n, n, self._notes.get(n, ""), self._colours[n], 0, None) for n in self._runs]
        self.legend.set_entries("run", entries if len(entries) > 1 else [])
        self.legend.setVisible(len(entries) > 1)
        self.legend.restyle(colours_of(self))
        self._dirty = True

    # ---- what the monitor asks of every chart ----------------------------------------------------------------------

    @property
    def dirty(self) -> bool:
        return self._dirty

    @property
    def cost_seconds(self) -> float:
        """CPU time of the last redraw; painting a picture of so few pixels adds little."""
        return 2 * self.refresh_seconds

    @property
    def log_by_nature(self) -> bool:
        return self.family.log

    @Slot(bool)
    def set_log(self, log: bool) -> None:
        """Colours and profile by the logarithm of the values."""
        if log != self._log:
            self._log = log
            self.header.log_action.setChecked(log)
            self._changed()

    def set_smoothing(self, smoothing: float) -> None:
        """Nothing is averaged here."""

    def set_window(self, points: int | None) -> None:
        """Always the whole run."""

    # ---- drawing -------------------------------------------------------------------------------------------------

    @Slot()
    def _changed(self) -> None:
        self._dirty = True
        self.refresh()

    def _shown(self) -> list[tuple[str, Profiles]]:
        return [(n, p) for n, p in self._runs.items() if len(p) and self.legend.checked("run", n)]

    def refresh(self, force: bool = False) -> bool:
        """Redraw when something changed and the plot can be seen (or `force`). True when it drew."""
        if not force and (not self._dirty or not self.isVisible()):
            return False
        started = time.thread_time()
        self._dirty = False
        shown = self._shown()
        self._show_empty()
        if shown:
            self._draw_map(shown[-1][1])
            self._draw_profiles(shown)
            self._tell(*shown[-1])
        self.refresh_seconds = time.thread_time() - started
        self.drawn.emit()
        return True

    def _show_empty(self) -> None:
        empty = not self._shown()
        self.empty.setVisible(empty)
        self._plots.setVisible(not empty)
        if empty:
            self.scale.set_ends("", "")
            self.scale.hide()
            self.header.reading.set_full_text("")

    def _draw_map(self, profiles: Profiles) -> None:
        values, low, high = profiles.picture(COLUMNS)
        drawn = scaled(values, self._log)
        finite = drawn[np.isfinite(drawn)]
        levels = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
        if levels[0] == levels[1]:
            levels = (levels[0] - 0.5, levels[1] + 0.5)
        # axisOrder of pyqtgraph is (x, y): [columns, blocks] as it is.
        self._image.setImage(np.nan_to_num(drawn, nan=levels[0]).clip(*levels), levels=levels, autoLevels=False)
        self._image.setRect(QRectF(low, -0.5, high - low, profiles.blocks))
        self.map.setXRange(low, high, padding=0)
        self.map.setYRange(-0.5, profiles.blocks - 0.5, padding=0)
        self.scale.set_ends(*(number_text(float(10**v if self._log else v)) for v in levels))
        self.scale.show()

    def _draw_profiles(self, shown: list[tuple[str, Profiles]]) -> None:
        ends: list[Floats] = []
        for name in [n for n in self._lines if n not in dict(shown)]:
            self.profile.removeItem(self._lines.pop(name))
        for name, profiles in shown:
            if name not in self._lines:
                self._lines[name] = pg.PlotCurveItem(antialias=True)
                self.profile.addItem(self._lines[name])
                self._restyle_lines()
            x = scaled(profiles.newest, self._log)
            self._lines[name].setData(x, np.arange(len(x), dtype=np.float64), connect="finite")
            ends.append(x[np.isfinite(x)])
        values = np.concatenate(ends)
        if len(values):
            low, high = float(values.min()), float(values.max())
            room = PAD * (high - low) or 0.5
            self.profile.setXRange(low - room, high + room, padding=0)
        self.profile.getPlotItem().getAxis("bottom").setLogMode(x=self._log, y=False)

    def _tell(self, run: str, profiles: Profiles) -> None:
        step, values = profiles.steps[-1], profiles.newest
        text = ", ".join(number_text(float(v)) for v in values)
        words = f"{self.family.label} at step {step:g}{f' of {run}' if run else ''}, blocks 0 to {len(values) - 1}: {text}"
        self.setAccessibleDescription(words)
        if not self.map.underMouse():
            self.header.reading.set_full_text(f"step {step:g}{f', {run}' if len(self._runs) > 1 else ''}")

    @Slot(object)
    def _read(self, where: object) -> None:
        """The value under the mouse."""
        shown = self._shown()
        if not shown:
            return
        profiles = shown[-1][1]
        place = self.map.getPlotItem().getViewBox().mapSceneToView(where)
        block = round(place.y())
        if 0 <= block < profiles.blocks:
            index = int(np.argmin(np.abs(np.asarray(profiles.steps) - place.x())))
            value = profiles.table()[index, block]
            if np.isfinite(value):
                self.header.reading.set_full_text(f"block {block}, step {profiles.steps[index]:g}: {number_text(float(value))}")

    def _restyle(self) -> None:
        colours, ratio = colours_of(self), self.devicePixelRatioF()
        for canvas in (self.map, self.profile):
            canvas.setBackground(colours.base)
            for side in ("bottom", "left"):
                axis = canvas.getPlotItem().getAxis(side)
                axis.setPen(pg.mkPen(colours.border, width=ratio))
                axis.setTextPen(colours.muted)
                axis.setTickFont(self.font())
                if axis.labelText:
                    axis.setLabel(axis.labelText, **{"font-size": f"{self.font().pointSizeF()}pt", "color": colours.muted})
        self.legend.restyle(colours)
        self._restyle_lines()
        self._dirty = True

    def _restyle_lines(self) -> None:
        colours, ratio = colours_of(self), self.devicePixelRatioF()
        for name, line in self._lines.items():
            line.setPen(pg.mkPen(colours.plots[self._colours[name] % len(colours.plots)], width=2 * ratio))

    # ---- files ---------------------------------------------------------------------------------------------------

    def csv_text(self) -> str:
        """run, metric, step, block, value."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(["run", "metric", "step", "block", "value"])
        for name, profiles in self._runs.items():
            for step, row in zip(profiles.steps, profiles.table().tolist(), strict=True):
                for block, value in enumerate(row):
                    if np.isfinite(value):
                        writer.writerow([name, self.family.name, f"{step:g}", block, repr(value)])
        return out.getvalue()

    def save(self, path: Path) -> None:
        """Write the picture (.png, .svg) or every value (.csv). `FileError` when that is not possible."""
        kind = path.suffix.lower().lstrip(".")
        try:
            self.refresh(force=True)
            if kind == "csv":
                path.write_text(self.csv_text(), encoding="utf-8")
            elif kind == "svg":
                export.save_svg(self, path, self.family.label)
            else:
                export.save_png(self, path, PICTURE_RATIO)
        except OSError as error:
            raise FileError(f"{path} cannot be written: {error.strerror or error}.", hint="Choose another folder.") from error

    @Slot()
    def copy_image(self) -> None:
        QGuiApplication.clipboard().setPixmap(export.render(self, PICTURE_RATIO))

    @Slot()
    def copy_values(self) -> None:
        QGuiApplication.clipboard().setText(self.csv_text())

    @Slot(str)
    def ask_export(self, kind: str) -> Path | None:
        """Ask for a file name and save there; None when the person changed their mind."""
        name, _ = QFileDialog.getSaveFileName(self, f"Save {self.family.label}", f"{self.family.name}.{kind}", FILTERS[kind])
        if not name:
            return None
        path = Path(name)
        path = path if path.suffix.lower() == f".{kind}" else path.with_name(f"{path.name}.{kind}")
        self.save(path)
        return path

    # ---- Qt ------------------------------------------------------------------------------------------------------

    def changeEvent(self, event: QEvent) -> None:
        super().changeEvent(event)
        if event.type() in (QEvent.Type.PaletteChange, QEvent.Type.FontChange) and hasattr(self, "map"):
            self._restyle()
            self.refresh()
