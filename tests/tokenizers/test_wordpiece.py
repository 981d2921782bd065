"""BERT's tokenizer: words in pieces, the later ones marked by ##."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from workbench.tokenizers import StreamDecoder, mask_token_id, tokenizer_from_folder, tokenizer_from_json

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "cat", "##s", "sat", "un", "##believ", "##able", ".", "a"]
SPECIAL = {name: WORDS.index(name) for name in WORDS[:5]}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    named = {"special": True, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    data: dict[str, Any] = {
        "version": "1.0",
        "added_tokens": [{"id": id, "content": name, **named} for name, id in SPECIAL.items()],
        "normalizer": {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "lowercase": True},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]},
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {
            "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100,
            "vocab": {word: id for id, word in enumerate(WORDS)},
        },
    }  # fmt: skip
    (tmp_path / "tokenizer.json").write_text(json.dumps(data))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"cls_token": "[CLS]", "mask_token": "[MASK]", "pad_token": "[PAD]"}))
    return tmp_path


def test_ids_are_the_librarys(folder: Path) -> None:
    from tokenizers import Tokenizer

    tokenizer = tokenizer_from_folder(folder)
    assert tokenizer is not None
    library = Tokenizer.from_file(str(folder / "tokenizer.json"))
    for text in ("The cats sat.", "unbelievable  cat", "qqq sat", ""):
        assert tokenizer.encode(text) == library.encode(text, add_special_tokens=False).ids
    assert tokenizer.encode("the [MASK] sat", special=True) == [5, 4, 8]
    assert 4 not in tokenizer.encode("the [MASK] sat")
    assert (tokenizer.pad_id, mask_token_id(tokenizer), tokenizer.vocab_size) == (0, 4, len(WORDS))


def test_pieces_join_and_words_part(folder: Path) -> None:
    tokenizer = tokenizer_from_folder(folder)
    assert tokenizer is not None
    ids = tokenizer.encode("the unbelievable cats")
    assert tokenizer.decode(ids) == "the unbelievable cats"
    stream = StreamDecoder(tokenizer)
    assert "".join(stream.push(id) for id in ids) == " the unbelievable cats"
    assert tokenizer.token_text(7) == "s"
    again = tokenizer_from_json(tokenizer.to_json())
    assert again.encode("the cats") == tokenizer.encode("the cats")
