"""The conversation as data: branches, versions, and files."""

from __future__ import annotations

import json

import pytest

from workbench.core.errors import DataError
from workbench.generation import Conversation


def said(conversation: Conversation) -> list[str]:
    return [t.content for t in conversation.shown]


@pytest.fixture
def talk() -> Conversation:
    return Conversation("Be brief.").add("user", "q1").add("assistant", "a1").add("user", "q2").add("assistant", "a2")


def test_messages_begin_with_the_system_prompt_if_there_is_one(talk: Conversation) -> None:
    assert [(m.role, m.content) for m in talk.messages][:2] == [("system", "Be brief."), ("user", "q1")]
    assert [m.role for m in talk.with_system("").messages] == ["user", "assistant"] * 2


def test_nothing_changes_in_place(talk: Conversation) -> None:
    before = talk.to_dict()
    talk.add("user", "x")
    talk.edit(0, "y")
    talk.regenerate()
    assert talk.to_dict() == before


def test_regenerate_makes_another_version_of_the_last_reply(talk: Conversation) -> None:
    again = talk.regenerate()
    assert said(again) == ["q1", "a1", "q2"]
    second = again.add("assistant", "a2b")
    assert said(second) == ["q1", "a1", "q2", "a2b"]
    assert second.versions(3) == (1, 2)
    assert said(second.choose(3, 0)) == ["q1", "a1", "q2", "a2"]


def test_an_edit_keeps_the_old_branch_with_all_that_followed(talk: Conversation) -> None:
    edited = talk.edit(0, "q1b")
    assert said(edited) == ["q1b"]
    longer = edited.add("assistant", "b1")
    assert longer.versions(0) == (1, 2)
    assert said(longer.choose(0, 0)) == ["q1", "a1", "q2", "a2"]
    assert said(longer.choose(0, 0).choose(0, 1)) == ["q1b", "b1"]


def test_choosing_a_version_goes_on_with_its_newest_followers(talk: Conversation) -> None:
    newest = talk.regenerate().add("assistant", "a2b").edit(0, "other").choose(0, 0)
    assert said(newest) == ["q1", "a1", "q2", "a2b"]


def test_regenerate_needs_a_reply() -> None:
    with pytest.raises(DataError, match="no reply"):
        Conversation().add("user", "q").regenerate()


def test_wrong_indices_and_roles_are_named(talk: Conversation) -> None:
    with pytest.raises(DataError, match="no turn 9"):
        talk.edit(9, "x")
    with pytest.raises(DataError, match="Version 4"):
        talk.choose(0, 4)
    with pytest.raises(DataError, match="system"):
        talk.add("system", "x")


def test_it_survives_a_file(talk: Conversation) -> None:
    talk = talk.regenerate().add("assistant", "a2b", {"tokens_per_second": 3.5})
    read = Conversation.from_dict(json.loads(json.dumps(talk.to_dict())))
    assert read == talk
    assert read.shown[-1].figures["tokens_per_second"] == 3.5


def test_a_long_conversation_is_no_deep_recursion() -> None:
    talk = Conversation()
    for i in range(1500):
        talk = talk.add("user" if i % 2 == 0 else "assistant", str(i))
    assert len(Conversation.from_dict(json.loads(json.dumps(talk.to_dict()))).shown) == 1500


@pytest.mark.parametrize(
    "damage",
    [
        {"turns": [{"role": "user", "content": "x", "parent": 0}]},
        {"turns": [{"role": "tool", "content": "x", "parent": None}]},
        {"turns": [{"role": "user", "parent": None}]},
        {"turns": [], "leaf": 3},
    ],
)
def test_damaged_files_are_refused(damage: dict[str, object]) -> None:
    with pytest.raises(DataError):
        Conversation.from_dict(damage)
