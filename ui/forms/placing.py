"""Which row of a form a problem is shown at."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from ui.forms.choice import ChoiceEditor
from workbench.core.fields import Problem, describe

if TYPE_CHECKING:
    from ui.forms.form import ConfigForm


def place(form: ConfigForm, problems: list[Problem]) -> list[Problem]:
    """Hand each problem to its row or to the options it concerns; returns those that have no place here."""
    nested: dict[str, list[Problem]] = {n: [] for n, r in form.rows.items() if isinstance(r.editor, ChoiceEditor)}
    unplaced = []
    known = {i.name for i in describe(form.config_type)}
    for problem in problems:
        name, _, option = problem.field.partition(".")
        if name not in form.rows:
            if name not in known:  # a described field that is left out here is shown by whoever left it out
                unplaced.append(problem)
        elif option and name in nested:
            nested[name].append(dataclasses.replace(problem, field=option))
        else:
            row = form.rows[name]
            row.problem = f"{row.problem}\n{problem}".strip()
    for name, theirs in nested.items():
        editor = form.rows[name].editor
        inner = editor.form if isinstance(editor, ChoiceEditor) else None
        if inner is not None:
            inner.set_problems_from_parent(theirs)
        elif theirs:
            form.rows[name].problem = "\n".join(map(str, theirs))
    return unplaced
