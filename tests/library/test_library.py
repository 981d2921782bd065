"""What is on this machine: models, adapters, recent files, and names that become paths."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.library.conftest import CONTENT
from workbench.checkpoints import FORMATS
from workbench.core.errors import FileError
from workbench.core.layouts import LAYOUTS
from workbench.library import CATALOGUE, RECENT_LIMIT, Library, default_home, model_format


def hf_folder(path: Path) -> Path:
    path.mkdir(parents=True)
    (path / "config.json").write_text("{}")
    (path / "model.safetensors").write_bytes(bytes(10))
    return path


def adapter_folder(path: Path, base: str = "starter", at: float = 1000.0) -> Path:
    path.mkdir(parents=True)
    config = path / "adapter_config.json"
    config.write_text(json.dumps({"base_model_name_or_path": base}))
    os.utime(config, (at, at))
    return path


def test_home_is_the_users_data_folder_unless_the_environment_names_one(tmp_path: Path) -> None:
    assert default_home({"WORKBENCH_HOME": str(tmp_path)}) == tmp_path
    assert default_home({"WORKBENCH_HOME": "~/x"}) == Path.home() / "x"
    assert "llm-workbench" in str(default_home({}))
    assert default_home({"WORKBENCH_HOME": ""}) == default_home({})


def test_formats_are_told_by_what_lies_there(tmp_path: Path) -> None:
    (tmp_path / "m.GGUF").write_bytes(b"GGUF")
    assert model_format(tmp_path / "m.GGUF") == "gguf"
    assert model_format(hf_folder(tmp_path / "hf")) == "hf"
    (tmp_path / "ours").mkdir()
    assert model_format(tmp_path / "ours") is None
    (tmp_path / "ours" / "workbench.json").write_text("{}")
    assert model_format(tmp_path / "ours") is None  # without weights it is no model
    (tmp_path / "ours" / "model.safetensors").write_bytes(b"")
    assert model_format(tmp_path / "ours") == "workbench"
    assert model_format(tmp_path / "missing.gguf") is None
    (tmp_path / "config-only").mkdir()
    (tmp_path / "config-only" / "config.json").write_text("{}")
    assert model_format(tmp_path / "config-only") is None


def test_the_library_and_the_checkpoint_formats_keep_one_list() -> None:
    assert tuple(LAYOUTS) == FORMATS.names()


def test_hub_downloads_are_named_as_they_are_asked_for(library: Library) -> None:
    hf_folder(library.models_folder / "owner" / "repo")
    (library.models_folder / "owner" / "quants").mkdir()
    (library.models_folder / "owner" / "quants" / "m.Q4_0.gguf").write_bytes(b"GGUF")
    (library.models_folder / "owner" / "nothing").mkdir()
    assert [m.name for m in library.models()] == ["owner/quants:m.Q4_0.gguf", "owner/repo"]
    assert library.resolve("owner/quants:m.Q4_0.gguf").name == "m.Q4_0.gguf"
    assert library.resolve("owner/repo") == library.models_folder / "owner" / "repo"


def test_models_are_the_catalogue_then_the_folder_then_recent_ones_elsewhere(library: Library, tmp_path: Path) -> None:
    assert library.models() == []
    hf_folder(library.models_folder / "mine")
    (library.models_folder / "tiny.gguf").write_bytes(CONTENT)
    (library.models_folder / "notes.txt").write_text("no model")
    elsewhere = hf_folder(tmp_path / "elsewhere")
    library.remember(elsewhere)
    library.remember(library.models_folder / "mine")
    assert [(m.name, m.format, m.recent) for m in library.models()] == [
        ("tiny", "gguf", False),
        ("mine", "hf", True),
        (str(elsewhere), "hf", True),
    ]
    assert [m.bytes for m in library.models()] == [len(CONTENT), 12, 12]


def test_a_half_file_is_no_installed_model(library: Library) -> None:
    library.models_folder.mkdir()
    (library.models_folder / "tiny.gguf").write_bytes(CONTENT[:-1])
    assert not library.is_installed("tiny")
    assert library.models() == []
    with pytest.raises(FileError, match=r"'tiny' \(Tiny, 2.3 MB\) is not on this machine"):
        library.resolve("tiny")


def test_names_and_paths_resolve_and_the_catalogue_goes_first(library: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    mine = hf_folder(library.models_folder / "mine")
    assert library.resolve("mine") == mine
    local = hf_folder(tmp_path / "local")
    assert library.resolve("local") == local
    assert library.resolve(local) == local
    hf_folder(tmp_path / "tiny")
    with pytest.raises(FileError, match="is not on this machine") as caught:
        library.resolve("tiny")
    assert "models fetch tiny" in caught.value.hint
    assert library.resolve("./tiny") == tmp_path / "tiny"
    with pytest.raises(FileError, match="no model or file 'gone'") as caught:
        library.resolve("gone")
    assert caught.value.hint == "Give a path, or one of: tiny, mine."


def test_a_catalogue_name_never_means_another_file(library: Library) -> None:
    hf_folder(library.models_folder / "tiny")
    other = library.models_folder / "sub.gguf"
    other.write_bytes(b"GGUF")
    hf_folder(library.models_folder / "sub")
    library.catalogue = {"tiny": library.catalogue["tiny"], "sub": library.catalogue["tiny"]}
    names = {m.name: m.path for m in library.models()}
    assert not set(names) & set(library.catalogue)
    assert names["sub.gguf"] == library.resolve("sub.gguf") == other
    assert all(library.resolve(name) == path for name, path in names.items())
    with pytest.raises(FileError, match="is not on this machine") as caught:
        library.resolve("sub")
    assert "sub.gguf" in caught.value.hint or str(library.models_folder / "sub") in caught.value.hint


def test_what_goes_away_while_it_is_listed_is_passed_over(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    kept, gone = (adapter_folder(library.runs_folder / name / "adapter") for name in ("kept", "gone"))
    (kept / "old.safetensors").write_bytes(bytes(7))
    real = Path.stat

    def stat(path: Path, **options: bool) -> os.stat_result:
        if gone in path.parents or path.name == "old.safetensors":
            raise FileNotFoundError(path)
        return real(path, **options)

    monkeypatch.setattr(Path, "stat", stat)
    assert [a.path for a in library.adapters()] == [kept]


def test_recent_models_newest_first_without_repeats_or_missing_ones(library: Library, tmp_path: Path) -> None:
    paths = [hf_folder(tmp_path / f"m{n}") for n in range(RECENT_LIMIT + 2)]
    for path in (*paths, paths[3]):
        library.remember(path)
    assert library.recent() == [paths[3], *(p for p in reversed(paths[2:]) if p != paths[3])]
    paths[5].rename(tmp_path / "away")
    assert paths[5] not in Library(library.home).recent()
    (tmp_path / "away").rename(paths[5])
    assert paths[5] in library.recent()
    library.forget_recent()
    assert library.recent() == []


@pytest.mark.parametrize("text", ["{", '{"kind": "workbench library", "version": 99, "recent": []}', '{"kind": "other"}'])
def test_a_damaged_list_of_recent_models_is_set_aside(library: Library, tmp_path: Path, text: str) -> None:
    (library.home / "library.json").write_text(text)
    assert library.recent() == []
    assert (library.home / "library.damaged").read_text() == text
    library.remember(hf_folder(tmp_path / "m"))
    assert library.recent() == [tmp_path / "m"]


def test_adapters_of_both_places_newest_first(library: Library) -> None:
    adapter_folder(library.adapters_folder / "poet", "starter", at=3000)
    adapter_folder(library.runs_folder / "run-1" / "adapter", "/models/x", at=4000)
    adapter_folder(library.runs_folder / ".run-2.part" / "adapter", at=5000)
    broken = adapter_folder(library.adapters_folder / "broken", at=2000)
    (broken / "adapter_config.json").write_text("{")
    os.utime(broken / "adapter_config.json", (2000, 2000))
    found = library.adapters()
    assert [(a.name, a.base) for a in found] == [("run-1/adapter", "/models/x"), ("poet", "starter"), ("broken", "")]
    assert found[1].path == library.adapters_folder / "poet"


@pytest.mark.starter
def test_the_starter_fixture_is_the_catalogued_file(starter_home: Path) -> None:
    library = Library(starter_home)
    assert library.starter_installed
    assert [(m.name, m.bytes) for m in library.models()] == [("starter", CATALOGUE["starter"].bytes)]
