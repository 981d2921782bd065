"""A library whose catalogue holds one tiny wheel, a real pip that sees only that wheel, and a pip that misbehaves on demand."""

from __future__ import annotations

import hashlib
import os
import sys
import zipfile
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.library.hub_server import HubServer, hub_on_this_machine
from workbench.core.events import Progress
from workbench.hub import Hub
from workbench.library import CatalogueModel, Library

CONTENT = b"GGUF" + bytes(range(256)) * 9000  # 2.3 MB: several chunks
MEMBER = "tiny_model/tiny.gguf"


def write_wheel(folder: Path, content: bytes = CONTENT) -> Path:
    """A wheel as pip accepts it."""
    folder.mkdir(parents=True, exist_ok=True)
    path, info = folder / "tiny_model-1.0-py3-none-any.whl", "tiny_model-1.0.dist-info"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(MEMBER, content)
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return path


def tiny_model(wheel_bytes: int = 100_000, content: bytes = CONTENT) -> CatalogueModel:
    return CatalogueModel(
        name="tiny",
        label="Tiny",
        help="A model for tests.",
        requirement="tiny-model==1.0",
        wheel_bytes=wheel_bytes,
        member=MEMBER,
        sha256=hashlib.sha256(content).hexdigest(),
        bytes=len(content),
        licence="Apache-2.0",
        source="here",
    )


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only place where pip finds packages."""
    folder = tmp_path / "wheels"
    write_wheel(folder)
    for name in [n for n in os.environ if n.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


@pytest.fixture
def library(home: Path) -> Library:
    return Library(home, {"tiny": tiny_model()})


@pytest.fixture
def pip_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Replaces the interpreter that runs pip by a script; the script sees `dest` (the folder to download to) and `temp`."""

    def install(body: str) -> None:
        script = tmp_path / "fake-python"
        head = "import os, pathlib, signal, sys\ndest = pathlib.Path(sys.argv[sys.argv.index('--dest') + 1])\n"
        script.write_text(f"#!{sys.executable} -S\n{head}temp = pathlib.Path(os.environ['TMPDIR'])\n{body}\n")
        script.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(script))

    return install


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A hub of the test's own, reachable though tests run in offline mode."""
    with hub_on_this_machine(monkeypatch) as server:
        yield server


@pytest.fixture
def online(home: Path, hub: HubServer) -> Library:
    """A library whose hub is that one."""
    return Library(home, {"tiny": tiny_model()}, Hub(hub.endpoint))


def run(work: Generator[Progress, None, Any]) -> tuple[list[Progress], Any]:
    """A fetch to its end: what it said, and what it returned."""
    events = []
    while True:
        try:
            events.append(next(work))
        except StopIteration as end:
            return events, end.value


def nothing_but_the_lock(library: Library) -> bool:
    """No model, no temporary file anywhere below the data folder."""
    return {p.name for p in library.home.rglob("*") if p.is_file()} <= {"tiny.lock"}
