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
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, SyntaxError, ValueError):
        return  # a distribution's own file may be of any kind; the corpus is the rest
    module = name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    for title, line, text in _documented(tree, module):
        if len(text) >= _LEAST:
            yield TextExample(f"{title}\n\n{text}\n", name, line)


def _documented(node: ast.Module | ast.ClassDef, prefix: str) -> Iterator[tuple[str, int, str]]:
    """(title, line, docstring) of a module or class and all that it defines."""
    own = ast.get_docstring(node, clean=False)
    if own:
        kind = "class " if isinstance(node, ast.ClassDef) else "module "
        yield kind + prefix, getattr(node, "lineno", 1), inspect.cleandoc(own)
    for child in node.body:
        if isinstance(child, ast.ClassDef):
            yield from _documented(child, f"{prefix}.{child.name}")
        elif isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)):
            text = ast.get_docstring(child, clean=False)
            if text:
                yield f"{prefix}.{child.name}({ast.unparse(child.args)})", child.lineno, inspect.cleandoc(text)
