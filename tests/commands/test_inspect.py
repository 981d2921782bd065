"""`inspect`: prices, comparisons and the list of presets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from workbench.__main__ import main
from workbench.core.fields import describe
from workbench.model import PRESETS, ModelConfig, account, compare
from workbench.parts.positions.scaling import ROPE_SCALINGS


def last(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(capsys.readouterr().out.splitlines()[-1])
    return found


def test_cache_and_attention_are_priced_at_a_context(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cost = account(PRESETS["mistral-7b"].config)
    for flags, tokens in ([], 32768), (["--context", "100"], 100):
        assert main(["inspect", "--preset", "mistral-7b", *flags, "--json"]) == 0
        found = last(capsys)["at_context"]
        assert found["tokens"] == tokens
        assert found["kv_bytes"] == {"float32": cost.kv_bytes(tokens, 4), "bfloat16": cost.kv_bytes(tokens, 2)}
        assert found["flops_per_token"] == cost.flops_per_token(tokens)
    assert main(["inspect", "--preset", "mistral-7b", "--context", "0"]) == 2


def test_a_preset_against_another(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", "--preset", "tiny-llama", "--against", "tiny-gpt2", "--json"]) == 0
    found = last(capsys)["against"]
    wanted = compare(PRESETS["tiny-gpt2"].config, PRESETS["tiny-llama"].config)
    assert found["name"] == "tiny-gpt2"
    assert [(r["part"], r["before"], r["after"], r["unit"]) for r in found["rows"]] == [(r.label, r.a, r.b, r.unit) for r in wanted.rows]
    assert {"field": "position", "before": "learned", "after": "rope"} in found["differences"]


def test_changes_are_compared_with_what_they_change(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", "--preset", "tiny-llama", "--set", "tie_embeddings=false", "--against", "tiny-llama"]) == 0
    out = capsys.readouterr().out
    assert "Output head" in out
    assert "+33.15 k" in out
    assert out.splitlines()[-1].split() == ["tie_embeddings", "True", "False"]
    main(["inspect", "--preset", "tiny-llama", "--against", "tiny-llama"])
    assert "No field differs." in capsys.readouterr().out


def test_presets_are_listed(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", "--list", "--json"]) == 0
    found = last(capsys)["presets"]
    assert [p["name"] for p in found] == list(PRESETS)
    assert all(p["parameters"] == PRESETS[p["name"]].parameters for p in found)
    assert main(["inspect", "--list"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in PRESETS)


def test_a_misspelt_preset_is_told_its_neighbours(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", "--preset", "smollm-135m"]) == 2
    assert "smollm2-135m" in capsys.readouterr().err


def test_help_names_every_field_every_kind_and_their_options(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["inspect", "--help"])
    lines = capsys.readouterr().out.splitlines()
    for info in describe(ModelConfig):
        (line,) = (line for line in lines if line.startswith(f"  {info.name}="))
        assert line.endswith(info.label)
        assert all(option.name in line for option in info.pick_options())
    assert any(line.strip().startswith(f"position.scaling={'|'.join(ROPE_SCALINGS.names())}") for line in lines)
    assert any(line.strip().startswith("position.scaling.beta_fast=FLOAT") for line in lines)
