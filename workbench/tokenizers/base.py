"""What every tokenizer offers, and what all of them share: added tokens, decoding, streaming."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol, runtime_checkable

END_OF_TURN = ("<|im_end|>", "<|eot_id|>", "<|end|>", "<end_of_turn>", "<|eom_id|>", "<|eot|>", "<|end_of_turn|>", "<EOT>", "<|return|>")
"""Special tokens that end a reply, whatever the file calls its end-of-sequence token."""
END_OF_TEXT = ("<|endoftext|>", "<|end_of_text|>", "</s>", "<|eos|>", "<eos>")
"""Special tokens that end a document."""
MASK = ("[MASK]", "<mask>")
"""Special tokens that stand for a hidden one."""

Span = tuple[int, int]
"""A half-open range of characters."""


class Place(Enum):
    """Where ordinary text stands: at the start of everything, right after an added token, or continuing text. Some
    tokenizers put a space in front of the first two."""

    START = 0
    AFTER = 1
    WITHIN = 2


@dataclass(frozen=True)
class AddedToken:
    """A token recognised as a whole, outside the merges. `special` ones are never recognised in a person's text;
    `lstrip`/`rstrip` swallow the whitespace before/after it."""

    id: int
    text: str
    special: bool = True
    lstrip: bool = False
    rstrip: bool = False


@runtime_checkable
class Tokenizer(Protocol):
    """Text to ids and back. Thread-safe: encoding changes nothing.

    `eos_ids` end a generation (declared end first); `bos_id`, `pad_id` may be missing; `special` maps names to ids;
    `notes` are sentences a person should read (a guess that was made, a check that failed and what replaced it).
    """

    name: str
    vocab_size: int
    bos_id: int | None
    eos_ids: tuple[int, ...]
    pad_id: int | None
    add_bos: bool
    special: Mapping[str, int]
    notes: tuple[str, ...]

    def encode(self, text: str, special: bool = False) -> list[int]:
        """Ids of `text`; special tokens are recognised only when `special` is true. Adds no begin or end token."""
        ...

    def encode_pieces(self, text: str, written: Sequence[Span], cuts: Sequence[int] = ()) -> list[list[int]]:
        """Ids of `text`, one list per piece between `cuts` (sorted positions that no token crosses); special tokens are
        recognised only inside the `written` ranges."""
        ...

    def decode(self, ids: Iterable[int], skip_special: bool = False) -> str:
        """Text of `ids`; bytes that are not UTF-8 become U+FFFD; special tokens appear by name unless skipped."""
        ...

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """The exact bytes of `ids`; ids outside the vocabulary have none."""
        ...

    def token_bytes(self, id: int) -> bytes:
        """The bytes one id stands for (a special token's are its name)."""
        ...

    def token_text(self, id: int) -> str:
        """One id as shown to people: its text, or its bytes in hexadecimal when they are no text."""
        ...

    def to_json(self) -> dict[str, Any]:
        """Plain JSON data; `tokenizer_from_json` rebuilds the tokenizer from it."""
        ...


class AddedTokens:
    """Finds added tokens in text: leftmost, longest first, as the tokenizers of the models' makers do."""

    def __init__(self, tokens: Sequence[AddedToken]) -> None:
        self.tokens = tuple(tokens)
        self._all = _pattern(tokens)
        self._plain = _pattern([t for t in tokens if not t.special])
        self._tokens = {t.text: t for t in tokens}

    def matches(self, text: str, written: Sequence[Span]) -> list[tuple[int, int, int]]:
        """(start, end, id) of each added token in order; special ones only inside the `written` ranges."""
        found: list[tuple[int, int, int]] = []
        if self._all is None:
            return found
        at = 0
        for start, end in sorted(written):
            found += self._find(self._plain, text, at, start)
            found += self._find(self._all, text, max(start, at), end)
            at = max(at, end)
        found += self._find(self._plain, text, at, len(text))
        return found

    def _find(self, pattern: re.Pattern[str] | None, text: str, start: int, end: int) -> Iterator[tuple[int, int, int]]:
        if pattern is None or start >= end:
            return
        for match in pattern.finditer(text, start, end):
            token = self._tokens[match[0]]
            left, right = match.span()
            while token.lstrip and left > start and text[left - 1].isspace():
                left -= 1
            while token.rstrip and right < end and text[right].isspace():
                right += 1
            yield max(left, start), right, token.id
            start = right


def _pattern(tokens: Sequence[AddedToken]) -> re.Pattern[str] | None:
    return re.compile("|".join(re.escape(t.text) for t in sorted(tokens, key=lambda t: -len(t.text)))) if tokens else None


class TableTokenizer:
    """Shared half of the tokenizers: a table id -> bytes, added tokens, and one hook, `_ordinary`.

    `table[id]` is what the id decodes to; added tokens are listed there too. `eos_ids` are completed with the special
    tokens that are known to end a turn or a text.
    """

    kind = ""

    def __init__(
        self, *, name: str, table: Sequence[bytes], added: Sequence[AddedToken], bos_id: int | None = None, eos_ids: Sequence[int] = (),
        pad_id: int | None = None, add_bos: bool = False, notes: Sequence[str] = (),
    ) -> None:  # fmt: skip
        self.name = name
        self._table = list(table)
        self.vocab_size = len(self._table)
        self.added = AddedTokens(added)
        self.special: Mapping[str, int] = {t.text: t.id for t in added if t.special}
        known = [self.special[n] for n in (*END_OF_TURN, *END_OF_TEXT) if n in self.special]
        self.bos_id = bos_id
        self.eos_ids = tuple(dict.fromkeys([*eos_ids, *known]))
        self.pad_id = pad_id
        self.add_bos = add_bos and bos_id is not None
        self.notes = tuple(notes)
        self._special_ids = frozenset(self.special.values())

    def _ordinary(self, text: str, place: Place) -> list[int]:
        """Ids of text without added tokens."""
        raise NotImplementedError

    def encode(self, text: str, special: bool = False) -> list[int]:
        """See `Tokenizer.encode`."""
        return self.encode_pieces(text, [(0, len(text))] if special else [])[0]

    def encode_pieces(self, text: str, written: Sequence[Span], cuts: Sequence[int] = ()) -> list[list[int]]:
        """See `Tokenizer.encode_pieces`."""
        pieces: list[list[int]] = [[]]
        limits = [*cuts, len(text)]
        at, place = 0, Place.START

        def ordinary_until(end: int) -> None:
            """Encode up to `end`, opening a new piece at each cut on the way."""
            nonlocal at, place
            while True:
                stop = min(end, limits[len(pieces) - 1])
                if at < stop:
                    pieces[-1] += self._ordinary(text[at:stop], place)
                    at, place = stop, Place.WITHIN
                if len(pieces) == len(limits) or limits[len(pieces) - 1] > at:
                    return
                pieces.append([])

        for start, end, id in self.added.matches(text, written):
            if any(start < cut < end for cut in cuts):
                continue
            ordinary_until(start)
            pieces[-1].append(id)
            at, place = end, Place.AFTER
        ordinary_until(len(text))
        return pieces

    def decode_bytes(self, ids: Iterable[int]) -> bytes:
        """See `Tokenizer.decode_bytes`."""
        table, size = self._table, self.vocab_size
        return b"".join([table[i] for i in ids if 0 <= i < size])

    def decode(self, ids: Iterable[int], skip_special: bool = False) -> str:
        """See `Tokenizer.decode`."""
        if skip_special:
            ids = [i for i in ids if i not in self._special_ids]
        return self.decode_bytes(ids).decode("utf-8", "replace")

    def token_bytes(self, id: int) -> bytes:
        """See `Tokenizer.token_bytes`."""
        return self._table[id] if 0 <= id < self.vocab_size else b""

    def token_text(self, id: int) -> str:
        """See `Tokenizer.token_text`."""
        raw = self.token_bytes(id)
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError:
            return "".join(f"<0x{byte:02X}>" for byte in raw)


def without_surrogates(text: str) -> str:
    """`text` as valid Unicode: paired surrogates become their character, lone ones U+FFFD."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def chunks(text: str, size: int = 100_000) -> Iterator[str]:
    """Pieces of about `size` characters, cut before a space that follows a non-space, where no pre-tokenizer joins.

    Regex engines overflow on a million spaces, and one long call would freeze a window; text without such a place
    (over 2 × `size` characters) is cut anyway.
    """
    at = 0
    while len(text) - at > size:
        cut = at + size
        limit = min(at + 2 * size, len(text))
        while (cut := text.find(" ", cut, limit)) >= 0 and text[cut - 1].isspace():
            cut += 1
        cut = limit if cut < 0 else cut
        yield text[at:cut]
        at = cut
    if at < len(text):
        yield text[at:]


def end_of_text_id(tokenizer: Tokenizer) -> int | None:
    """The token that closes a plain document: a known end-of-text token, else the declared end; None without either."""
    for name in END_OF_TEXT:
        if name in tokenizer.special:
            return tokenizer.special[name]
    return tokenizer.eos_ids[0] if tokenizer.eos_ids else None


def mask_token_id(tokenizer: Tokenizer) -> int | None:
    """The token that stands for a hidden one; None when the tokenizer has none."""
    return next((tokenizer.special[name] for name in MASK if name in tokenizer.special), None)


class StreamDecoder:
    """Turns ids that arrive one at a time into text, holding back bytes until they make whole characters."""

    def __init__(self, tokenizer: Tokenizer, skip_special: bool = False) -> None:
        self._tokenizer = tokenizer
        self._skip = frozenset(tokenizer.special.values()) if skip_special else frozenset()
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, id: int) -> str:
        """The text that became certain with this id; "" while a character is incomplete."""
        return "" if id in self._skip else self._utf8.decode(self._tokenizer.token_bytes(id))

    def flush(self) -> str:
        """What an incomplete ending decodes to (U+FFFD), and start afresh."""
        text = self._utf8.decode(b"", final=True)
        self._utf8.reset()
        return text
