"""A BPE learnt from text: the library's own encoding, read back from disk the same."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from workbench.tokenizers import BpeTokenizer, end_of_text_id, mask_token_id, tokenizer_from_folder, tokenizer_from_json
from workbench.tokenizers import train_bpe as module
from workbench.tokenizers.train_bpe import SPECIAL, bpe_from_pipeline, trained_bpe, write_pipeline

TEXTS = ["the cat sat on the mat, the cat sat.\n", "def the_cat(self):\n    return self.mat[0]\n", "Größe — naïve café 日本語 🙂\n"] * 20
PROBES = [*TEXTS[:3], "", " ", "\n\n\t", "unseen words, ÆØÅ, \x00\x7f", "🙂🙂", "<|endoftext|>", "the  cat   sat"]


@pytest.fixture(scope="module")
def data() -> dict[str, object]:
    return trained_bpe(TEXTS, 400)


def test_it_encodes_as_the_library_does(data: dict[str, object]) -> None:
    from tokenizers import Tokenizer as Engine

    engine, ours = Engine.from_str(json.dumps(data)), bpe_from_pipeline(data, "learnt")
    for text in PROBES:
        if "<|" not in text:  # the library finds special tokens in anybody's text; ours does not
            assert ours.encode(text) == engine.encode(text).ids, text
        assert ours.decode(ours.encode(text)) == text


def test_it_is_read_back_identically(data: dict[str, object], tmp_path: Path) -> None:
    write_pipeline(tmp_path / "tokenizer", data)
    one, other = bpe_from_pipeline(data, "tokenizer"), tokenizer_from_folder(tmp_path / "tokenizer")
    assert other is not None
    assert isinstance(other, BpeTokenizer), "the fast engine runs it"
    assert one.to_json() == other.to_json()
    saved = tokenizer_from_json(json.loads(json.dumps(other.to_json())))
    for text in PROBES:
        assert one.encode(text) == other.encode(text) == saved.encode(text)


def test_special_tokens_come_first_and_never_from_text(data: dict[str, object]) -> None:
    tokenizer = bpe_from_pipeline(data, "learnt")
    assert [tokenizer.special[name] for name in SPECIAL] == [0, 1, 2]
    assert end_of_text_id(tokenizer) == 0
    assert tokenizer.pad_id == 0
    assert not set(tokenizer.encode("<|endoftext|><|im_start|>")) & {0, 1, 2}
    assert mask_token_id(tokenizer) is None


def test_frequent_words_become_tokens(data: dict[str, object]) -> None:
    tokenizer = bpe_from_pipeline(data, "learnt")
    assert len(tokenizer.encode(" the cat sat")) <= 4
    assert tokenizer.vocab_size <= 400


def test_little_text_gives_a_smaller_vocabulary() -> None:
    tokenizer = bpe_from_pipeline(trained_bpe(["aaa bbb aaa bbb"], 5000), "small")
    assert 259 <= tokenizer.vocab_size < 280
    assert tokenizer.decode(tokenizer.encode("anything 日")) == "anything 日"


def test_a_mask_token_is_there_for_those_who_ask() -> None:
    tokenizer = bpe_from_pipeline(trained_bpe(TEXTS, 400, mask=True), "masked")
    assert mask_token_id(tokenizer) == tokenizer.special["[MASK]"] == 3
    assert 3 not in tokenizer.encode("[MASK]")


def test_the_same_text_gives_the_same_tokens() -> None:
    assert trained_bpe(TEXTS, 350) == trained_bpe(iter(TEXTS), 350)


def test_of_very_much_text_an_even_share_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SAMPLE_CHARACTERS", 40)
    monkeypatch.setattr(module, "_PIECE", 10)
    found = list(module._sample(f"text {i:05}" for i in range(100)))
    assert found == ["text 00000", "text 00025", "text 00050", "text 00075"]
