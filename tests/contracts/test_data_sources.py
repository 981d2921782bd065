"""Every built-in data set can be learnt from."""

from __future__ import annotations

import itertools

import pytest

from workbench.data import SOURCES, ChatExample, TextExample, prepare, read_examples
from workbench.tokenizers import ByteTokenizer, chat_template


@pytest.mark.parametrize("name", SOURCES.names())
def test_it_can_be_learnt_from_and_is_the_same_each_time(name: str) -> None:
    first, second = (list(itertools.islice(read_examples([name]), 40)) for _ in range(2))
    assert first == second
    assert all(isinstance(e, (ChatExample, TextExample)) for e in first)
    tokenizer = ByteTokenizer()
    report = prepare(first, tokenizer, chat_template(None, tokenizer), 4096).report
    assert report.kept == 40
    assert not report.notes
