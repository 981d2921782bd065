"""Models that runs have made are on this machine too, under their runs' names."""

from __future__ import annotations

from pathlib import Path

from workbench.library import Library, model_label


def model(folder: Path) -> Path:
    """A folder that looks like a checkpoint of our own."""
    folder.mkdir(parents=True)
    (folder / "workbench.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"")
    (folder.parent / "run.json").write_text("{}")
    return folder


def test_what_runs_made_is_listed_by_the_run_newest_first(tmp_path: Path) -> None:
    library = Library(tmp_path)
    alone = model(library.runs_folder / "2026-01-01-tiny" / "model")
    a, b = (model(library.runs_folder / "2026-01-02-pair" / side / "model") for side in "AB")
    (library.runs_folder / "2026-01-02-pair" / "pair.json").write_text("{}")
    (library.runs_folder / "2026-01-03-adapter" / "adapter").mkdir(parents=True)
    found = {e.name: e.path for e in library.models()}
    assert found == {"2026-01-02-pair A": a, "2026-01-02-pair B": b, "2026-01-01-tiny": alone}
    assert library.resolve("2026-01-02-pair B") == b
    assert list(found) == ["2026-01-02-pair A", "2026-01-02-pair B", "2026-01-01-tiny"]


def test_a_folder_that_is_called_model_keeps_its_name(tmp_path: Path) -> None:
    assert model_label(tmp_path / "model") == "model"
    assert model_label(tmp_path / "gpt2") == "gpt2"
