"""Lines of a text file, strictly decoded: a byte that is not text is reported with its line, never replaced in silence."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from pathlib import Path

from workbench.core.errors import FileError

_BOMS = (  # longest first: UTF-32's little-endian mark begins with UTF-16's
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
MAX_LINE = 8_000_000
_BLOCK = 65_536
SAVE_AS_UTF8 = "Save the file as UTF-8 and try again."


class BadLine(Exception):
    """A line that is no text: `line` from 1, `reason` a sentence; `ends` says that nothing after it can be read."""

    def __init__(self, line: int, reason: str, ends: bool) -> None:
        super().__init__(reason)
        self.line = line
        self.reason = reason
        self.ends = ends


def detect(start: bytes) -> tuple[str, int]:
    """(encoding, length of its mark) from the first bytes of a file: a byte order mark decides; without one UTF-16 is
    told by the zero bytes that it puts beside ASCII, and all else has to be UTF-8."""
    for mark, encoding in _BOMS:
        if start.startswith(mark):
            return encoding, len(mark)
    even, odd = start[0::2].count(0), start[1::2].count(0)
    if max(even, odd) > 0.3 * max(1, len(start) // 2) and min(even, odd) <= 0.05 * max(1, len(start) // 2):
        return ("utf-16-be" if even > odd else "utf-16-le"), 0
    return "utf-8", 0


def open_bytes(path: Path) -> tuple[bytes, str, int]:
    """The first block of a file, its encoding and the length of its mark. Raises `FileError`."""
    try:
        with open(path, "rb") as file:
            start = file.read(_BLOCK)
    except FileNotFoundError:
        raise FileError(f"{path} does not exist.", hint="Check the path.") from None
    except OSError as error:
        raise FileError(f"{path} cannot be read: {error.strerror}.", hint="Check the file's permissions.") from error
    return start, *detect(start)


def lines(path: Path) -> Iterator[tuple[int, str | BadLine]]:
    """(number from 1, line without its end) for each line of a file, or the `BadLine` in its place.

    UTF-8 recovers at the next line; in UTF-16 and UTF-32 the first error ends the file. Raises `FileError`.
    """
    _, encoding, mark = open_bytes(path)
    yield from _utf8_lines(path, mark) if encoding == "utf-8" else _wide_lines(path, encoding, mark)


def _utf8_lines(path: Path, mark: int) -> Iterator[tuple[int, str | BadLine]]:
    with open(path, "rb") as file:
        file.seek(mark)
        number = 0
        while raw := file.readline(MAX_LINE):
            number += 1
            if len(raw) == MAX_LINE and not raw.endswith(b"\n"):
                while (rest := file.readline(MAX_LINE)) and not rest.endswith(b"\n"):
                    pass
                yield number, BadLine(number, f"The line is longer than {MAX_LINE:,} bytes.", ends=False)
                continue
            try:
                yield number, raw.rstrip(b"\r\n").decode("utf-8")
            except UnicodeDecodeError as error:
                byte = raw[error.start]
                yield (
                    number,
                    BadLine(number, f"The line is not UTF-8 text (byte 0x{byte:02X} at its position {error.start + 1}).", ends=False),
                )


def _wide_lines(path: Path, encoding: str, mark: int) -> Iterator[tuple[int, str | BadLine]]:
    decoder = codecs.getincrementaldecoder(encoding)("strict")
    name = encoding.upper()[:6]
    pending, number = "", 0
    with open(path, "rb") as file:
        file.seek(mark)
        while True:
            block = file.read(_BLOCK)
            try:
                pending += decoder.decode(block, final=not block)
            except UnicodeDecodeError:
                yield number + 1, BadLine(number + 1, f"The text is not whole {name} from about here on.", ends=True)
                return
            *whole, pending = pending.split("\n")
            if not block and pending:
                whole, pending = [*whole, pending], ""
            for line in whole:
                number += 1
                yield number, line.rstrip("\r")
            if len(pending) > MAX_LINE:
                yield number + 1, BadLine(number + 1, f"The line is longer than {MAX_LINE:,} characters.", ends=True)
                return
            if not block:
                return
