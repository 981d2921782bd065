"""A byte-level BPE learnt from text by the `tokenizers` library, as the data of a tokenizer.json.

data = trained_bpe(texts, vocab_size=2048)
write_pipeline(folder, data); tokenizer = tokenizer_from_folder(folder)        # or tokenizer_from_pipeline(data, …) at once
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from workbench.core.store import atomic_folder, write_text
from workbench.tokenizers.base import MASK, Tokenizer
from workbench.tokenizers.from_hf import tokenizer_from_pipeline

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
"""The end of a text, and what frames a chat: the names that `ByteTokenizer` has too."""
SAMPLE_CHARACTERS = 20_000_000
"""As much of the text is counted; merges hardly change with more, and memory grows with it."""
_PIECE = 10_000


def trained_bpe(texts: Iterable[str], vocab_size: int, mask: bool = False) -> dict[str, Any]:
    """The tokenizer.json of a BPE with at most `vocab_size` tokens: special ones, the 256 bytes, then merges by frequency.

    Pairs that occur once make no token, so little text gives a smaller vocabulary. `mask` adds a token that hides another.
    """
    from tokenizers import Tokenizer as Engine
    from tokenizers import decoders, models, pre_tokenizers, trainers

    engine = Engine(models.BPE())
    engine.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    engine.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, min_frequency=2, special_tokens=[*SPECIAL, *(MASK[:1] if mask else ())],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False,
    )  # fmt: skip
    engine.train_from_iterator(_sample(texts), trainer)
    data: dict[str, Any] = json.loads(engine.to_str())
    return data


def _sample(texts: Iterable[str]) -> Iterator[str]:
    """Pieces of the texts, evenly spread when there is more than is counted."""
    pieces = [text[at : at + _PIECE] for text in texts for at in range(0, len(text), _PIECE)]
    total = sum(map(len, pieces))
    step = max(1.0, total / SAMPLE_CHARACTERS)
    return (pieces[int(i * step)] for i in range(int(len(pieces) / step)))


def facts() -> dict[str, Any]:
    """What tokenizer_config.json says beside such a file."""
    return {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": SPECIAL[0], "pad_token": SPECIAL[0]}


def bpe_from_pipeline(data: dict[str, Any], name: str) -> Tokenizer:
    """The tokenizer of what `trained_bpe` gave, as reading the folder back would."""
    return tokenizer_from_pipeline(data, facts(), name)


def write_pipeline(folder: Path, data: dict[str, Any]) -> None:
    """Write tokenizer.json and tokenizer_config.json, which other programs read as well."""
    with atomic_folder(folder) as part:
        write_text(part / "tokenizer.json", json.dumps(data, ensure_ascii=False, indent=1))
        write_text(part / "tokenizer_config.json", json.dumps(facts(), indent=1))


