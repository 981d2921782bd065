"""Documents become one stream, cut into windows of equal length, every token a target once."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from workbench.core.control import Control
from workbench.core.errors import DataError
from workbench.data import Corpus, DataConfig, Documents, TextExample, read_documents, windows
from workbench.data.examples import ChatExample
from workbench.tokenizers import CHATML, ByteTokenizer, Message, chat_template

END = 256


def ended(events: Any) -> Any:
    while True:
        try:
            next(events)
        except StopIteration as end:
            return end.value


def texts(*contents: str) -> Documents:
    return Documents(tuple(TextExample(content, "a.txt", n) for n, content in enumerate(contents)))


def cut(documents: Documents, length: int = 8, lookahead: int = 1, fraction: float = 0.0, seed: int = 0) -> Corpus:
    tokenizer = ByteTokenizer()
    template = chat_template(CHATML, tokenizer)
    found: Corpus = ended(
        windows(documents, tokenizer, template, length=length, lookahead=lookahead, fraction=fraction, seed=seed, control=Control())
    )
    return found


def stream(contents: Iterable[str]) -> list[int]:
    return [id for text in contents for id in (*text.encode(), END)]


def test_windows_overlap_by_what_is_predicted() -> None:
    corpus = cut(texts("abcdefghij", "klmnopqrst"))
    wanted = stream(["abcdefghij", "klmnopqrst"])
    assert corpus.tokens == len(wanted) == 22
    rows = corpus.training.ids.reshape(-1, 9)
    assert rows.tolist() == [wanted[0:9], wanted[8:17]]
    assert corpus.training.trained.reshape(-1, 9)[:, 0].tolist() == [False, False]
    assert corpus.training.trained_tokens == 16


def test_masked_windows_do_not_overlap() -> None:
    rows = cut(texts("abcdefghij", "klmnopqrst"), lookahead=0).training.ids.reshape(-1, 8)
    wanted = stream(["abcdefghij", "klmnopqrst"])
    assert rows.tolist() == [wanted[0:8], wanted[8:16]]


def test_every_token_but_the_first_is_a_target_once_up_to_the_last_whole_window() -> None:
    contents = ["x" * n + str(n) for n in range(40)]
    corpus = cut(texts(*contents), length=16)
    wanted = stream(contents)
    rows = corpus.training.ids.reshape(-1, 17)
    targets = np.concatenate([[wanted[0]], *(row[1:] for row in rows)]).tolist()
    assert targets == wanted[: len(targets)]
    assert len(wanted) - len(targets) < 16


def test_whole_documents_are_held_out() -> None:
    contents = [chr(97 + n) * 30 for n in range(20)]
    corpus = cut(texts(*contents), fraction=0.2)
    train, held = (set(d.ids.tolist()) - {END} for d in (corpus.training, corpus.validation))
    assert train
    assert held
    assert not train & held
    assert 0.1 < corpus.validation.tokens / corpus.tokens < 0.4
    assert corpus.validation.ids.tolist() == cut(texts(*contents), fraction=0.2).validation.ids.tolist()
    assert corpus.validation.ids.tolist() != cut(texts(*contents), fraction=0.2, seed=1).validation.ids.tolist()


def test_of_a_single_document_the_end_is_held_out() -> None:
    content = "".join(chr(33 + n % 90) for n in range(300))
    corpus = cut(texts(content), fraction=0.1)
    assert corpus.validation.ids.tolist()[:9] == stream([content])[301 - 30 :][:9]
    assert len(corpus.training) == (271 - 1) // 8


def test_too_little_to_hold_out_leaves_all_of_it_to_training() -> None:
    corpus = cut(texts("abcdefghij"), fraction=0.1)
    assert (len(corpus.training), len(corpus.validation)) == (1, 0)


def test_data_shorter_than_a_window_say_what_would_fit() -> None:
    with pytest.raises(DataError, match=r"have 4 tokens; one window of the training context takes 9") as caught:
        cut(texts("abc"))
    assert "8 or less" in caught.value.hint


def test_conversations_are_framed_as_a_chat() -> None:
    chat = ChatExample((Message("user", "hi"), Message("assistant", "yes")), "a.jsonl", 1)
    documents = Documents((chat,))
    assert documents.chats
    assert list(documents.texts()) == ["hi", "yes"]
    ids = cut(documents).training.ids.tolist()
    assert 257 in ids
    assert 258 in ids


def test_files_are_read_once_and_problems_kept(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one document")
    (tmp_path / "b.txt").write_bytes(b"good\n\xff\xfe bad")
    config = DataConfig(sources=(str(tmp_path),))
    documents = ended(read_documents(config, Control()))
    assert [e.text for e in documents.examples if isinstance(e, TextExample)] == ["one document"]
    assert len(documents.problems) == 1


@pytest.mark.parametrize("content", ["", "  \n\n"])
def test_empty_data_are_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.txt").write_text(content)
    with pytest.raises(DataError, match="empty"):
        ended(read_documents(DataConfig(sources=(str(tmp_path / "a.txt"),)), Control()))


def test_a_stop_ends_the_reading(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("text")
    control = Control()
    control.stop()
    assert ended(read_documents(DataConfig(sources=(str(tmp_path),)), control)).stopped
