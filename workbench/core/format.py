"""Numbers as people read them; the one place that decides units and digits."""

from __future__ import annotations


def bytes_text(count: float) -> str:
    """Decimal units, as disks and peers print them: 98.4 MB."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(count) < 999.5 or unit == "GB":  # 999.7 kB would be rounded to 1000 kB
            return f"{count:.0f} {unit}" if unit == "B" or abs(count) >= 99.95 else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError("unreachable")


def count_text(count: float) -> str:
    """Short counts: 134.5 M, 1.18 B, 960."""
    for limit, unit in ((1e9, " B"), (1e6, " M"), (1e3, " k")):
        if abs(count) >= 0.99995 * limit:  # of 999,999 four digits are 1 M
            return f"{count / limit:.4g}{unit}"
    return f"{count:g}"


def duration_text(seconds: float) -> str:
    """4 s, 2 min 05 s, 1 h 20 min."""
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 59.5:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"
