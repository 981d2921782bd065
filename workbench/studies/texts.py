"""What a study reads: a built-in text or a person's, as a model's tokens."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from workbench.checkpoints import Loaded
from workbench.core.errors import DataError, FileError, ModelError
from workbench.data.samples import sample_text


def read_text(path: str | None) -> tuple[str, str]:
    """(text, what it is called); None is the built-in one. Raises `FileError`."""
    if path is None:
        return sample_text(), "built-in prose"
    file = Path(path).expanduser()
    try:
        return file.read_text(encoding="utf-8"), file.name
    except (OSError, UnicodeDecodeError) as error:
        raise FileError(f"{file} cannot be read as a text.", hint="Choose a UTF-8 text file.", details=str(error)) from error


def tokens_of(loaded: Loaded, text: str, most: int, label: str) -> tuple[Sequence[int], int]:
    """(its first tokens, at least 2 and at most `most`, bytes of all but the first). Raises `ModelError` for a model that cannot read
    texts from left to right, `DataError` for a text that is too short."""
    if loaded.tokenizer is None:
        raise ModelError(f"{label} has no tokenizer, so no text can be read with it.", hint="Load a model that comes with one.")
    if not loaded.config.causal:
        raise ModelError(f"{label} sees the tokens it is to predict.", hint="Load a model that writes from left to right.")
    ids = loaded.tokenizer.encode(text[: 16 * most])[:most]
    if len(ids) < 2:
        raise DataError(f"The text has {len(ids)} tokens; at least 2 are needed to predict one.", hint="Choose a longer text.")
    return ids, len(loaded.tokenizer.decode_bytes(ids[1:]))
