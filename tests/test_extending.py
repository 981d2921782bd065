"""A new norm, position, placement or MLP is one file and one line: the four files of README's *Extending* are taken as they stand
there, registered while the program runs, and looked for everywhere; and added to a copy of the package, whose contracts they keep."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from pytestqt.qtbot import QtBot
from torch.nn import functional as F

from workbench.__main__ import main
from workbench.caches import KVCache
from workbench.checkpoints import load_checkpoint, save_checkpoint
from workbench.core.fields import from_dict, to_dict, with_text
from workbench.core.registry import Entry, Registry
from workbench.model import PRESETS, ModelConfig, account, build_model
from workbench.model.convert import plan
from workbench.parts.mlps import MLPS
from workbench.parts.norms import NORMS
from workbench.parts.positions import POSITIONS
from workbench.parts.residuals import RESIDUALS

ROOT = Path(__file__).resolve().parents[1]
AXES: dict[str, tuple[str, Registry[Any]]] = {
    "norms": ("norm", NORMS), "positions": ("position", POSITIONS), "residuals": ("residual", RESIDUALS), "mlps": ("mlp", MLPS),
}  # fmt: skip
EACH = pytest.mark.parametrize("axis", AXES)
BASE = PRESETS["tiny-llama"].config


def examples() -> dict[str, tuple[str, str]]:
    """Axis -> (file name, code) of each file that README shows."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    section = text[text.index("## Extending") : text.index("\n## Tests")]
    found = re.findall(r"`workbench/parts/(\w+)/(\w+)\.py`.*?```python\n(.*?)```", section, re.DOTALL)
    return {axis: (name, code) for axis, name, code in found}


class Kind(NamedTuple):
    """A kind of README's, and the field that chooses it."""

    field: str
    entry: Entry[Any]

    @property
    def config(self) -> ModelConfig:
        return with_text(BASE, f"{self.field}={self.entry.name}")


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Kind]]:
    """The four files are imported, as the one line would do, and forgotten afterwards."""
    folder = tmp_path_factory.mktemp("kinds")
    made: dict[str, Kind] = {}
    for axis, (name, code) in examples().items():
        field, registry = AXES[axis]
        known = set(registry.names())
        path = folder / f"{name}.py"
        path.write_text(code, encoding="utf-8")
        spec = importlib.util.spec_from_file_location(f"readme_{axis}", path)
        assert spec is not None
        assert spec.loader is not None
        module = sys.modules[f"readme_{axis}"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        (new,) = set(registry.names()) - known
        made[axis] = Kind(field, registry[new])
    yield made
    for axis, kind in made.items():
        AXES[axis][1].unregister(kind.entry.name)
        del sys.modules[f"readme_{axis}"]


def test_readme_shows_one_file_for_each_axis(kinds: dict[str, Kind]) -> None:
    assert set(kinds) == set(AXES)


@EACH
def test_the_form_offers_it_and_a_person_can_choose_it(kinds: dict[str, Kind], axis: str, qtbot: QtBot) -> None:
    from ui.forms import ConfigForm
    from ui.forms.choice import ChoiceEditor

    kind = kinds[axis]
    form = ConfigForm(ModelConfig, BASE)
    qtbot.addWidget(form)
    editor = form.rows[kind.field].editor
    assert isinstance(editor, ChoiceEditor)
    at = editor.combo.findData(kind.entry.name)
    assert editor.combo.itemText(at) == kind.entry.label
    editor.combo.setCurrentIndex(at)
    editor.combo.activated.emit(at)
    assert form.value == kind.config
    assert form.problems == []
    if axis == "positions":
        assert editor.form is not None
        assert list(editor.form.rows) == ["strength"], "its option is in the form too"


@EACH
def test_the_command_line_takes_it_and_its_help_names_it(
    kinds: dict[str, Kind], axis: str, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kind = kinds[axis]
    assert main(["inspect", "--preset", "tiny-llama", "--set", f"{kind.field}={kind.entry.name}", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["config"][kind.field]["kind"] == kind.entry.name
    assert found["parameters"]["total"] == account(kind.config).parameters
    with pytest.raises(SystemExit):
        main(["inspect", "--help"])
    (line,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith(f"  {kind.field}="))
    assert kind.entry.name in line.split("=")[1].split()[0].split("|")


@EACH
def test_the_diagram_draws_it(kinds: dict[str, Kind], axis: str) -> None:
    from ui.diagram.spec import description, spec_of

    spec = spec_of(kinds[axis].config, account(kinds[axis].config))
    shown = {"norms": spec.norm.title, "positions": " ".join(spec.attention.marks), "residuals": spec.placement, "mlps": spec.mlp.title}
    assert kinds[axis].entry.label in shown[axis]
    assert kinds[axis].entry.label in description(spec)
    assert spec.block is not None, "the placement was traced"
    if axis == "residuals":
        assert "0.7" in description(spec), "1.4 / √4 stands at the branches"


@EACH
def test_it_is_stored_priced_and_checked(kinds: dict[str, Kind], axis: str) -> None:
    config = kinds[axis].config
    assert config.problems() == []
    assert from_dict(ModelConfig, json.loads(json.dumps(to_dict(config)))) == config
    assert account(config).by_tensor == {n: p.numel() for n, p in build_model(config, device="meta").named_parameters()}
    if axis == "positions":
        assert [p.field for p in with_text(config, "position.strength=11").problems()] == ["position.strength"]


@EACH
def test_a_model_trains_with_it_is_saved_and_writes_again(kinds: dict[str, Kind], axis: str, tmp_path: Path) -> None:
    model = build_model(kinds[axis].config).train()
    text = torch.tensor(list(b"one file and one line, one file and one line"))[None]
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    losses = []
    for _ in range(6):
        loss = F.cross_entropy(model(text[:, :-1]).flatten(0, 1), text[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.5
    save_checkpoint(model.eval(), None, None, tmp_path / "saved")
    loaded = load_checkpoint(tmp_path / "saved").model
    assert loaded.config == kinds[axis].config
    with torch.no_grad():
        full = model(text)
        torch.testing.assert_close(loaded(text), full)
        cache = KVCache.for_model(loaded)
        steps = torch.cat([loaded(text[:, :30], cache), *(loaded(text[:, t : t + 1], cache) for t in range(30, text.shape[1]))], 1)
        torch.testing.assert_close(steps, full, rtol=1e-4, atol=1e-4)


@EACH
def test_a_loaded_model_is_told_what_choosing_it_means(kinds: dict[str, Kind], axis: str) -> None:
    """No rule knows the kind, so its part needs training; nothing else is touched, and nothing fails."""
    changes = plan(BASE, kinds[axis].config).changes
    assert [(c.field, c.verdict) for c in changes] == [(kinds[axis].field, "fresh")]
    assert changes[0].how


# ---- one file and one line, literally ------------------------------------------------------------------------------


@pytest.mark.slow
def test_one_file_and_one_line_bring_it_into_the_contracts(tmp_path: Path) -> None:
    """In a copy of the package: the files of README, a line each, and the contract tests as they are."""
    shutil.copytree(ROOT / "workbench", tmp_path / "workbench", ignore=shutil.ignore_patterns("__pycache__"))
    contracts = tmp_path / "tests" / "contracts"
    contracts.mkdir(parents=True)
    for name in ("pyproject.toml", "tests/conftest.py", "tests/contracts/conftest.py", *(f"tests/contracts/test_{a}.py" for a in AXES)):
        shutil.copy(ROOT / name, tmp_path / name)
    for axis, (name, code) in examples().items():
        folder = tmp_path / "workbench" / "parts" / axis
        (folder / f"{name}.py").write_text(code, encoding="utf-8")
        with (folder / "__init__.py").open("a", encoding="utf-8") as lines:
            lines.write(f"from workbench.parts.{axis} import {name} as _{name}  # noqa: F401\n")
    names = ["l1norm", "logarithmic", "depth_scaled", "relu2"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/contracts", "-k", " or ".join(names), "--tb=short", "-rA"],
        capture_output=True, text=True, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    passed = re.findall(r"^PASSED tests/contracts/test_(\w+)\.py::\w+\[(.*)\]", done.stdout, re.MULTILINE)
    for axis, name in zip(AXES, names, strict=True):
        met = [identifier for file, identifier in passed if file == axis and name in identifier]
        assert len(met) >= 8, f"{name} met {len(met)} contracts"
