"""Settings and kinds explain themselves: forms, help pages and flags are generated from what is checked here."""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
from collections.abc import Iterator
from dataclasses import MISSING
from types import ModuleType
from typing import Any

import pytest

import workbench
from workbench.core.fields import FieldInfo, describe, field_problems, from_dict, to_dict
from workbench.core.registry import Entry, Registry

SOURCELESS = ("checkpoint format", "Hugging Face model type", "GGUF architecture")
"""Axes whose kinds are file formats rather than ideas with a paper or reference."""


def modules() -> Iterator[ModuleType]:
    yield from (
        importlib.import_module(m.name) for m in pkgutil.walk_packages(workbench.__path__, "workbench.") if not m.name.endswith("__main__")
    )


def objects() -> Iterator[tuple[str, Any]]:
    for module in modules():
        yield from ((f"{module.__name__}.{name}", value) for name, value in vars(module).items())


def config_types() -> list[type]:
    """Every engine dataclass with at least one self-describing field, options of kinds included."""
    found = {
        value: None
        for _, value in objects()
        if isinstance(value, type) and dataclasses.is_dataclass(value) and value.__module__.startswith("workbench.") and described(value)
    }
    return sorted(found, key=lambda t: t.__qualname__)


def described(config_type: type) -> bool:
    return any("workbench" in f.metadata for f in dataclasses.fields(config_type))


def entries() -> list[tuple[Registry[Any], Entry[Any]]]:
    registries = {id(value): value for _, value in objects() if isinstance(value, Registry)}
    return [(registry, entry) for registry in registries.values() for entry in registry]


CONFIGS = config_types()
SETTINGS = [(config, info) for config in CONFIGS for info in describe(config)]
ENTRIES = entries()


def is_sentence(text: str) -> bool:
    return len(text) > 10 and not text[0].islower() and text.endswith((".", "?", "!")) and "  " not in text


def test_the_walk_finds_the_configs_and_kinds() -> None:
    assert {"ModelConfig", "GenerationConfig", "LoraConfig", "CacheConfig"} <= {c.__name__ for c in CONFIGS}
    assert len(ENTRIES) > 10


@pytest.mark.parametrize(("config", "info"), SETTINGS, ids=lambda x: getattr(x, "__name__", None) or x.name)
def test_a_setting_is_labelled_and_explained(config: type, info: FieldInfo) -> None:
    assert info.label, "a form needs a label"
    assert not info.label.endswith((".", ":"))
    assert is_sentence(info.help), f"help is no sentence: {info.help!r}"
    if info.minimum is not None and info.maximum is not None:
        assert info.minimum < info.maximum
    if info.log:
        assert (info.minimum or 0) >= 0
    for option in info.options or ():
        assert option.label
        assert not option.help or is_sentence(option.help)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: c.__name__)
def test_labels_are_told_apart(config: type) -> None:
    labels = [(i.group, i.label) for i in describe(config)]
    assert len(set(labels)) == len(labels)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: c.__name__)
def test_defaults_are_valid_and_survive_a_file(config: type) -> None:
    required = [i.name for i in describe(config) if i.default is MISSING]
    if required:
        pytest.skip(f"has no complete default: {', '.join(required)}")
    default = config()
    problems = default.problems() if hasattr(default, "problems") else field_problems(default)
    assert [str(p) for p in problems] == []
    assert from_dict(config, to_dict(default)) == default


@pytest.mark.parametrize(("registry", "entry"), ENTRIES, ids=lambda x: getattr(x, "what", None) or x.name)
def test_a_kind_is_labelled_explained_and_sourced(registry: Registry[Any], entry: Entry[Any]) -> None:
    assert entry.label
    assert entry.help
    if registry.what not in SOURCELESS:
        assert is_sentence(entry.help), f"help is no sentence: {entry.help!r}"
        assert entry.source, f"{registry.what} {entry.name!r} names no paper or reference"
    assert [str(p) for p in field_problems(entry.options())] == []


# ---- architecture: what a person may change about a model is sourced, and says who decided so ----------------------

AXES = ("norm", "position encoding", "norm placement", "MLP", "initialisation", "RoPE scaling")
NO_PAPER = {
    ("ModelConfig", "max_positions"): "every training run chooses its own",
    ("ModelConfig", "position"): "its kinds have their own",
    ("ModelConfig", "norm"): "its kinds have their own",
    ("ModelConfig", "residual"): "its kinds have their own",
    ("ModelConfig", "mlp"): "its kinds have their own",
    ("ModelConfig", "init"): "its kinds have their own",
}
"""Settings of an architecture without a paper, or without a model that made them known, and why."""


def architecture_settings() -> list[tuple[type, FieldInfo]]:
    from workbench.model import ModelConfig

    options = {entry.options: None for registry, entry in ENTRIES if registry.what in AXES}
    return [(config, info) for config in (ModelConfig, *options) for info in describe(config)]


@pytest.mark.parametrize(("config", "info"), architecture_settings(), ids=lambda x: getattr(x, "__name__", None) or x.name)
def test_a_setting_of_an_architecture_names_its_source_and_who_uses_it(config: type, info: FieldInfo) -> None:
    excuse = NO_PAPER.get((config.__name__, info.name))
    assert info.source or excuse, f"{config.__name__}.{info.name} names no paper or reference"
    assert info.used_by or info.registry is not None, f"{config.__name__}.{info.name} names no model that uses it"
    assert not (info.source and excuse), f"{config.__name__}.{info.name} needs no excuse"
    for text in (info.source, info.used_by, info.equation):
        assert text == text.strip().rstrip("."), "forms write these into sentences of their own"
    for option in info.options or ():
        assert option.used_by, f"{config.__name__}.{info.name}={option.name} names no model that uses it"


@pytest.mark.parametrize(("registry", "entry"), [e for e in ENTRIES if e[0].what in AXES], ids=lambda x: getattr(x, "what", None) or x.name)
def test_a_kind_of_an_architecture_has_its_equation_and_who_uses_it(registry: Registry[Any], entry: Entry[Any]) -> None:
    assert entry.equation
    assert entry.used_by
    for text in (entry.source, entry.used_by, entry.equation):
        assert text == text.strip().rstrip(".")


def test_every_axis_is_looked_at() -> None:
    assert {registry.what for registry, _ in ENTRIES} >= set(AXES)
    known = {(config.__name__, info.name) for config, info in architecture_settings()}
    assert set(NO_PAPER) <= known, "an excuse for a setting that is not there"
