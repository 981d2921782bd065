"""Instructions as Stanford Alpaca writes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from workbench.data.examples import BadRow
from workbench.data.shapes.base import SHAPES, RoleMap, conversation, text_of
from workbench.tokenizers import Message


@SHAPES.register(
    "alpaca", label="Alpaca", source="Stanford Alpaca",
    help='Objects with "instruction", an optional "input" below it, and the "output" to learn.',
)  # fmt: skip
class Alpaca:
    """`{"instruction": "…", "input": "…", "output": "…", "system": "…"}`."""

    def recognises(self, value: Mapping[str, Any], roles: RoleMap) -> bool:
        return "instruction" in value and ("output" in value or "response" in value)

    def read(self, value: Mapping[str, Any], roles: RoleMap) -> tuple[Message, ...]:
        instruction, output = text_of(value, ("instruction",)), text_of(value, ("output", "response"))
        if not (instruction or "").strip() or output is None:
            raise BadRow("The row lacks an instruction or an output.", hint="Fill in 'instruction' and 'output'.")
        extra, system = text_of(value, ("input", "context")), text_of(value, ("system",))
        question = f"{instruction}\n\n{extra}" if extra and extra.strip() else str(instruction)
        before = (Message("system", system),) if system and system.strip() else ()
        return conversation([*before, Message("user", question), Message("assistant", output)])
