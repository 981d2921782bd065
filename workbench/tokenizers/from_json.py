"""Tokenizers from the plain data that `to_json` gives: what our own checkpoints store."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from workbench.core.errors import ModelError
from workbench.tokenizers.base import Tokenizer
from workbench.tokenizers.bpe import BpeTokenizer, bpe_tokenizer
from workbench.tokenizers.byte_level import ByteTokenizer
from workbench.tokenizers.rust import RustTokenizer
from workbench.tokenizers.spec import BpeSpec


def _pipeline(data: Mapping[str, Any]) -> Tokenizer:
    return RustTokenizer(**data)


_MAKERS: dict[str, Callable[[Mapping[str, Any]], Tokenizer]] = {
    BpeTokenizer.kind: lambda data: bpe_tokenizer(BpeSpec.from_json(data)),
    RustTokenizer.kind: _pipeline,
    ByteTokenizer.kind: lambda data: ByteTokenizer(**data),
}


def tokenizer_from_json(data: Mapping[str, Any]) -> Tokenizer:
    """The tokenizer that wrote `data` (`to_json`, through JSON or not). Raises `ModelError` when it is none of ours."""
    maker = _MAKERS.get(str(data.get("type")))
    if maker is None:
        raise ModelError(
            f"A tokenizer of the type {data.get('type')!r} is not known.", hint=f"Known: {', '.join(_MAKERS)}. Update the program."
        )
    try:
        return maker({k: v for k, v in data.items() if k != "type"})
    except (KeyError, TypeError) as error:
        raise ModelError(
            f"The saved tokenizer is incomplete ({error}).", hint="The checkpoint is damaged; save or download it again."
        ) from error
