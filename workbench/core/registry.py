"""Named kinds on the axes the product is about: norms, positions, codecs, adapters, studies, panels.

A kind keeps its name, label, help, paper and options beside its code; everything that lists kinds (forms, flags, help,
contract tests) reads the registry.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, Generic, TypeVar

from workbench.core.errors import ConfigError

T = TypeVar("T")


@dataclass(frozen=True)
class NoOptions:
    """For kinds that have nothing to set."""


@dataclass(frozen=True)
class Entry(Generic[T]):
    """One kind. `make` builds it from flat keyword arguments; `options` is the dataclass of what a person may set."""

    name: str
    label: str
    help: str
    make: Callable[..., T]
    options: type = NoOptions
    source: str = ""
    equation: str = ""
    used_by: str = ""


@dataclass(frozen=True)
class Choice(Generic[T]):
    """A kind picked from a registry together with the options it was picked with."""

    registry: Registry[T] = field(repr=False, compare=False)
    kind: str
    options: Any

    def __post_init__(self) -> None:
        if not isinstance(self.options, self.registry[self.kind].options):
            raise TypeError(f"{self.kind} takes {self.registry[self.kind].options.__name__}, got {self.options!r}")

    @property
    def entry(self) -> Entry[T]:
        return self.registry[self.kind]

    def arguments(self) -> dict[str, Any]:
        """The options as flat keyword arguments for `entry.make`."""
        return {f.name: getattr(self.options, f.name) for f in fields(self.options)}

    def make(self, **context: Any) -> T:
        """Build the part: options from the person (a nested choice is built first), `context` (sizes, depth) from the builder."""
        own = {name: value.make() if isinstance(value, Choice) else value for name, value in self.arguments().items()}
        return self.entry.make(**context, **own)


class Registry(Generic[T]):
    """An ordered mapping name -> `Entry`. `what` names one kind in error messages ("norm", "KV codec")."""

    def __init__(self, what: str) -> None:
        self.what = what
        self._entries: dict[str, Entry[T]] = {}

    def register(
        self, name: str, *, label: str, help: str, options: type = NoOptions, source: str = "", equation: str = "", used_by: str = ""
    ) -> Callable[[Callable[..., T]], Callable[..., T]]:
        """Decorator. `help` is a full sentence; `source` a paper or reference. A name can be taken once."""
        if name in self._entries:
            raise ValueError(f"{self.what} {name!r} is registered twice")
        if not (is_dataclass(options) and isinstance(options, type)):
            raise TypeError(f"options of {self.what} {name!r} must be a dataclass type")

        def add(make: Callable[..., T]) -> Callable[..., T]:
            self._entries[name] = Entry(name, label, help, make, options, source, equation, used_by)
            return make

        return add

    def unregister(self, name: str) -> None:
        """Forget a kind; for tests and plug-ins that clean up after themselves."""
        del self._entries[name]

    def __getitem__(self, name: str) -> Entry[T]:
        if name not in self:
            raise ConfigError(f"There is no {self.what} {name!r}.", hint=f"Choose one of: {', '.join(self._entries)}.")
        return self._entries[name]

    def __deepcopy__(self, memo: dict[int, Any]) -> Registry[T]:
        return self  # a copied config chooses from the same kinds, later ones included

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name in self._entries

    def __iter__(self) -> Iterator[Entry[T]]:
        return iter(self._entries.values())

    def __len__(self) -> int:
        return len(self._entries)

    def names(self) -> tuple[str, ...]:
        return tuple(self._entries)

    def choose(self, name: str, options: Mapping[str, Any] | None = None, /, **more: Any) -> Choice[T]:
        """A `Choice` of `name`; unknown options raise `ConfigError` naming the valid ones."""
        entry = self[name]
        given = {**(options or {}), **more}
        known = {f.name for f in fields(entry.options)}
        unknown = sorted(set(given) - known)
        if unknown:
            raise ConfigError(
                f"{entry.label} has no option {unknown[0]!r}.",
                hint=f"Its options are: {', '.join(sorted(known)) or 'none'}.",
            )
        return Choice(self, name, entry.options(**given))
