"""Every row format keeps the promises of `RowShape`."""

from __future__ import annotations

from typing import Any

import pytest

from workbench.data import SHAPES
from workbench.data.examples import BadRow
from workbench.data.shapes import role_map
from workbench.tokenizers import Message

ROLES = role_map(("ticket=user", "reply=assistant"))
EXAMPLES: dict[str, dict[str, Any]] = {
    "messages": {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]},
    "sharegpt": {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]},
    "alpaca": {"instruction": "q", "output": "a"},
    "prompt-completion": {"prompt": "q", "completion": "a"},
    "columns": {"ticket": "q", "reply": "a"},
    "text": {"text": "a document"},
}


@pytest.mark.parametrize("name", SHAPES.names())
def test_its_own_rows_are_recognised_and_read(name: str) -> None:
    shape = SHAPES[name].make()
    assert shape.recognises(EXAMPLES[name], ROLES)
    found = shape.read(EXAMPLES[name], ROLES)
    assert found == ("a document" if name == "text" else (Message("user", "q"), Message("assistant", "a")))


@pytest.mark.parametrize("name", SHAPES.names())
@pytest.mark.parametrize("row", [{}, {"x": 1}, {"": None}])
def test_a_strange_row_is_not_recognised_and_cannot_crash_it(name: str, row: dict[str, Any]) -> None:
    shape = SHAPES[name].make()
    assert not shape.recognises(row, ROLES)
    with pytest.raises(BadRow) as caught:
        shape.read(row, ROLES)
    assert caught.value.hint


@pytest.mark.parametrize("name", SHAPES.names())
@pytest.mark.parametrize("junk", [None, "", [], {}, [[]], [None], [{}], {"role": 1}], ids=repr)
def test_junk_under_its_own_keys_is_a_bad_row(name: str, junk: Any) -> None:
    with pytest.raises(BadRow) as caught:
        SHAPES[name].make().read(dict.fromkeys(EXAMPLES[name], junk), ROLES)
    assert caught.value.message.endswith(".")
    assert caught.value.hint
