"""`bench cache`: every cache by name, what it takes and how much less that is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from workbench.__main__ import main
from workbench.caches import CACHE_PRESETS, KV_CODECS
from workbench.checkpoints import save_checkpoint
from workbench.model import ModelConfig, build_model
from workbench.tokenizers import ByteTokenizer


@pytest.fixture
def tiny(tmp_path: Path, home: Path) -> str:
    """Heads of a width that compiled kernels do not serve, so that nothing has to be compiled."""
    model = build_model(ModelConfig(vocab_size=259, n_layers=2, d_model=64, n_heads=2, head_dim=40, max_positions=600))
    save_checkpoint(model, ByteTokenizer(mask=False), None, tmp_path / "tiny")
    return str(tmp_path / "tiny")


def test_every_cache_is_measured(tiny: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "cache", "--model", tiny, "--repeats", "1", "--json"]) == 0
    rows = {row["cache"]: row for row in json.loads(capsys.readouterr().out.splitlines()[-1])["rows"]}
    assert set(rows) == {*KV_CODECS.names(), *CACHE_PRESETS}
    assert {row["context"] for row in rows.values()} == {512}
    exact = rows["exact"]
    assert (exact["bytes"], exact["below_float16"], exact["below_float32"]) == (2 * 2 * 2 * 40 * 4 * 512, 0.5, 1.0)
    assert (rows["int8"]["below_float16"], rows["int8"]["below_float32"]) == (1.9, 3.81)
    for row in rows.values():
        assert row["below_float32"] == pytest.approx(exact["bytes"] / row["bytes"], abs=0.006)
        assert row["tokens_per_second"] == pytest.approx(1000 / row["ms_per_token"], rel=0.01)


def test_one_cache_is_measured_beside_the_exact_one(tiny: str, capsys: pytest.CaptureFixture[str]) -> None:
    verb = ["bench", "cache", "--model", tiny, "--repeats", "1", "--cache", "int4", "--cache-set", "rotated=yes", "--context", "108"]
    assert main([*verb, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out.splitlines()[-1])["rows"]
    assert [(row["cache"], row["context"]) for row in rows] == [("exact", 100), ("int4", 100), ("exact", 512), ("int4", 512)]
