"""Byte-level BPE on tiktoken, proven equal to merging by rules before it is used; the Rust library where it is not."""

from __future__ import annotations

import unicodedata
from typing import Any

import tiktoken

from workbench.core.errors import ModelError
from workbench.tokenizers.base import Place, TableTokenizer, Tokenizer, chunks, without_surrogates
from workbench.tokenizers.checks import Findings, examine
from workbench.tokenizers.spec import BpeSpec, bytes_of


class BpeTokenizer(TableTokenizer):
    """A `BpeSpec` run by `tiktoken.Encoding`. Build it with `bpe_tokenizer`, which runs the checks.

    Bytes without a token get ranks from `vocab_size` on, so that encoding never fails on them, and are dropped after.
    """

    kind = "bpe"

    def __init__(self, spec: BpeSpec, findings: Findings) -> None:
        table = _table(spec)
        super().__init__(
            name=spec.name, table=table, added=spec.added, bos_id=spec.bos_id, eos_ids=spec.eos_ids, pad_id=spec.pad_id,
            add_bos=spec.add_bos, notes=spec.notes,
        )  # fmt: skip
        self.spec = spec
        # tokens that no merges give are never the result of encoding: without them every known pair is a rule
        hidden = set(findings.unreachable)
        ranks: dict[bytes, int] = {}
        for id, token in enumerate(spec.tokens):
            if token and id not in hidden:
                ranks.setdefault(table[id], id)
        for extra, byte in enumerate(findings.missing_bytes):
            ranks[bytes([byte])] = self.vocab_size + extra
        self._drops = bool(findings.missing_bytes)
        try:
            self._encoding = tiktoken.Encoding(spec.name, pat_str=spec.pattern, mergeable_ranks=ranks, special_tokens={})
        except ValueError as error:
            raise ModelError(
                f"The tokenizer's pre-tokenizer pattern is not usable: {error}.", hint="The tokenizer file is damaged."
            ) from error

    def _ordinary(self, text: str, place: Place) -> list[int]:
        ids: list[int] = []
        for chunk in chunks(without_surrogates(text)):
            ids += self._encoding.encode_ordinary(unicodedata.normalize(self.spec.normalizer, chunk) if self.spec.normalizer else chunk)  # type: ignore[arg-type]
        if self._drops:
            size = self.vocab_size
            ids = [id for id in ids if id < size]
        return ids

    def to_json(self) -> dict[str, Any]:
        """See `Tokenizer.to_json`."""
        return {"type": self.kind, **self.spec.to_json()}


def _table(spec: BpeSpec) -> list[bytes]:
    size = max([len(spec.tokens), *(t.id + 1 for t in spec.added)])
    table = [bytes_of(token) for token in spec.tokens] + [b""] * (size - len(spec.tokens))
    for token in spec.added:
        table[token.id] = token.text.encode("utf-8")
    return table


def bpe_tokenizer(spec: BpeSpec) -> Tokenizer:
    """The tokenizer of `spec`: on tiktoken when ranks alone decide as the merges do, else on the `tokenizers` library.

    Raises `ModelError` when the vocabulary contradicts itself, or neither can run it.
    """
    if not spec.merges:
        raise ModelError(f"The tokenizer {spec.name!r} has a vocabulary but no merges.", hint="The file is incomplete; download it again.")
    findings = examine(spec)
    reason = ""
    if not findings.rank_order_holds:
        reason = f"its merges are out of order at token {findings.out_of_order or findings.duplicates!r}"
    elif spec.ignore_merges and findings.unreachable:
        reason = f"{len(findings.unreachable)} tokens, {spec.tokens[findings.unreachable[0]]!r} first, are found only as whole pieces"
    if not reason:
        return BpeTokenizer(spec, findings)
    from workbench.tokenizers.rust import rust_from_spec

    return rust_from_spec(spec, f"The tokenizer is run by the slower 'tokenizers' library, because {reason}.")
