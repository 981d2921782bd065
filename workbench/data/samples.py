"""The texts that come with the program, for measuring a model when nobody has named one."""

from __future__ import annotations

import importlib.resources

from workbench.core.errors import FileError

_PROSE = "prose.txt"


def sample_text() -> str:
    """A built-in English text of about a thousand tokens. Raises `FileError` when it is not installed."""
    found = importlib.resources.files("resources") / "samples" / _PROSE
    if not found.is_file():
        raise FileError("The built-in sample text is not installed.", hint="Install the program again, or choose a text of your own.")
    return found.read_text(encoding="utf-8")
