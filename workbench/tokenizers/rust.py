"""Tokenizers that tiktoken cannot express (SentencePiece kinds, BERT's WordPiece, unusual pipelines), on the `tokenizers` library.

The library is imported when such a tokenizer is built, not before.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from workbench.core.errors import ModelError
from workbench.tokenizers.base import AddedToken, Place, TableTokenizer, chunks, without_surrogates
from workbench.tokenizers.spec import BpeSpec, bytes_of

BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")
"""How vocabularies on characters write a token that stands for one byte."""


class RustTokenizer(TableTokenizer):
    """A tokenizer.json pipeline. `pipeline` is that file's data; ids of the text come from the library, added tokens and
    the id -> bytes table from here, so that all tokenizers agree about what is special and how bytes stream."""

    kind = "pipeline"

    def __init__(
        self, pipeline: dict[str, Any], *, name: str, bos_id: int | None = None, eos_ids: Sequence[int] = (), pad_id: int | None = None,
        add_bos: bool = False, notes: Sequence[str] = (),
    ) -> None:  # fmt: skip
        try:
            from tokenizers import Tokenizer as Engine
        except ImportError as error:
            raise ModelError(
                "This model's tokenizer needs the 'tokenizers' library, which is not installed.", hint="Run: pip install tokenizers"
            ) from error
        added = [
            AddedToken(t["id"], t["content"], bool(t.get("special")), bool(t.get("lstrip")), bool(t.get("rstrip")))
            for t in pipeline.get("added_tokens") or ()
        ]
        plain = pipeline | {"added_tokens": [], "truncation": None, "padding": None, "post_processor": None}
        plain["model"] = _without_added(pipeline.get("model") or {}, {t.text for t in added})
        try:
            self._engines = _engines(Engine.from_str, plain)
        except Exception as error:  # the library raises bare Exception with a parser's message
            raise ModelError(
                f"The tokenizer cannot be built: {error}.",
                hint="The tokenizer file is damaged or newer than the library; try: pip install -U tokenizers",
            ) from error
        self._engine = self._engines[Place.START]
        self._byte_level = '"ByteLevel"' in json.dumps(pipeline.get("decoder"))
        model = pipeline.get("model") or {}
        self._joint: str | None = model.get("continuing_subword_prefix", "##") if model.get("type") == "WordPiece" else None
        table = self._build_table(added)
        probe = self._engine.encode("a", add_special_tokens=False).ids
        self._strips_space = self._joint is not None or (b"".join(table[i] for i in probe) == b" a" and self._engine.decode(probe) == "a")
        super().__init__(name=name, table=table, added=added, bos_id=bos_id, eos_ids=eos_ids, pad_id=pad_id, add_bos=add_bos, notes=notes)
        self.pipeline = pipeline

    def _build_table(self, added: Sequence[AddedToken]) -> list[bytes]:
        vocab = self._engine.get_vocab(with_added_tokens=True)
        table = [b""] * (1 + max([0, *vocab.values(), *(t.id for t in added)]))
        own = {t.id for t in added}
        for token, id in vocab.items():
            if id in own:
                continue
            byte = BYTE_TOKEN.fullmatch(token)
            if self._byte_level:
                table[id] = bytes_of(token)
            elif self._joint is not None:
                table[id] = (token.removeprefix(self._joint) if token.startswith(self._joint) else f" {token}").encode("utf-8")
            else:
                table[id] = bytes([int(byte[1], 16)]) if byte else token.replace("\u2581", " ").encode("utf-8")
        for entry in added:
            table[entry.id] = entry.text.encode("utf-8")
        return table

    def _ordinary(self, text: str, place: Place) -> list[int]:
        ids: list[int] = []
        for chunk in chunks(without_surrogates(text)):
            ids += self._engines[place].encode(chunk, add_special_tokens=False).ids
            place = Place.WITHIN
        return ids

    def decode(self, ids: Iterable[int], skip_special: bool = False) -> str:
        """See `Tokenizer.decode`; the space that encoding puts in front is taken off again."""
        ids = list(ids)
        text = super().decode(ids, skip_special)
        begins = next((i for i in ids if i != self.bos_id), None)
        strip = self._strips_space and text.startswith(" ") and begins not in self._special_ids
        return text[1:] if strip else text

    def to_json(self) -> dict[str, Any]:
        """See `Tokenizer.to_json`."""
        return {
            "type": self.kind, "name": self.name, "pipeline": self.pipeline, "bos_id": self.bos_id, "eos_ids": list(self.eos_ids),
            "pad_id": self.pad_id, "add_bos": self.add_bos, "notes": list(self.notes),
        }  # fmt: skip


def _without_added(model: dict[str, Any], names: set[str]) -> dict[str, Any]:
    """The model without added tokens in its vocabulary, so that no ordinary text can become one."""
    if not isinstance(model.get("vocab"), dict):
        return model
    merges = (m if isinstance(m, (list, tuple)) else m.split(" ") for m in model.get("merges") or ())
    names = names - {model.get("unk_token")} - {part for left, right in merges for part in (left, right, left + right)}
    return model | {"vocab": {token: id for token, id in model["vocab"].items() if token not in names}}


def _engines(build: Callable[[str], Any], pipeline: dict[str, Any]) -> dict[Place, Any]:
    """An engine for each place: they differ where a pipeline puts a space in front of text."""
    start = json.dumps(pipeline)
    made = {start: build(start)}
    after = json.dumps(_without_prefix(pipeline, {"first"}))
    within = json.dumps(_without_prefix(pipeline, {"first", "always"}))
    for text in (after, within):
        if text not in made:
            made[text] = build(text)
    return {Place.START: made[start], Place.AFTER: made[after], Place.WITHIN: made[within]}


def _without_prefix(pipeline: dict[str, Any], schemes: set[str]) -> dict[str, Any]:
    """The pipeline with the space in front taken away where its scheme is one of `schemes` (a Prepend is "always")."""

    def changed(node: Any) -> Any:
        if isinstance(node, list):
            kept = [changed(n) for n in node]
            return [n for n in kept if n is not None]
        if not isinstance(node, dict):
            return node
        if node.get("type") == "Prepend" and "always" in schemes:
            return None
        node = {key: changed(value) for key, value in node.items()}
        if node.get("type") == "Metaspace" and node.get("prepend_scheme", "always") in schemes:
            node["prepend_scheme"] = "never"
        if node.get("type") == "ByteLevel" and "first" in schemes and "always" in schemes:
            node["add_prefix_space"] = False
        return node

    return pipeline | {part: changed(pipeline.get(part)) for part in ("normalizer", "pre_tokenizer")}


def rust_from_spec(spec: BpeSpec, note: str) -> RustTokenizer:
    """A byte-level BPE run by its merges; `note` says why tiktoken would not do."""
    return RustTokenizer(
        pipeline_of(spec), name=spec.name, bos_id=spec.bos_id, eos_ids=spec.eos_ids, pad_id=spec.pad_id, add_bos=spec.add_bos,
        notes=[*spec.notes, note],
    )  # fmt: skip


def pipeline_of(spec: BpeSpec) -> dict[str, Any]:
    """A byte-level BPE as tokenizer.json."""
    vocab: dict[str, int] = {}
    for id, token in enumerate(spec.tokens):
        if token:
            vocab.setdefault(token, id)
    vocab |= {t.text: t.id for t in spec.added}  # the library numbers added tokens anew unless the vocabulary has them
    return {
        "version": "1.0",
        "added_tokens": [added_entry(t) for t in spec.added],
        "normalizer": {"type": spec.normalizer} if spec.normalizer else None,
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [
                {"type": "Split", "pattern": {"Regex": spec.pattern}, "behavior": "Isolated", "invert": False},
                {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False},
            ],
        },
        "decoder": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False},
        "model": {"type": "BPE", "vocab": vocab, "merges": [m.split(" ") for m in spec.merges], "ignore_merges": spec.ignore_merges},
    }


def added_entry(token: AddedToken) -> dict[str, Any]:
    """An added token as tokenizer.json writes it."""
    return {
        "id": token.id, "content": token.text, "single_word": False, "lstrip": token.lstrip, "rstrip": token.rstrip,
        "normalized": False, "special": token.special,
    }  # fmt: skip


def sentencepiece_pipeline(
    tokens: Sequence[str], scores: Sequence[float], added: Sequence[AddedToken], prefix_space: bool
) -> dict[str, Any]:
    """The pipeline of a SentencePiece BPE vocabulary (GGUF's model "llama"): merges follow from the scores, best first;
    characters without a token fall back to bytes."""
    own = {t.text for t in added}  # never the result of merging: a person's text must not spell a control token
    ids = {token: id for id, token in reversed(list(enumerate(tokens))) if token and token not in own}
    merges: list[tuple[float, int, int, str, str]] = []
    for token, id in ids.items():
        for cut in range(1, len(token)):
            left, right = token[:cut], token[cut:]
            if left in ids and right in ids:
                merges.append((-scores[id], ids[left], ids[right], left, right))
    merges.sort()
    normalizers: list[dict[str, Any]] = [{"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}]
    decoders: list[dict[str, Any]] = [
        {"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"},
    ]  # fmt: skip
    if prefix_space:
        normalizers.insert(0, {"type": "Prepend", "prepend": "\u2581"})
        decoders.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
    unknown = next((t for t in added if t.text in ("<unk>", "<UNK>", "[UNK]")), None)
    if unknown is not None:
        ids[unknown.text] = unknown.id
    return {
        "version": "1.0",
        "added_tokens": [added_entry(t) for t in added],
        "normalizer": {"type": "Sequence", "normalizers": normalizers},
        "pre_tokenizer": None,
        "decoder": {"type": "Sequence", "decoders": decoders},
        "model": {
            "type": "BPE", "vocab": ids, "merges": [[left, right] for _, _, _, left, right in merges], "byte_fallback": True,
            "fuse_unk": True, "unk_token": unknown.text if unknown else None, "ignore_merges": False,
        },
    }  # fmt: skip
