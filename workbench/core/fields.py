"""Settings that explain themselves.

A config is a frozen dataclass whose fields carry label, help, unit, bounds, choices, group, ecosystem key and source.
Forms, tooltips, validation messages, command-line flags and help pages are generated from what `describe` returns.
"""

from __future__ import annotations

import dataclasses
import math
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from functools import cache
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from workbench.core.errors import ConfigError
from workbench.core.registry import Choice, Registry

C = TypeVar("C")
_META = "workbench"


@dataclass(frozen=True)
class Option:
    """One value a `pick` field may take."""

    name: str
    label: str
    help: str = ""
    equation: str = ""
    used_by: str = ""
    source: str = ""


@dataclass(frozen=True)
class Problem:
    """A rule that is broken: the field (dotted for options of a kind), what is wrong with which value, how to mend it."""

    field: str
    message: str
    fix: str = ""

    def __str__(self) -> str:
        return f"{self.message} {self.fix}".strip()


@dataclass(frozen=True)
class FieldInfo:
    """What is known about one field. `type` is the bare Python type; `optional` says that None is a value too; `verbatim`,
    that commas and blanks belong to a tuple's items, so that a flag gives one item each time. `equation`, `source` and
    `used_by` (models, for "Used by …") are empty where there is nothing to tell."""

    name: str
    type: type
    optional: bool
    default: Any
    label: str
    help: str
    group: str = ""
    unit: str = ""
    minimum: float | None = None
    maximum: float | None = None
    log: bool = False
    key: str = ""
    source: str = ""
    equation: str = ""
    used_by: str = ""
    advanced: bool = False
    none_label: str = "automatic"
    options: tuple[Option, ...] | None = None
    registry: Registry[Any] | None = None
    item: Any = None
    verbatim: bool = False

    @property
    def is_choice(self) -> bool:
        """True when the value is a `Choice` (a kind and its options) rather than a plain value."""
        return self.type is Choice

    def pick_options(self) -> tuple[Option, ...]:
        """The values to choose from, for `choice` and `pick` fields; empty for all others."""
        if self.registry is not None:
            return tuple(Option(e.name, e.label, e.help, e.equation, e.used_by, e.source) for e in self.registry)
        return self.options or ()


def setting(
    default: Any = MISSING,
    *,
    label: str,
    help: str,
    group: str = "",
    unit: str = "",
    minimum: float | None = None,
    maximum: float | None = None,
    log: bool = False,
    key: str = "",
    source: str = "",
    equation: str = "",
    used_by: str = "",
    advanced: bool = False,
    none_label: str = "automatic",
    verbatim: bool = False,
) -> Any:
    """A plain field (bool, int, float, str, tuple of str; `X | None` allowed). `log` asks for a logarithmic editor; `verbatim`,
    that items of a tuple are never split or trimmed."""
    meta = dict(
        label=label, help=help, group=group, unit=unit, minimum=minimum, maximum=maximum, log=log, key=key, source=source,
        equation=equation, used_by=used_by, advanced=advanced, none_label=none_label, verbatim=verbatim,
    )  # fmt: skip
    return dataclasses.field(default=default, metadata={_META: meta})


def choice(
    registry: Registry[Any],
    default: str,
    *,
    label: str,
    help: str,
    group: str = "",
    key: str = "",
    source: str = "",
    equation: str = "",
    used_by: str = "",
    advanced: bool = False,
) -> Any:
    """A field whose value is a `Choice`: a registered kind with its own options."""
    meta = dict(
        label=label, help=help, group=group, key=key, source=source, equation=equation, used_by=used_by, advanced=advanced,
        registry=registry,
    )  # fmt: skip
    return dataclasses.field(default_factory=lambda: registry.choose(default), metadata={_META: meta})


def pick(
    options: Registry[Any] | Sequence[Option],
    default: str | None,
    *,
    label: str,
    help: str,
    group: str = "",
    key: str = "",
    source: str = "",
    equation: str = "",
    used_by: str = "",
    advanced: bool = False,
    none_label: str = "automatic",
) -> Any:
    """A field whose value is a name: of a registered kind, or of one of `options`."""
    meta: dict[str, Any] = dict(
        label=label, help=help, group=group, key=key, source=source, equation=equation, used_by=used_by, advanced=advanced,
        none_label=none_label,
    )  # fmt: skip
    meta["registry" if isinstance(options, Registry) else "options"] = options if isinstance(options, Registry) else tuple(options)
    return dataclasses.field(default=default, metadata={_META: meta})


def _bare(annotation: Any) -> tuple[type, bool, type | None]:
    """(bare type, optional, item type of a tuple) of an annotation such as `int | None` or `tuple[str, ...]`."""
    optional = False
    if get_origin(annotation) in (Union, types.UnionType):
        members = [a for a in get_args(annotation) if a is not type(None)]
        optional = len(members) < len(get_args(annotation))
        if len(members) != 1:
            raise TypeError(f"a setting has one type, or one type and None; not {annotation}")
        annotation = members[0]
    origin = get_origin(annotation)
    if origin is tuple:
        return tuple, optional, get_args(annotation)[0]
    return origin or annotation, optional, None


def describe(config_type: type) -> tuple[FieldInfo, ...]:
    """Every self-describing field of a config dataclass, in order."""
    return _described(config_type)


@cache
def _described(config_type: Any) -> tuple[FieldInfo, ...]:
    hints = get_type_hints(config_type)
    infos = []
    for f in fields(config_type):
        meta = f.metadata.get(_META)
        if meta is None:
            continue
        bare, optional, item = _bare(hints[f.name])
        default = f.default_factory() if f.default_factory is not MISSING else f.default
        infos.append(FieldInfo(name=f.name, type=bare, optional=optional, item=item, default=default, **meta))
    return tuple(infos)


def info_of(config_type: type, name: str) -> FieldInfo:
    """The `FieldInfo` of one field; `ConfigError` naming the valid fields when there is none."""
    infos = {i.name: i for i in describe(config_type)}
    if name not in infos:
        raise ConfigError(f"There is no setting {name!r}.", hint=f"Choose one of: {', '.join(infos)}.")
    return infos[name]


def coerce_choices(config: Any) -> None:
    """For `__post_init__`: let a `choice` field be given as a kind's name, or as its dictionary form."""
    for info in describe(type(config)):
        value = getattr(config, info.name)
        if info.is_choice and info.registry is not None and not isinstance(value, Choice):
            object.__setattr__(config, info.name, _choice_from(info, value))


def _choice_from(info: FieldInfo, value: Any) -> Choice[Any]:
    assert info.registry is not None
    if isinstance(value, str):
        return info.registry.choose(value)
    if isinstance(value, Mapping) and "kind" in value:
        given = {k: v for k, v in value.items() if k != "kind"}
        entry = info.registry[value["kind"]]
        known = {i.name: i for i in describe(entry.options)}
        return info.registry.choose(value["kind"], {k: _from_plain(known[k], v) if k in known else v for k, v in given.items()})
    raise ConfigError(f"{info.label} cannot be {value!r}.", hint="Give a kind's name, or a mapping with 'kind'.")


def field_problems(config: Any, prefix: str = "") -> list[Problem]:
    """Type, bound and membership rules of every field, options of chosen kinds included."""
    found: list[Problem] = []
    for info in describe(type(config)):
        value = getattr(config, info.name)
        name = prefix + info.name
        problem = _problem_of(info, name, value)
        if problem:
            found.append(problem)
        elif isinstance(value, Choice):
            found += field_problems(value.options, f"{name}.")
    return found


def _problem_of(info: FieldInfo, name: str, value: Any) -> Problem | None:
    if value is None:
        return None if info.optional else Problem(name, f"{info.label} is missing.", "Give a value.")
    options = info.pick_options()
    if isinstance(value, Choice):
        what = info.registry.what if info.is_choice and info.registry else None
        return None if value.registry.what == what else Problem(name, f"{info.label} cannot be the {value.registry.what} {value.kind!r}.")
    if options and value not in [o.name for o in options]:  # a list, because a value from a file may have no hash
        return Problem(name, f"{info.label} cannot be {value!r}.", f"Choose one of: {', '.join(o.name for o in options)}.")
    wanted = (int, float) if info.type is float else info.type
    if not isinstance(value, wanted) or (isinstance(value, bool) and info.type is not bool):
        return Problem(name, f"{info.label} must be {_type_name(info)}, not {value!r}.")
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        if isinstance(value, float) and not math.isfinite(value):
            return Problem(name, f"{info.label} is {value}.", "Give a finite number.")
        unit = f" {info.unit}" if info.unit else ""
        if info.minimum is not None and value < info.minimum:
            least = _digits(info.minimum)
            return Problem(name, f"{info.label} is {_digits(value)}; the least is {least}{unit}.", f"Use {least} or more.")
        if info.maximum is not None and value > info.maximum:
            most = _digits(info.maximum)
            return Problem(name, f"{info.label} is {_digits(value)}; the most is {most}{unit}.", f"Use {most} or less.")
    return None


def _digits(value: float) -> str:
    """All digits of whole numbers a person would write out; a rounded bound would be refused when it is typed in."""
    return f"{max(-1e308, min(value, 1e308)):.9g}"  # a whole number from a file may be too large for a float


def _type_name(info: FieldInfo) -> str:
    names: dict[type, str] = {int: "a whole number", float: "a number", bool: "yes or no", str: "text", tuple: "a list"}
    return names.get(info.type, info.type.__name__)


def require_usable(config: Any) -> None:
    """Raise `ConfigError` with every problem at once when `config.problems()` is not empty."""
    problems: list[Problem] = config.problems()
    if problems:
        raise ConfigError(problems[0].message, hint=problems[0].fix, details="\n".join(f"{p.field}: {p}" for p in problems))


# ---- dictionaries (files) ---------------------------------------------------------------------------------------


def to_dict(config: Any) -> dict[str, Any]:
    """Plain JSON values; a `Choice` becomes `{"kind": name, **options}`."""
    return {f.name: _to_plain(getattr(config, f.name)) for f in fields(config)}


def _to_plain(value: Any) -> Any:
    if isinstance(value, Choice):
        return {"kind": value.kind, **to_dict(value.options)}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return to_dict(value)
    if isinstance(value, tuple):
        return [_to_plain(v) for v in value]
    if isinstance(value, Mapping):
        return {str(k): _to_plain(v) for k, v in value.items()}
    return value


def from_dict(config_type: type[C], data: Mapping[str, Any]) -> C:
    """The inverse of `to_dict`; unknown keys raise `ConfigError` naming them."""
    infos = {i.name: i for i in describe(config_type)}
    names = {f.name for f in fields(config_type)}  # type: ignore[arg-type]
    unknown = sorted(set(data) - names)
    if unknown:
        raise ConfigError(f"{config_type.__name__} has no setting {unknown[0]!r}.", hint=f"Known settings: {', '.join(sorted(names))}.")
    return config_type(**{k: _from_plain(infos[k], v) if k in infos else v for k, v in data.items()})


def _from_plain(info: FieldInfo, value: Any) -> Any:
    if info.is_choice and not isinstance(value, Choice):
        return _choice_from(info, value)
    if info.type is tuple and isinstance(value, list):
        return tuple(value)
    if info.type is float and isinstance(value, int) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:  # refused as every infinity is
            return math.inf if value > 0 else -math.inf
    return value


# ---- text (command line, form editors) --------------------------------------------------------------------------


def parse(info: FieldInfo, text: str) -> Any:
    """The value a person typed. Raises `ConfigError` naming the setting and what it takes."""
    if info.optional and text.strip().lower() in ("none", "auto", ""):
        return None
    if info.is_choice:
        return _choice_from(info, text)
    parsers: dict[type, Callable[[str], Any]] = {int: _whole, float: float, bool: _yes_no, str: str}
    try:
        if info.type is tuple:
            return tuple((info.item or str)(part.strip()) for part in text.split(",") if part.strip())
        return parsers[info.type](text)
    except ValueError:
        raise ConfigError(f"{info.label} must be {_type_name(info)}, not {text!r}.") from None


def _whole(text: str) -> int:
    try:
        return int(text)  # exact: a float would round beyond 2**53
    except ValueError:
        number = float(text.replace("_", ""))
    if not number.is_integer():
        raise ValueError(text)
    return int(number)


def _yes_no(text: str) -> bool:
    lowered = text.strip().lower()
    if lowered in ("true", "yes", "on", "1"):
        return True
    if lowered in ("false", "no", "off", "0"):
        return False
    raise ValueError(text)


def with_text(config: C, assignment: str) -> C:
    """`config` with one `field=value` or `field.option=value` applied, as `--set` takes it."""
    path, found, text = assignment.partition("=")
    if not found:
        raise ConfigError(f"{assignment!r} is not of the form field=value.", hint="For example: position=rope or position.base=500000.")
    return _assigned(config, path.strip(), text)


def _assigned(config: C, path: str, text: str) -> C:
    """`config` (or a kind's options) with the field at the dotted `path` set to what `text` says."""
    name, _, option = path.partition(".")
    info = info_of(type(config), name)
    value: Any
    if not option:
        value = parse(info, text)
    else:
        current = getattr(config, name)
        if not isinstance(current, Choice):
            raise ConfigError(f"{info.label} has no options of its own.", hint=f"Write {name}=value.")
        value = Choice(current.registry, current.kind, _assigned(current.options, option, text))
    return dataclasses.replace(config, **{name: value})  # type: ignore[type-var]
