"""Plots as files: PNG, SVG and CSV, and the clipboard."""

from __future__ import annotations

import csv
import errno
import io
import math
from collections.abc import Iterable
from pathlib import Path

from PySide6.QtCore import QPoint, QRect, QSize
from PySide6.QtGui import QPainter, QPixmap
from PySide6.QtSvg import QSvgGenerator
from PySide6.QtWidgets import QWidget

from ui.plots.curves import Curve

COLUMNS = ("run", "metric", "unit", "value", "smoothed")


def csv_text(curves: Iterable[Curve]) -> str:
    """One row per stored point: run, metric, unit, step (or seconds), value, smoothed; gaps are left out."""
    curves = list(curves)
    timed = bool(curves) and curves[0].metric.axis == "time"
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*COLUMNS[:3], "seconds" if timed else "step", *COLUMNS[3:]])
    for curve in curves:
        metric, series = curve.metric, curve.series
        for x, y, smooth in zip(series.x.tolist(), series.y.tolist(), series.smooth.tolist(), strict=True):
            if math.isfinite(y):
                place = f"{x:.3f}" if timed else f"{x:g}"
                writer.writerow([curve.run, metric.name, metric.unit, place, repr(y), repr(smooth) if curve.smoothed else ""])
    return out.getvalue()


def render(widget: QWidget, scale: float) -> QPixmap:
    """The widget as it looks, `scale` device pixels to a point."""
    pixmap = QPixmap(QSize(math.ceil(widget.width() * scale), math.ceil(widget.height() * scale)))
    pixmap.setDevicePixelRatio(scale)
    pixmap.fill(widget.palette().color(widget.backgroundRole()))
    widget.render(pixmap, QPoint())
    return pixmap


def save_png(widget: QWidget, path: Path, scale: float) -> None:
    """Pixels. `OSError` when the file cannot be written."""
    if not render(widget, scale).save(str(path), "PNG"):
        raise OSError(errno.EACCES, "no image could be written there", str(path))


def save_svg(widget: QWidget, path: Path, title: str) -> None:
    """Vector graphics. pyqtgraph 0.14's own SVG exporter fails; without the resolution the layers would be misplaced.

    `OSError` when the file cannot be written.
    """
    generator = QSvgGenerator()
    generator.setFileName(str(path))
    generator.setResolution(96)
    generator.setSize(widget.size())
    generator.setViewBox(QRect(QPoint(), widget.size()))
    generator.setTitle(title)
    painter = QPainter()
    if not painter.begin(generator):
        raise OSError(errno.EACCES, "no drawing could be written there", str(path))
    painter.fillRect(widget.rect(), widget.palette().color(widget.backgroundRole()))
    widget.render(painter, QPoint())
    painter.end()
