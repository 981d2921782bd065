"""Finding a setting: what a field can be looked up by, and which rows of a form speak of some words."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from ui.forms.choice import ChoiceEditor
from ui.forms.row import FieldRow
from workbench.core.fields import FieldInfo, describe
from workbench.core.registry import Registry

if TYPE_CHECKING:
    from ui.forms.form import ConfigForm


def searchable(info: FieldInfo) -> str:
    """Everything a person may look a field up by, in lower case: its own words and those of its kinds."""
    own = f"{info.label} {info.key} {info.name} {info.help} {info.group} {info.source} {info.used_by}"
    return f"{own} {' '.join(f'{o.label} {o.name} {o.help} {o.used_by} {o.source}' for o in info.pick_options())}".lower()


@cache
def _options(registry: Registry[Any], _size: int) -> str:
    """What the options of a registry's kinds are called, deeper kinds included; `_size` asks again after one was registered."""
    parts = []
    for entry in registry:
        for option in describe(entry.options):
            parts += [searchable(option), _options(option.registry, len(option.registry)) if option.registry is not None else ""]
    return " ".join(parts)


def _speaks(text: str, words: list[str]) -> bool:
    return all(word in text for word in words)


def filter_rows(form: ConfigForm, text: str) -> bool:
    """Show the rows that speak of `text`, and the options of kinds that do; all when it is empty. True when any is left."""
    words = text.lower().split()
    shown: set[FieldRow] = set()
    for row in form.rows.values():
        fits = _speaks(searchable(row.info), words)
        inner = row.editor.form if isinstance(row.editor, ChoiceEditor) else None
        inside = filter_rows(inner, "" if fits else text) if inner is not None else False
        registry = row.info.registry
        if not (fits or inside) and registry is not None and _speaks(_options(registry, len(registry)), words):
            fits = True  # an option of a kind that is not chosen now
            if inner is not None:
                filter_rows(inner, "")
        row.setVisible(fits or inside)
        if fits or inside:
            shown.add(row)
    for section in form.all_sections():
        found = any(r in shown for r in form.rows.values() if section.isAncestorOf(r))
        section.setVisible(found)
        section.set_forced(bool(words) and found)
    return bool(shown)
