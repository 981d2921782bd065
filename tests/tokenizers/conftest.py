"""Small tokenizers written out by hand, and the starter model's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from workbench.tokenizers import AddedToken, BpeSpec, BpeTokenizer, Tokenizer, bpe_tokenizer, tokenizer_from_gguf
from workbench.tokenizers.patterns import DIGITS_GPT2
from workbench.tokenizers.spec import LETTER_OF_BYTE


@pytest.fixture(scope="session")
def toy_spec() -> Callable[..., BpeSpec]:
    """Three control tokens, all bytes but 0x04 and 0xFF, and a few merges; keyword arguments replace fields."""

    def make(**changes: Any) -> BpeSpec:
        letters = [LETTER_OF_BYTE[b] for b in range(256) if b not in (0x04, 0xFF)]
        merges = ("h e", "l l", "he ll", "hell o", "Ġ w", "Ã ©", "a a")
        tokens = ("", "", "", *letters, *(m.replace(" ", "") for m in merges))
        added = tuple(AddedToken(i, name) for i, name in enumerate(("<|endoftext|>", "<|im_start|>", "<|im_end|>")))
        plain = dict(name="toy", tokens=tokens, merges=merges, pattern=DIGITS_GPT2, added=added, bos_id=1, eos_ids=(2,), pad_id=2)
        return BpeSpec(**{**plain, **changes})

    return make


@pytest.fixture(scope="session")
def toy(toy_spec: Callable[..., BpeSpec]) -> Tokenizer:
    return bpe_tokenizer(toy_spec())


@pytest.fixture(scope="session")
def starter_fields(starter_path: Path) -> Mapping[str, Any]:
    """The metadata of the starter model's file."""
    from workbench.checkpoints.gguf_file import GGUFFile

    file = GGUFFile(starter_path)
    try:
        return dict(file.metadata)
    finally:
        file.close()


@pytest.fixture(scope="session")
def starter(starter_fields: Mapping[str, Any]) -> BpeTokenizer:
    found = tokenizer_from_gguf(starter_fields)
    assert isinstance(found, BpeTokenizer)
    return found
