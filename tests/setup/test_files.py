"""What is committed: readable sizes, nothing of one particular machine, and packages that a wheel would find."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILE_LINES = 500
FUNCTION_LINES = 60
REASON = "# long:"  # in the first lines of a file or function that has a reason to exceed the limit


def committed() -> list[Path]:
    """Tracked files; where git cannot say, every file outside hidden and build folders."""
    if shutil.which("git"):
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
        if listed.returncode == 0:
            return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]
    built = re.compile(r"\.(?!ci$|gitignore$).*|build|dist|__pycache__|.*\.egg-info")
    return [p for p in ROOT.rglob("*") if p.is_file() and not any(map(built.fullmatch, p.relative_to(ROOT).parts))]


FILES = committed()
SOURCES = [path for path in FILES if path.suffix == ".py"]


def shown(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def test_no_source_file_is_too_long() -> None:
    long = {shown(p): n for p in SOURCES if (n := len(text(p).splitlines())) > FILE_LINES and REASON not in text(p)[:2000]}
    assert not long, f"more than {FILE_LINES} lines: {long}"


def text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def functions(path: Path) -> Iterator[tuple[str, int, str]]:
    source = text(path)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = source.splitlines()[node.lineno - 1 : node.end_lineno]
            yield f"{shown(path)}:{node.name}", len(lines), "\n".join(lines[:12])


def test_no_function_is_too_long() -> None:
    found = [entry for path in SOURCES for entry in functions(path)]
    assert len(found) > 200
    long = {name: count for name, count, head in found if count > FUNCTION_LINES and REASON not in head}
    assert not long, f"more than {FUNCTION_LINES} lines: {long}"


def test_top_level_is_the_house_and_nothing_else() -> None:
    allowed = {"pyproject.toml", "README.md", "Makefile", "LICENSE", "CHANGELOG.md", "workbench", "ui", "resources", "tests"}
    top = {p.relative_to(ROOT).parts[0] for p in FILES}
    assert {name for name in top if name not in allowed and name not in (".ci", ".gitignore")} == set()


def test_nothing_names_a_developers_machine() -> None:
    # The names are put together here, so that this file does not contain them.
    machine = re.compile("|".join(f"(?<![\\w.])/{folder}/" for folder in ("root", "work", "home/[a-z]+", "Users/[a-z]+")))
    named = {shown(p): found[0] for p in FILES if is_text(p) and (found := machine.search(text(p)))}
    assert not named


def is_text(path: Path) -> bool:
    return path.suffix in (".py", ".toml", ".md", ".txt", ".json", ".jsonl", ".svg", ".desktop", "") and path.name != "LICENSE"


@pytest.mark.parametrize("package", ["workbench", "ui", "resources"])
def test_every_folder_with_code_is_a_package(package: str) -> None:
    folders = {p.parent for p in SOURCES if p.is_relative_to(ROOT / package)}
    assert folders
    assert [shown(f) for f in folders if not (f / "__init__.py").exists()] == []


def test_every_requirement_has_a_tested_version() -> None:
    project = tomllib.loads(text(ROOT / "pyproject.toml"))["project"]
    wanted = [*project["dependencies"], *(r for extra in project["optional-dependencies"].values() for r in extra)]
    pinned = {normal(line.split("==")[0]) for line in text(ROOT / ".ci" / "constraints.txt").splitlines() if "==" in line}
    assert {normal(re.split(r"[<>=!~;\s\[]", r)[0]) for r in wanted} - pinned == set()


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name.strip()).lower()
