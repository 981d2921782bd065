"""Foreign settings (config.json, GGUF metadata) read one by one, each with a sentence for what is wrong with it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from math import isfinite
from typing import Any

from torch import Tensor

from workbench.checkpoints.tensors import TensorInfo
from workbench.core.errors import ModelError

_MISSING: Any = object()
_HINT = "This variant is not supported; choose another model, or a plain conversion of this one."


@dataclass
class Settings:
    """`values` under `prefix`, as `where` names them to people. `tensors` is what the file holds, by its own names, and
    `extras` those of them that are settings rather than parameters.

    `notices` collects what a person should know about how the model was read.
    """

    values: Mapping[str, Any]
    where: str
    tensors: Mapping[str, TensorInfo] = field(default_factory=dict)
    prefix: str = ""
    notices: list[str] = field(default_factory=list)
    extras: Mapping[str, Tensor] = field(default_factory=dict)

    def get(self, *keys: str, default: Any = None) -> Any:
        """The first of `keys` that is there and not null."""
        return next((v for k in keys if (v := self.values.get(self.prefix + k)) is not None), default)

    def silenced(self, key: str) -> bool:
        """True where the file says null on purpose, which is not the same as saying nothing."""
        return self.values.get(self.prefix + key, 0) is None

    def integer(self, *keys: str, default: Any = _MISSING) -> int:
        value = self._demand(keys, default)
        if isinstance(value, (list, tuple)) and value and all(v == value[0] for v in value):
            value = value[0]  # some files give one number per block
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.wrong(keys[0], value, "a whole number")
        return value

    def number(self, *keys: str, default: Any = _MISSING) -> float:
        value = self._demand(keys, default)
        try:
            if not isinstance(value, bool) and isinstance(value, (int, float)) and isfinite(value):
                return float(value)
        except OverflowError:  # a whole number beyond every float
            pass
        raise self.wrong(keys[0], value, "a finite number")

    def flag(self, *keys: str, default: bool) -> bool:
        value = self._demand(keys, default)
        if not isinstance(value, bool):
            raise self.wrong(keys[0], value, "true or false")
        return value

    def one_of(self, table: Mapping[str, str], *keys: str, default: str) -> str:
        """Our name for the value; a `ModelError` lists the known ones."""
        value = self._demand(keys, default)
        if not isinstance(value, str) or value not in table:
            raise ModelError(
                f"{self.where}: {self.prefix}{keys[0]} is {value!r}, which is not supported.", hint=f"Supported: {', '.join(table)}."
            )
        return table[value]

    def refuse(self, key: str, unless: Collection[Any]) -> None:
        """A setting that would change the arithmetic in a way this program has no part for."""
        value = self.get(key)
        if value is not None and value not in unless:
            raise ModelError(f"{self.where}: {self.prefix}{key} is {value!r}, which is not supported.", hint=_HINT)

    def notice(self, message: str) -> None:
        self.notices.append(message)

    def wrong(self, key: str, value: Any, wanted: str) -> ModelError:
        return ModelError(f"{self.where}: {self.prefix}{key} must be {wanted}, not {value!r}.", hint="The configuration is damaged.")

    def _demand(self, keys: tuple[str, ...], default: Any) -> Any:
        value = self.get(*keys, default=default)
        if value is _MISSING:
            raise ModelError(f"{self.where} does not say {self.prefix}{keys[0]}.", hint="The configuration is not complete.")
        return value
