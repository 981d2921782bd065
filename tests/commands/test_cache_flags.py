"""`--cache --cache-set --context`, as a script gives them."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pytest

from workbench.__main__ import main
from workbench.caches import KV_CODECS, CacheConfig
from workbench.checkpoints import save_checkpoint
from workbench.commands.cache_flags import cache_config, cache_flags
from workbench.core.errors import ConfigError
from workbench.model import ModelConfig, build_model
from workbench.tokenizers import CHATML, ByteTokenizer


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    tokenizer = ByteTokenizer()
    built = build_model(ModelConfig(vocab_size=tokenizer.vocab_size, n_layers=1, d_model=16, n_heads=2, d_ff=24, max_positions=512))
    path = tmp_path_factory.mktemp("cli") / "tiny"
    save_checkpoint(built, tokenizer, CHATML, path)
    return str(path)


def asked(*arguments: str, default: str | None = "exact") -> CacheConfig:
    parser = argparse.ArgumentParser()
    cache_flags(parser, default)
    return cache_config(parser.parse_args(arguments))


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_nothing_asked_is_the_exact_cache() -> None:
    assert asked() == asked(default=None) == CacheConfig()
    assert asked("--cache", "none") == CacheConfig(use_cache=False)


@pytest.mark.parametrize("kind", KV_CODECS.names())
def test_a_kind_is_for_keys_and_values(kind: str) -> None:
    config = asked("--cache", kind, "--context", "64")
    assert (config.codec.kind, config.value_codec.kind, config.capacity) == (kind, kind, 64)


def test_settings_are_applied_in_order() -> None:
    config = asked("--cache", "int8", "--cache-set", "window=32", "--cache-set", "overflow=sinks", "--cache-set", "sinks=4")
    assert (config.window, config.overflow, config.sinks) == (32, "sinks", 4)
    config = asked("--cache-set", "codec=int8", "--cache-set", "capacity=100", "--context", "200")
    assert (config.codec.kind, config.value_codec.kind, config.capacity) == ("int8", "exact", 200)


def test_an_option_of_the_kinds_goes_to_those_that_have_it() -> None:
    both = asked("--cache", "turboquant", "--cache-set", "bits=3")
    assert (both.codec.options.bits, both.value_codec.options.bits) == (3, 3)  # type: ignore[attr-defined]
    one = asked("--cache", "turboquant", "--cache-set", "value_codec=int8", "--cache-set", "bits=3")
    assert one.codec.options.bits == 3  # type: ignore[attr-defined]
    assert asked("--cache", "turboquant", "--cache-set", "value_codec.bits=2").codec == CacheConfig(codec="turboquant").codec  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--cache", "exakt"], "Did you mean exact"),
        (["--cache", "int8", "--cache-set", "bits=3"], "bits"),
        (["--cache-set", "window"], "not of the form field=value"),
        (["--cache-set", "overflow=explode"], "explode"),
        (["--cache-set", "overflow=sinks"], "at least one"),
        (["--context", "3"], "the least is 16"),
    ],
)
def test_mistakes_are_named(arguments: list[str], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        asked(*arguments)


def test_generate_goes_on_past_its_context(model: str, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    numbers = ["--no-do-sample", "--max-new-tokens", "60", "--dtype", "float32", "--threads", "2", "--json"]
    rolling = ["--context", "32", "--cache-set", "overflow=rolling"]
    assert main(["generate", model, "--prompt", "abc", "--context", "32", *numbers]) == 0
    assert lines(capsys)[-1]["stop_reason"] == "context"
    for cache in ("none", "exact", "int8"):
        assert main(["generate", model, "--prompt", "abc", "--cache", cache, *rolling, *numbers]) == 0
        done = lines(capsys)[-1]
        assert (done["stop_reason"], done["new_tokens"]) == ("length", 60)
        assert done["dropped_tokens"] > 30
    assert main(["generate", model, "--prompt", "abc", *rolling, *numbers[:-1]]) == 0
    assert "tokens dropped" in capsys.readouterr().out


def test_a_chat_says_what_it_left_out(model: str, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["generate", model, "--chat", "hi", "--max-new-tokens", "3", "--cache-set", "overflow=truncate", "--json"]
    assert main(arguments) == 0
    assert {"left_out_messages", "cache_change", "cached", "dropped_tokens", "ids"} <= set(lines(capsys)[-1])


@pytest.mark.parametrize("way", ["rolling", "sinks"])
def test_score_reads_a_long_text_through_a_short_cache(
    way: str, model: str, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = tmp_path / "t.txt"
    text.write_text("some words to predict " * 8)
    flags = ["--cache", "exact", "--context", "48", "--cache-set", f"overflow={way}", "--cache-set", "sinks=4"]
    assert main(["score", model, str(text), *flags, "--json"]) == 0
    done = lines(capsys)[-1]
    assert (done["tokens"], done["windows"]) == (175, 1)


def test_bench_measures_the_cache_that_is_asked_for(model: str, home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    short = ["--model", model, "--repeats", "1", "--dtype", "float32", "--json"]
    assert main(["bench", "decode", *short, "--cache", "int8", "--cache-set", "value_codec=exact"]) == 0
    assert [row["cache"] for row in lines(capsys)[-1]["rows"]] == ["exact", "none", "int8 / exact"]
