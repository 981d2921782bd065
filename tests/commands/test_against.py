"""`generate --chat … --against FLAGS`, as a script or a person gives it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from workbench.__main__ import main
from workbench.checkpoints import save_checkpoint
from workbench.commands.against import against_settings
from workbench.core.errors import ConfigError
from workbench.model import ModelConfig, build_model
from workbench.tokenizers import CHATML, ByteTokenizer


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    tokenizer = ByteTokenizer()
    built = build_model(ModelConfig(vocab_size=tokenizer.vocab_size, n_layers=1, d_model=64, n_heads=4, d_ff=96, max_positions=512))
    path = tmp_path_factory.mktemp("cli") / "tiny"
    save_checkpoint(built, tokenizer, CHATML, path)
    return str(path)


def run(home: Path, model: str, *more: str) -> int:
    usual = ("--chat", "What is a cache?", "--max-new-tokens", "6", "--no-do-sample", "--home", str(home))
    return main(["generate", model, *usual, *more])


def test_the_flags_of_a_side_are_those_of_the_verb() -> None:
    side = against_settings("--cache int8 --cache-set window=32 --quantize int4 --quantize-set group_size=16 --no-adapter")
    assert (side.cache.codec.kind, side.cache.window, side.adapter) == ("int8", 32, False)
    assert side.quantization is not None
    assert side.quantization.scheme.kind == "int4"
    plain = against_settings("")
    assert (plain.cache.codec.kind, plain.quantization, plain.adapter) == ("exact", None, True)
    for wrong in ("--cash none", "--cache nonsense", '--cache "none', "--quantize int5"):
        with pytest.raises(ConfigError):
            against_settings(wrong)


def test_a_script_reads_both_sides(home: Path, model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(home, model, "--against", "--cache none", "--json") == 0
    said: list[dict[str, Any]] = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    tokens = [s["side"] for s in said if s["event"] == "side" and s["said"]["event"] == "token"]
    assert tokens == ["A", "B"] * 6
    last = said[-1]
    assert (last["event"], last["compared"], last["first_difference"], last["exact"]) == ("done", 6, None, ["A"])
    assert last["a"]["ids"] == last["b"]["ids"]


def test_a_person_reads_texts_figures_and_a_verdict(home: Path, model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(home, model, "--quantize", "int8", "--against", "--cache int8") == 0
    text = capsys.readouterr().out
    assert text.index("A: ") < text.index("B: ") < text.index("per token")
    assert "Identical: 6 tokens" in text or "First different token" in text


def test_without_a_message_there_is_nothing_to_compare(home: Path, model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", model, "--prompt", "x", "--against", "--cache none", "--home", str(home)]) != 0
    assert "--chat" in capsys.readouterr().err
