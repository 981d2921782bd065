"""Chats on disk and in words."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from ui.chat.transcript import Archive, Chat, figures_text, last_reply, markdown, noted, title_of, tokens_used, writer_text
from workbench.core.errors import DataError, FileError
from workbench.generation import Conversation, GenerationConfig

FIGURES = {
    "tokens_per_second": 31.24, "first_token_ms": 182.0, "cached": True, "cache_bytes": 1_234_567, "reused_tokens": 1200,
    "prompt_tokens": 50, "new_tokens": 7, "stop_reason": "length",
}  # fmt: skip
TALK = Conversation(system="Be brief.").add("user", "Hello\nyou").add("assistant", "Hi.", FIGURES)


def test_figures_are_one_line_with_units() -> None:
    expected = "31.2 tok/s · first token 182 ms · cache 1.2 MB · cached · 1,200 tokens reused · longest reply reached"
    assert figures_text(FIGURES) == expected
    assert figures_text({"cached": False, "stop_reason": "stopped"}) == "uncached · stopped"
    assert figures_text({}) == ""


def test_saved_and_read_it_is_the_same(tmp_path: Path) -> None:
    chat = Chat(TALK.edit(0, "Other").add("assistant", "Yes"), GenerationConfig(temperature=0.9, stop=("###",)))
    chat.save(tmp_path / "a.json")
    assert Chat.read(tmp_path / "a.json") == chat


def test_settings_of_another_age_do_not_cost_the_talk(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    Chat(TALK).save(path)
    data = json.loads(path.read_text(encoding="utf-8"))
    data["generation"] = {"temperature": 99, "gone": 1}
    path.write_text(json.dumps(data), encoding="utf-8")
    assert Chat.read(path) == Chat(TALK, GenerationConfig())


@pytest.mark.parametrize("conversation", [{"turns": [3]}, {"turns": [{"role": "x", "content": "y", "parent": None}]}, [], {"turns": 1}])
def test_a_damaged_conversation_is_one_sentence(tmp_path: Path, conversation: object) -> None:
    path = tmp_path / "a.json"
    Chat(TALK).save(path)
    data = json.loads(path.read_text(encoding="utf-8"))
    data["conversation"] = conversation
    path.write_text(json.dumps(data), encoding="utf-8")
    with pytest.raises(DataError) as caught:
        Chat.read(path)
    assert caught.value.hint


def test_another_file_is_no_chat(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{}", encoding="utf-8")
    with pytest.raises(FileError):
        Chat.read(tmp_path / "a.json")


def test_the_newest_chat_comes_first_and_names_are_never_taken_twice(tmp_path: Path) -> None:
    archive = Archive(tmp_path / "chats")
    assert archive.files() == []
    first = archive.fresh_path()
    Chat(TALK).save(first)
    second = archive.fresh_path()
    assert second != first
    Chat(TALK).save(second)
    import os

    os.utime(first, (2e9, 2e9))
    assert archive.files() == [first, second]


def test_markdown_has_everything_that_is_shown() -> None:
    text = markdown(noted(TALK, {"model": "tiny", "adapter": "pirate ×0.5"}))
    assert text.startswith("# Hello\n")
    for part in ("Be brief.", "## You\n\nHello\nyou", "## tiny + pirate ×0.5\n\nHi.", "31.2 tok/s"):
        assert part in text


def test_words_about_a_conversation() -> None:
    assert title_of(TALK) == "Hello"
    assert title_of(Conversation()) == "Empty chat"
    assert len(title_of(Conversation().add("user", "x" * 300))) <= 60
    assert tokens_used(TALK) == 57
    assert tokens_used(Conversation().add("user", "x")) is None
    assert last_reply(TALK) == TALK.turns[1]
    assert last_reply(replace(TALK, leaf=0)) is None
    assert writer_text({}) == "Model"
