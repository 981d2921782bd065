"""`--quantize --quantize-skip --quantize-set`, as a script gives them."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest

from workbench.__main__ import main
from workbench.checkpoints import load_checkpoint, save_checkpoint
from workbench.commands.quantize_flags import quantization_config, quantize_flags
from workbench.core.errors import ConfigError
from workbench.model import ModelConfig, build_model
from workbench.quantization import SCHEMES, QuantizationConfig, is_quantized, quantize
from workbench.tokenizers import CHATML, ByteTokenizer


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    tokenizer = ByteTokenizer()
    built = build_model(ModelConfig(vocab_size=tokenizer.vocab_size, n_layers=2, d_model=32, n_heads=2, d_ff=64, max_positions=512), seed=3)
    path = tmp_path_factory.mktemp("cli") / "tiny"
    save_checkpoint(built, tokenizer, CHATML, path)
    return str(path)


def asked(*arguments: str) -> QuantizationConfig | None:
    parser = argparse.ArgumentParser()
    quantize_flags(parser)
    return quantization_config(parser.parse_args(arguments))


def test_nothing_asked_is_full_precision() -> None:
    assert asked() is None


@pytest.mark.parametrize("kind", SCHEMES.names())
def test_a_scheme_by_its_name(kind: str) -> None:
    assert asked("--quantize", kind) == QuantizationConfig(scheme=SCHEMES.choose(kind))


def test_patterns_and_settings() -> None:
    found = asked("--quantize", "int8", "--quantize-skip", "lm_head", "--quantize-skip", "*norm*", "--quantize-set", "group_size=64")
    assert found == QuantizationConfig(scheme=SCHEMES.choose("int8", {"group_size": 64}), skip=("lm_head", "*norm*"))
    found = asked("--quantize", "int8", "--quantize-skip", "", "--quantize-set", "modules=*mlp*")
    assert found is not None
    assert (found.skip, found.modules) == ((), ("*mlp*",))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--quantize", "int7"], "Did you mean int"),
        (["--quantize-skip", "lm_head"], "--quantize int8"),
        (["--quantize", "int8", "--quantize-set", "group_size=3"], "the least is 8"),
        (["--quantize", "int8", "--quantize-set", "groupsize=32"], "group_size"),
    ],
)
def test_what_cannot_be_is_explained(arguments: list[str], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        asked(*arguments)
    assert words in f"{caught.value} {caught.value.hint}"


def last(capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    found: dict[str, object] = json.loads(capsys.readouterr().out.splitlines()[-1])
    return found


def test_verbs_work_with_the_quantized_model(model: str, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = tmp_path / "text.txt"
    text.write_text("A line that is scored. " * 10)
    assert main(["score", model, str(text), "--dtype", "float32", "--json"]) == 0
    plain = last(capsys)["nll"]
    assert main(["score", model, str(text), "--quantize", "int4", "--quantize-skip", "", "--dtype", "float32", "--json"]) == 0
    assert last(capsys)["nll"] != plain
    assert main(["generate", model, "--prompt", "A", "--max-new-tokens", "3", "--quantize", "int8", "--json"]) == 0
    capsys.readouterr()
    out = tmp_path / "small"
    assert main(["export", model, "--format", "workbench", "--quantize", "int8", "--out", str(out), "--json"]) == 0
    saved = load_checkpoint(out).model
    assert is_quantized(saved)
    wanted = quantize(load_checkpoint(model).model)
    assert all((a == b).all() for a, b in zip(saved.parameters(), wanted.parameters(), strict=True))
