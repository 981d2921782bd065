"""Data that every machine has: the shipped sample conversations, and the documentation of the Python standard library."""

from __future__ import annotations

import ast
import hashlib
import importlib.resources
import inspect
import os
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from workbench.core.errors import DataError
from workbench.core.registry import Registry
from workbench.data.examples import Row, RowProblem, TextExample
from workbench.data.files import JsonLines

SOURCES: Registry[Iterator[TextExample | Row | RowProblem]] = Registry("built-in data set")

_LEAST = 80
_LARGEST_FILE = 120_000  # parsing holds the interpreter's lock: about 20 ms for this much
_NO_LIBRARY = frozenset({"site-packages", "dist-packages", "test", "tests", "idlelib", "lib2to3", "ensurepip", "turtledemo", "__pycache__"})


@SOURCES.register(
    "sample-chat", label="Architecture Q&A", source="written for this program",
    help="Short, correct answers about transformer architecture in a style of their own: after 60 steps a model answers in it.",
)  # fmt: skip
def sample_chat() -> Iterator[Row | RowProblem]:
    """The rows of the shipped conversations."""
    found = importlib.resources.files("resources") / "samples" / "architecture_chat.jsonl"
    if not found.is_file():
        raise DataError("The sample conversations are not installed.", hint="Install the program again, or choose a file of your own.")
    with importlib.resources.as_file(found) as path:
        yield from JsonLines().rows(path)


@SOURCES.register(
    "stdlib-docstrings", label="Python's documentation", source="docstrings of the installed Python standard library",
    help="The docstrings of the installed Python standard library: a text corpus that is on every machine.",
)  # fmt: skip
def stdlib_docstrings(limit: int = 2_000_000, root: Path | None = None) -> Iterator[TextExample]:
    """Each docstring of at least 80 characters below its name and signature, until `limit` characters.

    Files are parsed, never imported. The order is fixed by the files' names but not alphabetical, so that the beginning is
    a fair sample. `root` is the folder to read, by default the running interpreter's standard library.
    """
    root = Path(sysconfig.get_paths()["stdlib"]) if root is None else root
    total = 0
    for path in sorted(_modules(root), key=lambda p: hashlib.sha1(p.relative_to(root).as_posix().encode()).digest()):
        for example in _docstrings(path, path.relative_to(root).as_posix()):
            yield example
            total += len(example.text)
            if total >= limit:
                return


def _modules(root: Path) -> Iterator[Path]:
    """Python files below `root`, without going into folders that are no library."""
    for folder, inner, files in os.walk(root):
        inner[:] = [name for name in inner if name not in _NO_LIBRARY]
        yield from (Path(folder, name) for name in files if name.endswith(".py"))


def _docstrings(path: Path, name: str) -> Iterator[TextExample]:
    try:
        if path.stat().st_size > _LARGEST_FILE:
            return
        source = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return  # a distribution's own file may be of any kind; the corpus is the rest
    module = name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    try:
        found = [documented for first, part in _parts(source) for documented in _documented(ast.parse(part), module, first)]
    except (SyntaxError, ValueError):  # a string that looks like code was cut, or the file is broken
        try:
            found = list(_documented(ast.parse(source), module, 1))
        except (SyntaxError, ValueError):
            return
    for title, line, text in found:
        if len(text) >= _LEAST:
            yield TextExample(f"{title}\n\n{text}\n", name, line)


def _parts(source: str) -> Iterator[tuple[int, str]]:
    """(first line, text) of what comes before the first definition, then of each definition at the left margin.

    Small trees are gone before the garbage collector counts them among the old: whole files made it stop everything for
    0.1 s again and again.
    """
    part: list[str] = []
    first, decorated = 1, False
    for number, line in enumerate(source.splitlines(keepends=True), 1):
        begins = line.startswith(("class ", "def ", "async def "))
        if part and not decorated and (begins or line.startswith("@")):
            yield first, "".join(part)
            part, first = [], number
        decorated = not begins and (decorated or line.startswith("@"))
        part.append(line)
    yield first, "".join(part)


def _documented(node: ast.Module | ast.ClassDef, prefix: str, first: int) -> Iterator[tuple[str, int, str]]:
    """(title, line, docstring) of a module or class and all that it defines; line 1 of the tree is line `first`."""
    own = ast.get_docstring(node, clean=False)
    if own and isinstance(node, ast.ClassDef):
        yield f"class {prefix}", node.lineno + first - 1, inspect.cleandoc(own)
    elif own and first == 1:
        yield f"module {prefix}", 1, inspect.cleandoc(own)
    for child in node.body:
        if isinstance(child, ast.ClassDef):
            yield from _documented(child, f"{prefix}.{child.name}", first)
        elif isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)):
            text = ast.get_docstring(child, clean=False)
            if text:
                yield f"{prefix}.{child.name}({ast.unparse(child.args)})", child.lineno + first - 1, inspect.cleandoc(text)
