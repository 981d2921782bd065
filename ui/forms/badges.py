"""What the headers of a form's parts say of the fields inside."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ui.forms.form import ConfigForm


def show_badges(form: ConfigForm) -> None:
    """Problems always, changes while they are folded away."""
    for section in form.all_sections():
        members = [r for r in form.rows.values() if section.isAncestorOf(r)]
        wrong = sum(bool(r.problem) or r.has_nested_problem() for r in members)
        changed = sum(r.mark.kind == "changed" for r in members)
        hidden = f"{changed} changed" if changed and not section.expanded else ""
        section.set_badge(f"{wrong} problem{'s' if wrong > 1 else ''}" if wrong else hidden, problem=bool(wrong))
