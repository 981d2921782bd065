"""The smallest tokenizer: one id per byte, for models trained here from scratch."""

from __future__ import annotations

from typing import Any

from workbench.tokenizers.base import MASK, AddedToken, Place, TableTokenizer, without_surrogates

_SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")


class ByteTokenizer(TableTokenizer):
    """Ids 0–255 are the bytes of UTF-8; then the special tokens that end a text and frame a chat, and with `mask` one that
    hides a token from a bidirectional model. Nothing is unknown."""

    kind = "bytes"

    def __init__(self, mask: bool = False) -> None:
        names = (*_SPECIAL, MASK[0]) if mask else _SPECIAL
        added = [AddedToken(256 + i, name) for i, name in enumerate(names)]
        table = [bytes([byte]) for byte in range(256)] + [t.text.encode() for t in added]
        super().__init__(name="bytes", table=table, added=added, eos_ids=(256, 258), pad_id=256)
        self.masks = mask

    def _ordinary(self, text: str, place: Place) -> list[int]:
        return list(without_surrogates(text).encode("utf-8"))

    def to_json(self) -> dict[str, Any]:
        """See `Tokenizer.to_json`."""
        return {"type": self.kind, **({"mask": True} if self.masks else {})}
