"""Markdown cut into blocks: the same blocks however the text arrives, and every character kept."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ui.chat.blocks import Block, BlockSplitter, readable, split

SAMPLE = "Intro\n\n- a\n- b\n\n```py\nx = 1\n\ny = 2\n```\nAfter\n\n~~~\n```\n~~~\n\nLast"


def test_text_and_code_are_told_apart() -> None:
    assert split(SAMPLE) == [
        Block("text", "Intro\n\n- a\n- b\n\n"),
        Block("code", "x = 1\n\ny = 2", "py"),
        Block("text", "After\n\n"),
        Block("code", "```"),
        Block("text", "\nLast"),
    ]


def test_an_open_fence_is_code_that_is_not_closed() -> None:
    assert split("```rust\nfn main() {") == [Block("code", "fn main() {", "rust", closed=False)]


def test_a_fence_in_a_list_loses_its_indent() -> None:
    assert split("1. do\n   ```sh\n   ls\n     -l\n   ```\n")[1] == Block("code", "ls\n  -l", "sh")


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, len(SAMPLE) - 1), max_size=12))
def test_it_does_not_matter_in_which_pieces_the_text_comes(cuts: list[int]) -> None:
    splitter = BlockSplitter(chunk=10)
    for cut in sorted(cuts):
        splitter.update(SAMPLE[:cut])
    splitter.update(SAMPLE)
    whole = BlockSplitter(chunk=10)
    whole.update(SAMPLE)
    assert splitter.blocks == whole.blocks


@pytest.mark.parametrize("item", ["1. one", "12) twelve", "- one", "* one"])
def test_a_list_after_a_full_block_is_not_torn_off_by_a_pause_in_its_mark(item: str) -> None:
    text = "word " * 10 + "\n\n" + item + "\n"
    splitter = BlockSplitter(chunk=10)
    for end in range(1, len(text) + 1):
        splitter.update(text[:end])
    assert splitter.blocks == [Block("text", text)]


def test_only_the_last_block_changes() -> None:
    text = "".join(f"Paragraph {i} " + "words " * 30 + "\n\n" for i in range(40))
    splitter = BlockSplitter()
    for end in range(0, len(text), 97):
        before = list(splitter.blocks)
        first = splitter.update(text[:end])
        assert first >= len(before) - 1
        assert splitter.blocks[:first] == before[:first]
    splitter.update(text)
    assert "".join(b.text for b in splitter.blocks) == text
    assert max(len(b.text) for b in splitter.blocks) < 1_700


def test_a_long_list_or_table_is_not_cut() -> None:
    items = "".join(f"{i}. item {i} {'x' * 60}\n\n" for i in range(1, 60))
    assert len(split(items)) == 1


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\nb", "a  \nb"),
        ("a\n\nb", "a\n\nb"),
        ("![cat](http://x/y.png)", "[image: cat](http://x/y.png)"),
        ("![](x)", "[image: no description](x)"),
        ("`![cat](x)`", "`![cat](x)`"),
        (r"so \( a^2 \) and `\(`", r"so \\( a^2 \\) and `\(`"),
        (r"a row \\ and a \* star", r"a row \\\ and a \* star"),
    ],
)
def test_lines_stay_and_images_become_links(text: str, shown: str) -> None:
    assert readable(text) == shown
