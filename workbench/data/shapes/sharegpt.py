"""Conversations as ShareGPT exports write them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from workbench.data.shapes.base import SHAPES, RoleMap
from workbench.data.shapes.messages import turns
from workbench.tokenizers import Message


@SHAPES.register(
    "sharegpt", label="ShareGPT", source="ShareGPT exports",
    help='A list "conversations" of objects with "from" (human, gpt, system) and "value".',
)  # fmt: skip
class ShareGPT:
    """`{"conversations": [{"from": "human", "value": "…"}, …], "system": "…"}`."""

    def recognises(self, value: Mapping[str, Any], roles: RoleMap) -> bool:
        return "conversations" in value or "conversation" in value

    def read(self, value: Mapping[str, Any], roles: RoleMap) -> tuple[Message, ...]:
        key = "conversation" if "conversation" in value else "conversations"
        read = turns(value.get(key), key, ("from", "role"), ("value", "content"), roles)
        system = value.get("system")
        return (Message("system", system), *read) if isinstance(system, str) and system.strip() else read
