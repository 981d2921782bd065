"""Command-line flags made from fields."""

from __future__ import annotations

import argparse
from typing import Any

import pytest

from workbench.core.errors import ConfigError
from workbench.core.flags import add_flags, from_flags


@pytest.fixture
def parser(sample_type: type) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="try", exit_on_error=False)
    add_flags(parser, sample_type, skip=("shape",))
    return parser


def words(text: str) -> str:
    return " ".join(text.split())


def test_help_comes_from_the_fields(parser: argparse.ArgumentParser) -> None:
    text = words(parser.format_help())
    assert "--count INT How many there are. (key: num_things) Default: 3." in text
    assert "--rate 1/S How fast it goes, at most 100 %. Default: 0.5." in text  # a per cent sign is no format
    assert "--limit INT Where it ends. Default: no limit." in text
    assert "--strict, --no-strict" in text
    assert "--level low|high" in text
    assert "--colour red" in text
    assert "--shape" not in text
    assert text.index("Numbers") < text.index("settings")


def test_a_choice_shows_its_kinds_and_default(sample_type: type) -> None:
    parser = argparse.ArgumentParser()
    add_flags(parser, sample_type)
    assert "--shape dot|box What it looks like. Default: dot." in words(parser.format_help())


def test_values_are_parsed_and_the_rest_keeps_its_default(parser: argparse.ArgumentParser, sample_type: type) -> None:
    given = "--count=1e3 --rate=0.25 --limit=7 --no-strict --title=x --tags=p,q --sizes=1,2 --level=high --colour=red"
    config = from_flags(sample_type, parser.parse_args(given.split()))
    assert config == sample_type(
        count=1000, rate=0.25, limit=7, strict=False, title="x", tags=("p", "q"), sizes=(1, 2), level="high", colour="red"
    )
    assert from_flags(sample_type, parser.parse_args([])) == sample_type()
    assert from_flags(sample_type, parser.parse_args(["--limit", "none"])).limit is None


def test_list_flags_repeat_and_take_commas(parser: argparse.ArgumentParser, sample_type: type) -> None:
    config = from_flags(sample_type, parser.parse_args(["--tags", "p, q", "--tags=r", "--sizes=1", "--sizes=2,3"]))
    assert (config.tags, config.sizes) == (("p", "q", "r"), (1, 2, 3))


def test_verbatim_items_keep_commas_and_blanks() -> None:
    from workbench.generation import GenerationConfig

    parser = argparse.ArgumentParser()
    add_flags(parser, GenerationConfig)
    given = parser.parse_args(["--stop", ",", "--stop", "\n", "--stop", " a, b "])
    assert from_flags(GenerationConfig, given).stop == (",", "\n", " a, b ")


def test_absent_flags_stay_unset(parser: argparse.ArgumentParser) -> None:
    assert vars(parser.parse_args(["--count", "4"])) == {"count": "4"}


def test_fixed_values_win(parser: argparse.ArgumentParser, sample_type: type) -> None:
    assert from_flags(sample_type, parser.parse_args(["--count", "4"]), count=9).count == 9


def test_a_choice_can_be_given_by_name(sample_type: type) -> None:
    parser = argparse.ArgumentParser()
    add_flags(parser, sample_type)
    assert from_flags(sample_type, parser.parse_args(["--shape", "box"])).shape.kind == "box"


@pytest.mark.parametrize(
    ("given", "message"), [(["--count", "many"], "Count must be a whole number, not 'many'."), (["--rate", "x"], "Rate must be a number")]
)
def test_a_wrong_value_is_a_config_error(parser: argparse.ArgumentParser, sample_type: type, given: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        from_flags(sample_type, parser.parse_args(given))


def test_two_configs_share_one_parser(sample_type: type) -> None:
    from workbench.model import ModelConfig

    parser = argparse.ArgumentParser()
    add_flags(parser, ModelConfig)
    add_flags(parser, sample_type, skip=("limit",))
    parser.format_help()
    parsed: Any = parser.parse_args(["--n-layers", "3", "--count", "2", "--position", "alibi"])
    config = from_flags(ModelConfig, parsed)
    assert (config.n_layers, config.position.kind, config.problems()) == (3, "alibi", [])
    assert from_flags(sample_type, parsed).count == 2
