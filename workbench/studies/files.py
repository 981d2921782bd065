"""A study's answer as files: the table for spreadsheets, everything for programs, the bars for people."""

from __future__ import annotations

import csv
import io
import json
import math
from html import escape
from pathlib import Path

from workbench.core.store import write_text
from workbench.studies.base import Figure, StudyResult, Table

_ROW, _BAR, _LABELS, _WIDTH, _TEXT = 22, 14, 250, 420, 90
_MARGIN = 16
_SHADES = ("#2f6fb0", "#c4622d", "#4c8c4a", "#8a5aa8")


def write(result: StudyResult, folder: Path) -> tuple[Path, ...]:
    """`table.csv`, a CSV for each further table, `table.json` and `figure.svg` in `folder`, which is made if need be; what lay
    there under these names is replaced. Raises `FileError`."""
    folder.mkdir(parents=True, exist_ok=True)
    paths: list[Path] = []
    for number, table in enumerate(result.tables):
        paths.append(folder / ("table.csv" if number == 0 else f"{table.name}.csv"))
        write_text(paths[-1], _csv(table))
    paths.append(folder / "table.json")
    write_text(paths[-1], json.dumps(result.to_json(), ensure_ascii=False, indent=2) + "\n")
    paths.append(folder / "figure.svg")
    write_text(paths[-1], svg(result.figure))
    return tuple(paths)


def _csv(table: Table) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([f"{c.label} ({c.unit})" if c.unit else c.label for c in table.columns])
    for row in table.rows:
        writer.writerow(["" if (value := row.get(c.name)) is None else value for c in table.columns])
    return out.getvalue()


def share(figure: Figure, value: float) -> float:
    """Where on the axis a value lies, 0 … 1."""
    largest = max((bar.value for _, bars in figure.groups for bar in bars), default=1.0)
    if not figure.log:
        return 0.0 if largest <= figure.start else max(0.0, (value - figure.start) / (largest - figure.start))
    if value <= figure.start or largest <= figure.start:
        return 0.0
    return math.log(value / figure.start) / math.log(largest / figure.start)


def svg(figure: Figure) -> str:
    """The figure as a picture that any browser shows."""
    lines: list[str] = []
    y = _MARGIN + 20
    text = '<text x="{x:.0f}" y="{y:.0f}" {style}>{words}</text>'
    lines.append(text.format(x=_MARGIN, y=_MARGIN + 8, style='font-weight="bold" font-size="14"', words=escape(figure.title)))
    scale = ", logarithmic" if figure.log else ""
    for number, (name, bars) in enumerate(figure.groups):
        y += _ROW
        lines.append(text.format(x=_MARGIN, y=y - 6, style='font-weight="bold"', words=escape(name)))
        for bar in bars:
            width = max(1.0, _WIDTH * share(figure, bar.value))
            left = _MARGIN + _LABELS
            lines.append(text.format(x=left - 8, y=y + _BAR - 3, style='text-anchor="end"', words=escape(bar.label)))
            shade = _SHADES[number % len(_SHADES)]
            lines.append(f'<rect x="{left}" y="{y}" width="{width:.1f}" height="{_BAR}" fill="{shade}"/>')
            lines.append(text.format(x=left + width + 6, y=y + _BAR - 3, style="", words=escape(bar.text)))
            y += _ROW
    y += _ROW
    lines.append(text.format(x=_MARGIN + _LABELS, y=y - 6, style='fill="#666"', words=escape(figure.x_label + scale)))
    size = (2 * _MARGIN + _LABELS + _WIDTH + _TEXT, y + _MARGIN)
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{size[0]}" height="{size[1]}" font-family="sans-serif" font-size="12">'
    return "\n".join([head, f'<rect width="{size[0]}" height="{size[1]}" fill="white"/>', *lines, "</svg>"]) + "\n"
