"""Registries: named kinds with their options."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from workbench.core.errors import ConfigError
from workbench.core.registry import NoOptions, Registry


@pytest.fixture
def registry() -> Registry[Any]:
    return Registry("widget")


@dataclass(frozen=True)
class Options:
    size: int = 1


def test_register_keeps_everything_and_returns_what_it_decorates(registry: Registry[Any]) -> None:
    def make(size: int) -> int:
        return size

    decorated = registry.register(
        "a", label="A", help="The first.", options=Options, source="Someone 2000", equation="a = 1", used_by="everyone"
    )(make)
    assert decorated is make
    entry = registry["a"]
    assert (entry.name, entry.label, entry.help, entry.make, entry.options) == ("a", "A", "The first.", make, Options)
    assert (entry.source, entry.equation, entry.used_by) == ("Someone 2000", "a = 1", "everyone")


def test_kinds_keep_the_order_of_registration(registry: Registry[Any]) -> None:
    for name in ("z", "a", "m"):
        registry.register(name, label=name, help="One.")(dict)
    assert registry.names() == ("z", "a", "m")
    assert [e.name for e in registry] == ["z", "a", "m"]
    assert len(registry) == 3
    assert "a" in registry
    assert "q" not in registry
    assert 5 not in registry


def test_a_name_can_be_taken_once(registry: Registry[Any]) -> None:
    registry.register("a", label="A", help="One.")(dict)
    with pytest.raises(ValueError, match="widget 'a' is registered twice"):
        registry.register("a", label="B", help="Two.")


@pytest.mark.parametrize("options", [dict, Options(), int])
def test_options_must_be_a_dataclass_type(registry: Registry[Any], options: Any) -> None:
    with pytest.raises(TypeError, match="must be a dataclass type"):
        registry.register("a", label="A", help="One.", options=options)


def test_unregister_forgets(registry: Registry[Any]) -> None:
    registry.register("a", label="A", help="One.")(dict)
    registry.unregister("a")
    assert len(registry) == 0
    registry.register("a", label="A", help="One.")(dict)


def test_an_unknown_kind_is_named_with_the_known_ones(registry: Registry[Any]) -> None:
    registry.register("a", label="A", help="One.")(dict)
    with pytest.raises(ConfigError) as caught:
        registry["b"]
    assert str(caught.value) == "There is no widget 'b'. Choose one of: a."


def test_choose_makes_with_options_and_context(registry: Registry[Any]) -> None:
    registry.register("a", label="A", help="One.", options=Options)(lambda size, width: (size, width))
    choice = registry.choose("a", {"size": 5})
    assert choice == registry.choose("a", size=5)
    assert choice != registry.choose("a")
    assert choice.arguments() == {"size": 5}
    assert choice.make(width=2) == (5, 2)
    assert choice.entry is registry["a"]
    with pytest.raises(ConfigError, match="A has no option 'colour'"):
        registry.choose("a", colour="red")


def test_an_option_may_be_called_name(registry: Registry[Any]) -> None:
    @dataclass(frozen=True)
    class Named:
        name: str = "x"

    registry.register("a", label="A", help="One.", options=Named)(lambda name: name)
    assert registry.choose("a", name="y").make() == "y"


def test_kinds_without_options_have_none() -> None:
    assert NoOptions() == NoOptions()
