"""JSON: a list of objects, or an object that holds such a list."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from workbench.data.encoding import SAVE_AS_UTF8, open_bytes
from workbench.data.examples import Row, RowProblem
from workbench.data.files.base import FILES
from workbench.data.files.json_lines import JsonLines, checked

_BLOCK = 200_000  # characters decoded per call: longer ones would hold the interpreter's lock too long
_MAX_RECORD = 16_000_000
_SPACE = " \t\r\n"


@FILES.register(
    "json", label="JSON", source="RFC 8259", help="A list of objects, read one by one; or an object whose first list holds the rows."
)  # fmt: skip
class JsonArray:
    """One row per element. A file of several lines that are objects each is read as JSON Lines."""

    suffixes: ClassVar[tuple[str, ...]] = (".json",)

    def rows(self, path: Path) -> Iterator[Row | RowProblem]:
        buffer = _Buffer(path)
        try:
            first = buffer.peek()
            if first == "[":
                buffer.skip(1)
                yield from self._elements(path.name, buffer)
            elif first == "{":
                yield from self._object(path, buffer)
            else:
                yield RowProblem(
                    path.name, 0, "The file holds neither a JSON list nor an object.", "Put the rows into a list: [ {...}, {...} ]."
                )
        except UnicodeDecodeError as error:
            yield RowProblem(path.name, 0, f"The file is not {buffer.encoding.upper()} text ({error.reason}).", SAVE_AS_UTF8)
        finally:
            buffer.close()

    def _elements(self, name: str, buffer: _Buffer) -> Iterator[Row | RowProblem]:
        number = 0
        while (found := buffer.peek()) not in ("]", ""):
            if found == ",":
                buffer.skip(1)
                continue
            number += 1
            try:
                value = buffer.value()
            except (json.JSONDecodeError, RecursionError) as error:
                reason = f"The element is not JSON ({getattr(error, 'msg', 'nested too deeply')}), and nothing after it can be read."
                yield RowProblem(name, number, reason, "Correct the file there.")
                return
            yield checked(name, number, value)
        if not found:
            yield RowProblem(name, number, "The file ends inside the list; it is cut off after this row.", "Get the whole file again.")

    def _object(self, path: Path, buffer: _Buffer) -> Iterator[Row | RowProblem]:
        try:
            value = buffer.value()
        except (json.JSONDecodeError, RecursionError) as error:
            yield RowProblem(path.name, 1, f"The file is not JSON ({getattr(error, 'msg', 'nested too deeply')}).", "Correct the file.")
            return
        if buffer.peek():  # more follows: lines of objects under the name of .json
            yield from JsonLines().rows(path)
            return
        listed = [v for v in value.values() if isinstance(v, list) and v and all(isinstance(e, dict) for e in v)]
        if "messages" in value or "conversations" in value or not listed:
            yield Row(1, value)
            return
        for number, element in enumerate(listed[0], 1):
            yield checked(path.name, number, element)


class _Buffer:
    """Decodes a file block by block and takes JSON values off its front."""

    def __init__(self, path: Path) -> None:
        _, self.encoding, mark = open_bytes(path)
        self._decoder = codecs.getincrementaldecoder(self.encoding)("strict")
        self._json = json.JSONDecoder()
        self._file = open(path, "rb")  # noqa: SIM115  # closed by `close`, which `rows` always calls
        self._file.seek(mark)
        self._text, self._at, self._ended = "", 0, False

    def close(self) -> None:
        self._file.close()

    def _more(self, size: int = _BLOCK) -> None:
        block = self._file.read(size)
        self._ended = not block
        self._text, self._at = self._text[self._at :] + self._decoder.decode(block, final=not block), 0

    def peek(self) -> str:
        """The next character that is not blank; "" at the end."""
        while True:
            while self._at < len(self._text) and self._text[self._at] in _SPACE:
                self._at += 1
            if self._at < len(self._text) or self._ended:
                return self._text[self._at : self._at + 1]
            self._more()

    def skip(self, count: int) -> None:
        self._at += count

    def value(self) -> Any:
        """The next JSON value. Raises `JSONDecodeError` when it is broken, cut off, or longer than 16 million characters."""
        while True:
            try:
                value, end = self._json.raw_decode(self._text, self._at)
                if end < len(self._text) or self._ended:  # a number could go on in the next block
                    self._at = end
                    return value
            except json.JSONDecodeError:
                if self._ended or len(self._text) - self._at > _MAX_RECORD:
                    raise
            self._more(max(_BLOCK, len(self._text) - self._at))
