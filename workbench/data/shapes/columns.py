"""Tables whose columns are given roles by hand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from workbench.data.examples import BadRow
from workbench.data.shapes.base import ROLES, SHAPES, RoleMap, conversation, text_of
from workbench.tokenizers import Message


@SHAPES.register(
    "columns", label="Columns by role", source="two named columns",
    help="Columns mapped to roles by hand, such as ticket=user and reply=assistant; each row is one exchange.",
)  # fmt: skip
class Columns:
    """Any record with a column for the user's and one for the assistant's part."""

    def recognises(self, value: Mapping[str, Any], roles: RoleMap) -> bool:
        return {"user", "assistant"} <= _by_role(value, roles).keys()

    def read(self, value: Mapping[str, Any], roles: RoleMap) -> tuple[Message, ...]:
        columns = _by_role(value, roles)
        if not {"user", "assistant"} <= columns.keys():
            raise BadRow(
                "No columns are mapped to user and assistant.", hint="Map two columns, for example: question=user and reply=assistant."
            )
        texts = ((role, text_of(value, (columns[role],)) or "") for role in ROLES if role in columns)
        return conversation([Message(role, text) for role, text in texts if text.strip()])


def _by_role(value: Mapping[str, Any], roles: RoleMap) -> dict[str, str]:
    """Role -> column, for columns whose name is mapped to a role; the first column of a role counts."""
    found: dict[str, str] = {}
    for column in value:
        role = roles.get(str(column).strip().lower())
        if role is not None:
            found.setdefault(role, column)
    return found
