"""A byte-level BPE vocabulary as plain data: what files hold, and what the tokenizers are built from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from workbench.core.errors import ModelError
from workbench.tokenizers.base import AddedToken


def _letters() -> dict[int, str]:
    """The printable stand-in of each byte in byte-level vocabularies: itself where it is printable Latin-1, else the
    next free character from U+0100 on."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    stand_ins = iter(range(0x100, 0x200))
    return {byte: chr(byte) if byte in printable else chr(next(stand_ins)) for byte in range(256)}


LETTER_OF_BYTE = _letters()
_BYTE_OF_LETTER = {ord(letter): byte for byte, letter in LETTER_OF_BYTE.items()}


def bytes_of(letters: str) -> bytes:
    """The bytes a token written in stand-in letters means; `ModelError` when a letter is none."""
    try:
        return letters.translate(_BYTE_OF_LETTER).encode("latin-1")
    except UnicodeEncodeError:
        raise ModelError(
            f"The tokenizer's token {letters!r} is not written in byte-level letters.",
            hint="The tokenizer file is damaged or of another kind; download the model again.",
        ) from None


def letters_of(raw: bytes) -> str:
    """The inverse of `bytes_of`."""
    return "".join(LETTER_OF_BYTE[byte] for byte in raw)


@dataclass(frozen=True, kw_only=True)
class BpeSpec:
    """Everything a byte-level BPE tokenizer is.

    `tokens[id]` is written in stand-in letters (see `bytes_of`), "" where an id has no ordinary token; `merges` are
    "left right" in order of precedence; `added` tokens are matched whole and written as they are. `pattern` is the
    regular expression that cuts text first. `normalizer` is "" or a Unicode form ("NFC"). `ignore_merges`: a whole piece
    found in the vocabulary is taken as it is.
    """

    name: str
    tokens: tuple[str, ...]
    merges: tuple[str, ...]
    pattern: str
    added: tuple[AddedToken, ...] = ()
    normalizer: str = ""
    ignore_merges: bool = False
    bos_id: int | None = None
    eos_ids: tuple[int, ...] = ()
    pad_id: int | None = None
    add_bos: bool = False
    notes: tuple[str, ...] = field(default=())

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> BpeSpec:
        """The inverse of `to_json`, from parsed JSON."""
        plain: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in data.items()}
        plain["added"] = tuple(AddedToken(**t) for t in data.get("added", ()))
        return BpeSpec(**plain)
