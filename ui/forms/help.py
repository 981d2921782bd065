"""What a field says about itself, as rich text for tooltips, What's This and F1."""

from __future__ import annotations

from dataclasses import MISSING
from html import escape
from typing import Any

from ui.forms.numbers import grouped
from workbench.core.fields import FieldInfo
from workbench.core.registry import Choice, Entry


def plain_value(info: FieldInfo, value: Any) -> str:
    """A value in words: the label of a kind, "automatic" for None, yes and no, numbers as they are typed."""
    if value is None:
        return info.none_label
    if isinstance(value, Choice):
        return value.entry.label
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, (int, float)):
        return grouped(value)
    if isinstance(value, tuple):
        return ", ".join(map(repr, value)) or "none"
    return next((o.label for o in info.pick_options() if o.name == value), str(value))


def bounds_text(info: FieldInfo) -> str:
    """ "1 to 256 layers", "at least 0", or nothing."""
    unit = f" {info.unit}" if info.unit else ""
    low = None if info.minimum is None else grouped(info.minimum)
    high = None if info.maximum is None else grouped(info.maximum)
    if low is not None and high is not None:
        return f"{low} to {high}{unit}"
    if low is not None:
        return f"at least {low}{unit}"
    return f"at most {high}{unit}" if high is not None else unit.strip()


def entry_html(entry: Entry[Any]) -> str:
    """A kind: label, help, equation, who uses it, source."""
    parts = [f"<b>{escape(entry.label)}</b>: {escape(entry.help)}"]
    if entry.equation:
        parts.append(f"<code>{escape(entry.equation)}</code>")
    if entry.used_by:
        parts.append(f"Used by {escape(entry.used_by)}.")
    if entry.source:
        parts.append(f"Source: {escape(entry.source)}")
    return "<br>".join(parts)


def field_html(info: FieldInfo, value: Any = None, *, problem: str = "", reason: str = "") -> str:
    """The whole story of a field; the problem or the reason why it cannot be changed comes first after the help."""
    parts = [f"<b>{escape(info.label)}</b><br>{escape(info.help)}"]
    if problem:
        parts.append(f"<b>{escape(problem)}</b>")
    if reason:
        parts.append(f"<i>{escape(reason)}</i>")
    if info.registry is not None:
        name = value.kind if isinstance(value, Choice) else value
        if name in info.registry:
            parts.append(entry_html(info.registry[name]))
    elif info.options:
        parts += [f"<b>{escape(o.label)}</b>: {escape(o.help)}" for o in info.options if o.help]
    rows = [("Key", f"<code>{escape(info.key or info.name)}</code>"), ("Range", escape(bounds_text(info)))]
    if info.default is not MISSING:
        rows.append(("Default", escape(plain_value(info, info.default))))
    rows.append(("Source", escape(info.source)))
    table = "".join(f"<tr><td>{k}&nbsp;&nbsp;</td><td>{v}</td></tr>" for k, v in rows if v)
    return f"<div>{'<p>'.join(parts)}<p><table cellspacing=0>{table}</table></div>"
