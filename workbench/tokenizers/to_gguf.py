"""Tokenizers as the metadata of GGUF files: what `from_gguf` reads, and llama.cpp."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from workbench.core.errors import ModelError
from workbench.tokenizers.base import END_OF_TEXT, END_OF_TURN, AddedToken, Tokenizer
from workbench.tokenizers.bpe import BpeTokenizer
from workbench.tokenizers.byte_level import ByteTokenizer
from workbench.tokenizers.checks import examine
from workbench.tokenizers.from_gguf import BYTE, CONTROL, NEVER_MERGED, NORMAL, UNKNOWN, UNUSED, USER, byte_level_tokens
from workbench.tokenizers.from_hf import spec_of_pipeline
from workbench.tokenizers.patterns import GPT2, PATTERNS, WHOLE_PIECES_FIRST
from workbench.tokenizers.rust import BYTE_TOKEN, RustTokenizer
from workbench.tokenizers.spec import BpeSpec

_KEY = "tokenizer.ggml."
_SPELLINGS = {r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+": GPT2}
"""Other spellings of a known expression."""
_HINT = "Export a Hugging Face folder (hf), which holds this tokenizer as it is."


@dataclass(frozen=True)
class GGUFVocabulary:
    """`fields`: metadata as plain values. `notices`: what the file cannot say."""

    fields: Mapping[str, Any]
    notices: tuple[str, ...] = ()


def gguf_tokenizer(tokenizer: Tokenizer | None, size: int) -> GGUFVocabulary:
    """`tokenizer` for a model of `size` tokens; ids that it does not use become unused tokens.

    Raises `ModelError` for a tokenizer that GGUF cannot hold, or that has more tokens than the model.
    """
    if tokenizer is None:
        note = "The model has no tokenizer, so the file has none: programs can run it on token ids only."
        return GGUFVocabulary({_KEY + "model": "no_vocab"}, (note,))
    if tokenizer.vocab_size > size:
        raise ModelError(
            f"The tokenizer has {tokenizer.vocab_size:,} tokens, the model {size:,}; a GGUF file has one row for each.",
            hint="Export a Hugging Face folder (hf), which does not ask for this.",
        )
    notices: list[str] = []
    if isinstance(tokenizer, ByteTokenizer):
        fields = {"model": "gpt2", "pre": "gpt-2", **byte_level_tokens(tokenizer), "merges": [NEVER_MERGED]}
    elif (spec := _spec_of(tokenizer)) is not None:
        fields = _bpe(spec, notices)
    elif isinstance(tokenizer, RustTokenizer) and _is_sentencepiece(tokenizer.pipeline):
        fields = _sentencepiece(tokenizer)
    else:
        raise ModelError(f"GGUF cannot hold this model's tokenizer ({tokenizer.name}).", hint=_HINT)
    _padded(fields, size)
    fields |= _ends(tokenizer, fields, notices)
    return GGUFVocabulary({_KEY + key: value for key, value in fields.items()}, tuple(notices))


def _padded(fields: dict[str, Any], size: int) -> None:
    """Names for ids without a token: llama.cpp demands one for each row of the embedding, no two the same."""
    tokens, types = fields["tokens"], fields["token_type"]
    tokens += [""] * (size - len(tokens))
    types += [UNUSED] * (size - len(types))
    taken = set(tokens)
    for id, token in enumerate(tokens):
        if not token:
            name = f"[PAD{id}]"
            while name in taken:
                name += "_"
            taken.add(name)
            tokens[id] = name
    if "scores" in fields:
        fields["scores"] += [-10000.0] * (size - len(fields["scores"]))
    if len(taken - {""}) < size:
        double = next(token for token in tokens if tokens.count(token) > 1)
        raise ModelError(f"The tokenizer has the token {double!r} twice, which GGUF cannot hold.", hint=_HINT)


def _ends(tokenizer: Tokenizer, fields: Mapping[str, Any], notices: list[str]) -> dict[str, Any]:
    """Begin, end and padding. llama.cpp takes ids of its own where a file is silent, so an end is always named."""
    ends = list(tokenizer.eos_ids)
    unused = next((id for id, type in enumerate(fields["token_type"]) if type == UNUSED), None)
    named: dict[str, Any] = {"add_bos_token": tokenizer.add_bos, "add_eos_token": False}
    if not ends:
        end = tokenizer.pad_id if tokenizer.pad_id is not None else unused
        if end is None:
            notices.append("The tokenizer has no end token, so llama.cpp takes its default, and may stop there.")
        ends = [] if end is None else [end]
    if ends:
        named["eos_token_id"] = ends[0]
    known = {tokenizer.special[name] for name in (*END_OF_TURN, *END_OF_TEXT) if name in tokenizer.special}
    rest = [id for id in ends[1:] if id not in known]  # both programs know these by name
    named |= {f"{key}_token_id": id for key, id in zip(("eot", "eom"), rest, strict=False)}
    if len(rest) > 2:
        notices.append(f"GGUF names three tokens that end a text; {len(rest) - 2} more are left out.")
    if tokenizer.bos_id is not None:
        named["bos_token_id"] = tokenizer.bos_id
    if tokenizer.pad_id is not None:
        named["padding_token_id"] = tokenizer.pad_id
    return named


# ---- byte-level BPE ----------------------------------------------------------------------------------------------


def _spec_of(tokenizer: Tokenizer) -> BpeSpec | None:
    """The byte-level BPE that a tokenizer is; None when it is something else."""
    if isinstance(tokenizer, BpeTokenizer):
        return tokenizer.spec
    if isinstance(tokenizer, RustTokenizer):
        return spec_of_pipeline(tokenizer.pipeline, tokenizer.name)
    return None


def _bpe(spec: BpeSpec, notices: list[str]) -> dict[str, Any]:
    pre = _pre_of(spec)
    tokens, types = list(spec.tokens), [NORMAL if token else UNUSED for token in spec.tokens]
    seen: set[str] = set()
    for id, token in enumerate(tokens):
        if token in seen:  # never the result of encoding, see `checks`
            tokens[id], types[id] = "", UNUSED
        seen.add(token)
    _add(tokens, types, spec.added)
    if spec.normalizer:
        notices.append(
            f"GGUF does not record Unicode normalisation ({spec.normalizer}), so unusual spellings of letters may be cut otherwise."
        )
    if any(token.lstrip or token.rstrip for token in spec.added):
        notices.append("GGUF does not record that some special tokens swallow the space beside them.")
    return {"model": "gpt2", "pre": pre, "tokens": tokens, "token_type": types, "merges": list(spec.merges)}


def _add(tokens: list[str], types: list[int], added: Sequence[AddedToken]) -> None:
    end = max([len(tokens), *(token.id + 1 for token in added)])
    tokens += [""] * (end - len(tokens))
    types += [UNUSED] * (end - len(types))
    for token in added:
        tokens[token.id], types[token.id] = token.text, CONTROL if token.special else USER


def _pre_of(spec: BpeSpec) -> str:
    """llama.cpp's name for how text is cut before merging: the source file's own, else the one of the same expression."""
    own = spec.name.removeprefix("bpe/")
    if spec.name.startswith("bpe/") and PATTERNS.get(own) == spec.pattern:
        return own
    pattern = _SPELLINGS.get(spec.pattern, spec.pattern)
    names = [name for name, known in PATTERNS.items() if known == pattern]
    alike = [name for name in names if (name in WHOLE_PIECES_FIRST) == spec.ignore_merges]
    if alike:
        return alike[0]
    if names and not examine(spec).unreachable:  # every token is reached by merging, so looking pieces up first changes nothing
        return names[0]
    raise ModelError(
        "llama.cpp has no name for the way this model's tokenizer cuts text before merging.", hint=_HINT, details=f"Pattern: {spec.pattern}"
    )


# ---- SentencePiece -----------------------------------------------------------------------------------------------


def _is_sentencepiece(pipeline: Mapping[str, Any]) -> bool:
    """A BPE on characters that falls back to bytes and writes spaces as "▁"."""
    model = pipeline.get("model") or {}
    kind = model.get("type") or ("BPE" if "merges" in model else "")
    return kind == "BPE" and bool(model.get("byte_fallback")) and isinstance(model.get("vocab"), dict) and "\u2581" in model["vocab"]


def _sentencepiece(tokenizer: RustTokenizer) -> dict[str, Any]:
    """Scores fall in the order of the merges, which is all that they are read for."""
    model = tokenizer.pipeline["model"]
    added = [AddedToken(t["id"], t["content"], bool(t.get("special"))) for t in tokenizer.pipeline.get("added_tokens") or ()]
    size = max([0, *(id + 1 for id in model["vocab"].values())])
    tokens, types, scores = [""] * size, [UNUSED] * size, [-10000.0] * size
    for token, id in model["vocab"].items():
        tokens[id], types[id] = token, BYTE if BYTE_TOKEN.fullmatch(token) else NORMAL
    _add(tokens, types, added)
    scores += [0.0] * (len(tokens) - size)
    order: dict[str, int] = {}
    for merge in model["merges"]:
        order.setdefault("".join(merge) if not isinstance(merge, str) else merge.replace(" ", "", 1), len(order))
    for id, token in enumerate(tokens):
        if types[id] == NORMAL:
            scores[id] = -float(order[token]) if token in order else -1e6
        elif types[id] != UNUSED:
            scores[id] = 0.0
    unknown = model.get("unk_token")
    fields = {"model": "llama", "tokens": tokens, "token_type": types, "scores": scores, "add_space_prefix": _prefixes(tokenizer.pipeline)}
    if unknown in model["vocab"]:
        types[model["vocab"][unknown]] = UNKNOWN
        fields["unknown_token_id"] = model["vocab"][unknown]
    return fields


def _prefixes(pipeline: Mapping[str, Any]) -> bool:
    """Whether text is encoded as if a space stood before it."""

    def found(node: Any) -> bool:
        if isinstance(node, list):
            return any(found(n) for n in node)
        if not isinstance(node, dict):
            return False
        if node.get("type") == "Prepend":
            return True
        if node.get("type") == "Metaspace":
            return bool(node.get("prepend_scheme", "always") != "never")
        return any(found(n) for n in node.values())

    return found([pipeline.get("normalizer"), pipeline.get("pre_tokenizer")])
