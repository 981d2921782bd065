"""What rows mean, and what is said of rows that mean nothing."""

from __future__ import annotations

from typing import Any

import pytest

from workbench.core.errors import ConfigError
from workbench.data.examples import BadRow
from workbench.data.shapes import role_map, shape_of
from workbench.tokenizers import Message

ROLES = role_map(())
ASK = {"role": "user", "content": "q"}
REPLY = {"role": "assistant", "content": "a"}
TURN = (Message("user", "q"), Message("assistant", "a"))


def read(row: dict[str, Any], name: str | None = None, *pairs: str) -> tuple[Message, ...] | str:
    roles = role_map(pairs)
    return shape_of(row, roles, name).read(row, roles)


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"messages": [ASK, REPLY]}, TURN),
        ({"messages": [{"role": "Human", "content": [{"type": "text", "text": "q"}]}, {"role": "bot", "content": "a"}]}, TURN),
        ({"messages": [{"role": "developer", "content": "s"}, ASK, REPLY], "text": "x"}, (Message("system", "s"), *TURN)),
        ({"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]}, TURN),
        (
            {"conversations": [{"role": "user", "content": "q"}, {"from": "gpt", "value": "a"}], "system": "s"},
            (Message("system", "s"), *TURN),
        ),
        ({"instruction": "q", "output": "a", "input": ""}, TURN),
        ({"instruction": "q", "output": "a", "input": "x"}, (Message("user", "q\n\nx"), TURN[1])),
        ({"prompt": "q", "completion": " a"}, TURN),
        ({"question": "q", "answer": "a"}, TURN),
        ({"prompt": [ASK], "completion": [REPLY]}, TURN),
        ({"text": "hello", "url": "x"}, "hello"),
        ({"user": "q", "assistant": "a", "system": None}, TURN),
    ],
)
def test_rows_are_recognised_by_their_keys(row: dict[str, Any], expected: object) -> None:
    assert read(row) == expected


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({}, "no known format"),
        ({"foo": "bar"}, "'foo'"),
        ({"messages": []}, "empty"),
        ({"messages": None}, "missing"),
        ({"messages": "hi"}, "str"),
        ({"messages": [ASK]}, "no reply"),
        ({"messages": [ASK, {"role": "assistant", "content": " "}]}, "replies of the conversation are empty"),
        ({"messages": [ASK, {"role": "assistant", "content": None}]}, r"Message 2 \(assistant\) has no text"),
        ({"messages": [ASK, {"role": "assistant", "content": 3}]}, "int"),
        ({"messages": [ASK, {"role": "assistant"}]}, "Message 2 has no 'content'"),
        ({"messages": ["hi"]}, "Message 1 has no 'role'"),
        ({"messages": [{"role": "narrator", "content": "x"}, REPLY]}, "'narrator'"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}, REPLY]}, "list"),
        ({"conversations": [{"from": "human"}]}, "no 'value'"),
        ({"instruction": " ", "output": "a"}, "lacks"),
        ({"instruction": "q", "output": ""}, "empty"),
        ({"prompt": "", "completion": "a"}, "prompt is empty"),
        ({"prompt": "q", "completion": None}, "empty"),
        ({"prompt": {"a": 1}, "completion": "a"}, "dict"),
        ({"text": "  "}, "empty"),
        ({"user": "q", "assistant": ""}, "no reply"),
    ],
)
def test_unusable_rows_say_why_and_how_to_mend_them(row: dict[str, Any], says: str) -> None:
    with pytest.raises(BadRow, match=says) as caught:
        read(row)
    assert caught.value.hint


def test_roles_of_speakers_and_columns_can_be_mapped_by_hand() -> None:
    told = {"messages": [{"role": "Narrator", "content": "q"}, REPLY]}
    assert read(told, None, "narrator=user") == TURN
    assert read({"Ticket": "q", "Reply": "a", "id": 4}, None, "ticket=user", "reply=assistant") == TURN
    assert read({"prompt": "x", "q": "q", "r": "a"}, "columns", "q=user", "r=assistant") == TURN


@pytest.mark.parametrize("pair", ["user", "=user", "x=boss", "x="])
def test_a_mapping_that_maps_nothing_is_an_error(pair: str) -> None:
    with pytest.raises(ConfigError) as caught:
        role_map([pair])
    assert caught.value.hint


def test_a_format_given_by_name_is_used_even_where_another_fits() -> None:
    assert read({"messages": [ASK, REPLY], "text": "t"}, "text") == "t"
    with pytest.raises(BadRow, match="No columns"):
        read({"text": "t"}, "columns")
