"""Tokenizers from the metadata of GGUF files (keys `tokenizer.ggml.*`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from workbench.core.errors import ModelError
from workbench.tokenizers.base import AddedToken, Tokenizer
from workbench.tokenizers.bpe import bpe_tokenizer
from workbench.tokenizers.byte_level import ByteTokenizer
from workbench.tokenizers.patterns import WHOLE_PIECES_FIRST, pattern_of
from workbench.tokenizers.rust import RustTokenizer, sentencepiece_pipeline
from workbench.tokenizers.spec import BpeSpec, letters_of

NORMAL, UNKNOWN, CONTROL, USER, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
"""Types of tokens."""
NEVER_MERGED = "ÿ ÿ"
"""The only merge of a tokenizer that works on bytes: llama.cpp demands one, and 0xFF never occurs in UTF-8."""


def tokenizer_from_gguf(fields: Mapping[str, Any]) -> Tokenizer | None:
    """The tokenizer of a GGUF file whose metadata are `fields` (key -> plain Python value); None when it has none.

    Raises `ModelError` naming the tokenizer model or pre-tokenizer that is not known, or what is damaged.
    """
    model = fields.get("tokenizer.ggml.model")
    if model is None or model in ("none", "no_vocab"):
        return None
    makers = {"gpt2": _bpe, "llama": _sentencepiece}
    if model not in makers:
        raise ModelError(
            f"The file's tokenizer model {model!r} is not supported.",
            hint=f"Choose a file with one of: {', '.join(makers)}; or the model's Hugging Face folder with tokenizer.json.",
        )
    return makers[model](fields)


def chat_template_text(fields: Mapping[str, Any]) -> str | None:
    """The chat template the file carries, if any."""
    text = fields.get("tokenizer.chat_template")
    return text if isinstance(text, str) and text.strip() else None


def _tokens(fields: Mapping[str, Any]) -> tuple[Sequence[str], Sequence[int]]:
    tokens = fields.get("tokenizer.ggml.tokens")
    if not tokens:
        raise ModelError("The file names a tokenizer but holds no tokens.", hint="The file is incomplete; download it again.")
    types = fields.get("tokenizer.ggml.token_type") or [NORMAL] * len(tokens)
    if len(types) != len(tokens):
        raise ModelError(f"The file has {len(tokens)} tokens but {len(types)} token types.", hint="The file is damaged; download it again.")
    return tokens, types


def _added(tokens: Sequence[str], types: Sequence[int]) -> tuple[AddedToken, ...]:
    return tuple(
        AddedToken(id, text, special=type != USER)
        for id, (text, type) in enumerate(zip(tokens, types, strict=True))
        if type in (CONTROL, USER, UNKNOWN) and text
    )


def _ends(fields: Mapping[str, Any], size: int) -> dict[str, Any]:
    """Begin, end and padding ids, as arguments; ids outside the vocabulary are left out."""

    def id_of(name: str) -> int | None:
        value = fields.get(f"tokenizer.ggml.{name}_token_id")
        return int(value) if value is not None and 0 <= int(value) < size else None

    ends = [id_of(name) for name in ("eos", "eot", "eom")]
    return {"bos_id": id_of("bos"), "eos_ids": tuple(i for i in ends if i is not None), "pad_id": id_of("padding")}


def byte_level_tokens(tokenizer: ByteTokenizer) -> dict[str, Any]:
    """The tokens of the byte tokenizer and their types, as metadata."""
    names = {id: name for name, id in tokenizer.special.items()}
    tokens = [names.get(id) or letters_of(tokenizer.token_bytes(id)) for id in range(tokenizer.vocab_size)]
    return {"tokens": tokens, "token_type": [CONTROL if id in names else NORMAL for id in range(tokenizer.vocab_size)]}


def _works_on_bytes(tokens: Sequence[str], types: Sequence[int]) -> bool:
    """Whether this is our byte tokenizer, with unused tokens after it or not."""
    plain = byte_level_tokens(ByteTokenizer())
    size = len(plain["tokens"])
    same = list(tokens[:size]) == plain["tokens"] and list(types[:size]) == plain["token_type"]
    return same and all(type == UNUSED for type in types[size:])


def _bpe(fields: Mapping[str, Any]) -> Tokenizer:
    tokens, types = _tokens(fields)
    if list(fields.get("tokenizer.ggml.merges") or ()) == [NEVER_MERGED] and _works_on_bytes(tokens, types):
        return ByteTokenizer()
    pre = fields.get("tokenizer.ggml.pre")
    notes = []
    if pre in (None, "", "default"):
        pre = "gpt-2"
        notes.append(
            "The file does not say how text is cut before merging (tokenizer.ggml.pre); GPT-2's way is assumed, which can be wrong."
        )
    whole = pre in WHOLE_PIECES_FIRST
    merges = fields.get("tokenizer.ggml.merges") or ()
    spec = BpeSpec(
        name=f"bpe/{pre}",
        tokens=tuple(t if type == NORMAL else "" for t, type in zip(tokens, types, strict=True)),
        merges=tuple(merges),
        pattern=pattern_of(str(pre)),
        added=_added(tokens, types),
        ignore_merges=whole,
        add_bos=bool(fields.get("tokenizer.ggml.add_bos_token", whole)),
        notes=tuple(notes),
        **_ends(fields, len(tokens)),
    )
    return bpe_tokenizer(spec)


def _sentencepiece(fields: Mapping[str, Any]) -> Tokenizer:
    tokens, types = _tokens(fields)
    scores = fields.get("tokenizer.ggml.scores")
    if not scores or len(scores) != len(tokens):
        raise ModelError(
            f"The file has {len(tokens)} tokens but {len(scores or ())} scores.", hint="The file is damaged; download it again."
        )
    added = _added(tokens, types)
    unused = {id for id, type in enumerate(types) if type == UNUSED}
    plain = [("" if id in unused else token) for id, token in enumerate(tokens)]
    pipeline = sentencepiece_pipeline(plain, scores, added, bool(fields.get("tokenizer.ggml.add_space_prefix", True)))
    return RustTokenizer(
        pipeline, name="sentencepiece", add_bos=bool(fields.get("tokenizer.ggml.add_bos_token", True)), **_ends(fields, len(tokens))
    )
