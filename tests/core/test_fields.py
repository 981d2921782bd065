"""Settings that explain themselves: description, rules, files, text."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import FrozenInstanceError, dataclass
from typing import Any

import pytest

from workbench.core.errors import ConfigError
from workbench.core.fields import (
    Problem,
    choice,
    describe,
    field_problems,
    from_dict,
    info_of,
    parse,
    pick,
    require_usable,
    setting,
    to_dict,
    with_text,
)
from workbench.core.registry import Choice, Registry

Make = Callable[..., Any]


# ---- description ---------------------------------------------------------------------------------------------------


def test_describe_lists_annotated_fields_in_order(sample_type: type) -> None:
    names = [i.name for i in describe(sample_type)]
    assert names == ["count", "rate", "limit", "strict", "title", "tags", "sizes", "level", "colour", "shape"]


def test_describe_knows_types_and_bounds(sample_type: type) -> None:
    count, limit, tags, sizes = (info_of(sample_type, n) for n in ("count", "limit", "tags", "sizes"))
    assert (count.type, count.optional, count.minimum, count.maximum, count.default) == (int, False, 1, 2_000_000, 3)
    assert (limit.type, limit.optional, limit.none_label) == (int, True, "no limit")
    assert (tags.type, tags.item, sizes.item) == (tuple, str, int)


def test_options_of_a_pick_come_from_the_list_or_the_registry(sample_type: type, shapes: Registry[Any]) -> None:
    assert [o.name for o in info_of(sample_type, "level").pick_options()] == ["low", "high"]
    assert [o.name for o in info_of(sample_type, "colour").pick_options()] == ["red"]
    assert info_of(sample_type, "shape").is_choice
    assert not info_of(sample_type, "colour").is_choice
    assert info_of(sample_type, "count").pick_options() == ()


def test_a_field_tells_its_equation_its_source_and_who_uses_it() -> None:
    kinds: Registry[Any] = Registry("kind")
    kinds.register("one", label="One", help="The first.", source="a book", equation="y = 1", used_by="Peano")(lambda: 1)
    told: dict[str, Any] = {"label": "X", "help": "Is explained.", "source": "a paper", "equation": "y = x", "used_by": "GPT-2"}

    @dataclass(frozen=True)
    class Explained:
        number: int = setting(1, **told)
        name: str = pick(kinds, "one", **told)
        kind: Choice[Any] = choice(kinds, "one", **told)
        bare: int = setting(1, label="X", help="Is explained.")

    *full, bare = describe(Explained)
    assert [(i.equation, i.source, i.used_by) for i in full] == [("y = x", "a paper", "GPT-2")] * 3
    assert (bare.equation, bare.source, bare.used_by) == ("", "", "")
    (option,) = full[1].pick_options()
    assert (option.equation, option.source, option.used_by) == ("y = 1", "a book", "Peano")


def test_a_kind_registered_later_is_offered_at_once(sample_type: type, colours: Registry[Any]) -> None:
    describe(sample_type)
    colours.register("blue", label="Blue", help="The colour blue.")(lambda: "blue")
    try:
        assert [o.name for o in info_of(sample_type, "colour").pick_options()] == ["red", "blue"]
        assert sample_type(colour="blue").problems() == []
    finally:
        colours.unregister("blue")
    assert sample_type(colour="blue").problems()[0].field == "colour"


def test_an_unknown_setting_is_named_with_the_known_ones(sample_type: type) -> None:
    with pytest.raises(ConfigError, match="There is no setting 'nope'") as caught:
        info_of(sample_type, "nope")
    assert "count" in caught.value.hint


def test_a_field_of_two_types_is_a_programming_error() -> None:
    @dataclass(frozen=True)
    class Bad:
        x: int | str = setting(1, label="X", help="Something.")

    with pytest.raises(TypeError, match="one type"):
        describe(Bad)


def test_configs_are_frozen(sample: Make) -> None:
    with pytest.raises(FrozenInstanceError):
        sample().count = 4


# ---- rules ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "field", "text"),
    [
        ({"count": 0}, "count", "Count is 0; the least is 1. Use 1 or more."),
        ({"count": 2_000_001}, "count", "Count is 2000001; the most is 2000000. Use 2000000 or less."),
        ({"count": 10**400}, "count", "Count is 1e+308; the most is 2000000. Use 2000000 or less."),
        ({"rate": 1.5}, "rate", "Rate is 1.5; the most is 1 1/s. Use 1 or less."),
        ({"rate": -0.25}, "rate", "Rate is -0.25; the least is 0 1/s. Use 0 or more."),
        ({"rate": float("nan")}, "rate", "Rate is nan. Give a finite number."),
        ({"rate": float("inf")}, "rate", "Rate is inf. Give a finite number."),
        ({"count": 2.5}, "count", "Count must be a whole number, not 2.5."),
        ({"count": True}, "count", "Count must be a whole number, not True."),
        ({"count": "3"}, "count", "Count must be a whole number, not '3'."),
        ({"count": None}, "count", "Count is missing. Give a value."),
        ({"rate": "fast"}, "rate", "Rate must be a number, not 'fast'."),
        ({"strict": 1}, "strict", "Strict must be yes or no, not 1."),
        ({"title": 5}, "title", "Title must be text, not 5."),
        ({"tags": "ab"}, "tags", "Tags must be a list, not 'ab'."),
        ({"level": "medium"}, "level", "Level cannot be 'medium'. Choose one of: low, high."),
        ({"colour": "pink"}, "colour", "Colour cannot be 'pink'. Choose one of: red."),
        ({"shape": {"kind": "box", "width": 11}}, "shape.width", "Box width is 11; the most is 10 cm. Use 10 or less."),
        ({"shape": {"kind": "box", "sides": "two"}}, "shape.sides", "Sides cannot be 'two'. Choose one of: four, six."),
    ],
    ids=lambda x: None,
)
def test_a_problem_names_value_bound_and_fix(sample: Make, given: dict[str, Any], field: str, text: str) -> None:
    (problem,) = sample(**given).problems()
    assert problem.field == field
    assert str(problem) == text


def test_bounds_themselves_are_allowed(sample: Make) -> None:
    assert sample(count=1, rate=0.0).problems() == []
    assert sample(count=2_000_000, rate=1).problems() == []


def test_all_problems_come_at_once(sample: Make) -> None:
    config = sample(count=0, rate=2.0, level="x", shape={"kind": "box", "width": 0.1})
    assert [p.field for p in config.problems()] == ["count", "rate", "level", "shape.width"]
    with pytest.raises(ConfigError) as caught:
        require_usable(config)
    assert caught.value.message == "Count is 0; the least is 1."
    assert caught.value.hint == "Use 1 or more."
    assert len(caught.value.details.splitlines()) == 4
    assert "shape.width: Box width is 0.1" in caught.value.details


def test_a_usable_config_passes(sample: Make) -> None:
    require_usable(sample())


def test_a_kind_of_another_axis_is_refused(sample: Make, colours: Registry[Any]) -> None:
    (problem,) = sample(shape=colours.choose("red")).problems()
    assert str(problem) == "Shape cannot be the colour 'red'."
    (problem,) = sample(count=colours.choose("red")).problems()
    assert problem.field == "count"


def test_none_is_a_value_only_where_it_may_be(sample: Make) -> None:
    assert sample(limit=None, colour=None).problems() == []
    assert [p.field for p in sample(title=None, strict=None).problems()] == ["strict", "title"]


def test_a_problem_without_a_fix_is_one_sentence() -> None:
    assert str(Problem("x", "X is wrong.")) == "X is wrong."


# ---- choices -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", ["box", {"kind": "box"}, {"kind": "box", "width": 2, "sides": "four"}])
def test_a_choice_may_be_given_as_name_or_mapping(sample: Make, shapes: Registry[Any], given: Any) -> None:
    config = sample(shape=given)
    assert config.shape == shapes.choose("box")
    assert isinstance(config.shape.options.width, float)
    assert config.shape.make(colour="red") == "box of 2.0 with four sides in red"


@pytest.mark.parametrize("given", [5, None, {"width": 3}, ["box"]])
def test_a_choice_of_the_wrong_form_is_refused(sample: Make, given: Any) -> None:
    with pytest.raises(ConfigError, match="Shape cannot be"):
        sample(shape=given)


def test_an_unknown_kind_and_an_unknown_option_are_named(sample: Make) -> None:
    with pytest.raises(ConfigError, match="There is no shape 'cone'") as caught:
        sample(shape="cone")
    assert caught.value.hint == "Choose one of: dot, box."
    with pytest.raises(ConfigError, match="Box has no option 'height'") as caught:
        sample(shape={"kind": "box", "height": 3})
    assert caught.value.hint == "Its options are: sides, width."
    with pytest.raises(ConfigError, match="Dot has no option 'width'") as caught:
        sample(shape={"kind": "dot", "width": 3})
    assert caught.value.hint == "Its options are: none."


# ---- files ---------------------------------------------------------------------------------------------------------


def test_files_keep_everything(sample: Make, sample_type: type) -> None:
    config = sample(count=9, limit=4, tags=("x",), sizes=(1, 2), colour="red", shape={"kind": "box", "width": 3.5}, inner=1)
    stored = json.loads(json.dumps(to_dict(config)))
    assert stored["shape"] == {"kind": "box", "width": 3.5, "sides": "four"}
    assert stored["tags"] == ["x"]
    again = from_dict(sample_type, stored)
    assert again == config
    assert hash(again) == hash(config)


def test_missing_keys_take_their_default_and_whole_numbers_become_floats(sample_type: type, sample: Make) -> None:
    config = from_dict(sample_type, {"rate": 1})
    assert config == sample(rate=1.0)
    assert type(config.rate) is float
    assert type(from_dict(sample_type, {"strict": True}).strict) is bool


def test_an_unknown_key_is_named_with_the_known_ones(sample_type: type) -> None:
    with pytest.raises(ConfigError, match="Sample has no setting 'colr'") as caught:
        from_dict(sample_type, {"colr": "red", "count": 1})
    assert "colour" in caught.value.hint


def test_from_dict_does_not_hide_wrong_values(sample_type: type) -> None:
    assert [p.field for p in from_dict(sample_type, {"count": "many"}).problems()] == ["count"]


def test_copies_choose_from_the_same_registry(sample: Make, shapes: Registry[Any]) -> None:
    config = sample(shape="box")
    twin = copy.deepcopy(config)
    assert twin == config
    assert twin.shape.registry is shapes
    assert twin.problems() == []


def test_a_choice_with_foreign_options_is_a_programming_error(shapes: Registry[Any]) -> None:
    with pytest.raises(TypeError, match="box takes BoxOptions"):
        Choice(shapes, "box", shapes.choose("dot").options)


# ---- text ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("count", "12", 12),
        ("count", " 1_000 ", 1000),
        ("count", "1e3", 1000),
        ("count", "9007199254740993", 9007199254740993),  # 2**53 + 1: no float on the way
        ("rate", "2e-4", 2e-4),
        ("limit", "5", 5),
        ("limit", "none", None),
        ("limit", "Auto", None),
        ("limit", "", None),
        ("strict", "yes", True),
        ("strict", "OFF", False),
        ("strict", "1", True),
        ("title", "none", "none"),
        ("title", "a=b", "a=b"),
        ("tags", "a, b,,c ", ("a", "b", "c")),
        ("tags", "", ()),
        ("sizes", "1,2", (1, 2)),
        ("colour", "red", "red"),
        ("colour", "none", None),
    ],
)
def test_text_becomes_a_value(sample_type: type, name: str, text: str, value: Any) -> None:
    found = parse(info_of(sample_type, name), text)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("count", "2.5", "Count must be a whole number, not '2.5'."),
        ("count", "inf", "Count must be a whole number, not 'inf'."),
        ("count", "", "Count must be a whole number, not ''."),
        ("rate", "fast", "Rate must be a number, not 'fast'."),
        ("strict", "perhaps", "Strict must be yes or no, not 'perhaps'."),
        ("sizes", "1,x", "Sizes must be a list, not '1,x'."),
        ("shape", "none", "There is no shape 'none'."),
    ],
)
def test_text_that_is_no_value_is_refused(sample_type: type, name: str, text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(info_of(sample_type, name), text)
    assert caught.value.message == message


@pytest.mark.parametrize(
    "value", [{"count": 8}, {"rate": 0.125}, {"limit": None}, {"strict": False}, {"level": "high"}, {"tags": ("q", "r")}, {"sizes": (3,)}]
)
def test_what_is_shown_can_be_typed_again(sample: Make, value: dict[str, Any]) -> None:
    ((name, wanted),) = value.items()
    text = ",".join(map(str, wanted)) if isinstance(wanted, tuple) else str(wanted)
    assert getattr(with_text(sample(limit=1), f"{name}={text}"), name) == wanted


def test_with_text_sets_fields_and_options(sample: Make) -> None:
    config = with_text(sample(), " shape =box")
    config = with_text(config, "shape.width=4")
    config = with_text(config, "shape.sides=six")
    assert to_dict(config)["shape"] == {"kind": "box", "width": 4.0, "sides": "six"}
    assert config.count == sample().count


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("count", "'count' is not of the form field=value."),
        ("nope=1", "There is no setting 'nope'."),
        ("count.x=1", "Count has no options of its own."),
        ("shape.width=1", "There is no setting 'width'."),  # a dot has none
        ("shape=cone", "There is no shape 'cone'."),
    ],
)
def test_with_text_refuses_by_name(sample: Make, assignment: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        with_text(sample(), assignment)
    assert caught.value.message == message


def test_with_text_leaves_rules_to_problems(sample: Make) -> None:
    assert [p.field for p in field_problems(with_text(sample(), "count=0"))] == ["count"]
