"""Plain documents in a column."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from workbench.data.examples import BadRow
from workbench.data.shapes.base import SHAPES, RoleMap, text_of

_NAMES = ("text", "content", "document")


@SHAPES.register(
    "text", label="Text", source="the text column of language modelling sets", help='A column "text"; every token of it is learnt.'
)  # fmt: skip
class Document:
    """`{"text": "…"}`."""

    def recognises(self, value: Mapping[str, Any], roles: RoleMap) -> bool:
        return any(isinstance(value.get(name), str) for name in _NAMES)

    def read(self, value: Mapping[str, Any], roles: RoleMap) -> str:
        text = text_of(value, _NAMES)
        if text is None or not text.strip():
            raise BadRow("The text is empty.", hint="Add text, or delete the row.")
        return text
