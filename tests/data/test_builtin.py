"""The data that every machine has."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from workbench.core.errors import DataError
from workbench.data import ChatExample, TextExample, builtin, read_examples, stdlib_docstrings

SOURCE = '''"""A module with a docstring that is long enough to be kept, because it goes on and on for eighty characters."""
raise RuntimeError("this file must never be imported")
class Box:
    """A box with a docstring that is long enough to be kept, because it goes on and on for eighty characters."""
    async def open(self, lid: int = 3, *, gently=True):
        """Open the box with a docstring that is long enough.

        Kept, because it goes on and on for eighty characters.
            Indented.
        """
def short():
    """Too short."""
'''


def test_docstrings_come_with_their_names_and_nothing_is_imported(tmp_path: Path) -> None:
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack" / "__init__.py").write_text(SOURCE, encoding="utf-8")
    (tmp_path / "broken.py").write_text("def (", encoding="utf-8")
    (tmp_path / "latin.py").write_bytes(b"# \xe9\n")
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "x.py").write_text(SOURCE, encoding="utf-8")
    found = list(stdlib_docstrings(root=tmp_path))
    assert [e.text.partition("\n")[0] for e in found] == [
        "module pack",
        "class pack.Box",
        "pack.Box.open(self, lid: int=3, *, gently=True)",
    ]
    assert "\n\nKept, because" in found[2].text
    assert "\n    Indented." in found[2].text
    assert [(e.file, e.row) for e in found] == [("pack/__init__.py", 1), ("pack/__init__.py", 3), ("pack/__init__.py", 5)]


def test_files_are_parsed_part_by_part_and_lines_still_count_from_the_top(tmp_path: Path) -> None:
    long = "Long enough to be kept, because it goes on and on for more than eighty characters in one line of text."
    plain = f'"""{long}"""\n\n@first(\n    1)\n@second\ndef one():\n    """{long}"""\n\nasync def two():\n    """{long}"""\n'
    tricky = f'def one():\n    """{long}\ndef not_code():\n    """\n\nclass Two:\n    """{long}"""\n'
    (tmp_path / "plain.py").write_text(plain, encoding="utf-8")
    (tmp_path / "tricky.py").write_text(tricky, encoding="utf-8")
    found = {(e.file, e.row, e.text.partition("\n")[0]) for e in stdlib_docstrings(root=tmp_path)}
    assert found == {
        ("plain.py", 1, "module plain"),
        ("plain.py", 6, "plain.one()"),
        ("plain.py", 9, "plain.two()"),
        ("tricky.py", 1, "tricky.one()"),
        ("tricky.py", 6, "class tricky.Two"),
    }


def test_this_machines_corpus_is_large_varied_and_always_the_same() -> None:
    found = list(itertools.islice(stdlib_docstrings(), 300))
    assert found == list(itertools.islice(stdlib_docstrings(), 300))
    assert len({e.file for e in found}) > 15
    assert all(isinstance(e, TextExample) and len(e.text) > 80 for e in found)


def test_the_corpus_ends_at_its_limit() -> None:
    few = list(stdlib_docstrings(limit=2000))
    assert 2000 <= sum(len(e.text) for e in few) < 2000 + len(few[-1].text)


def test_the_sample_conversations_are_many_and_whole() -> None:
    found = list(read_examples(["sample-chat"]))
    assert len(found) >= 200
    assert all(isinstance(e, ChatExample) for e in found)


def test_missing_samples_are_an_error_with_a_fix(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(builtin.importlib.resources, "files", lambda package: tmp_path)
    with pytest.raises(DataError, match="not installed") as caught:
        next(builtin.sample_chat())
    assert caught.value.hint
