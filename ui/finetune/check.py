"""The look at data and model before a fine-tune."""

from __future__ import annotations

from collections.abc import Collection, Generator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from PySide6.QtCore import QObject

from ui.services import Services
from ui.training.check import Check
from workbench.adapters import LoraConfig
from workbench.adapters.counts import TrainableCounts
from workbench.core.control import Control
from workbench.core.events import Event
from workbench.data import DataConfig, DataReport
from workbench.model.surgery import matching

_MATRIX: Final = "_proj.weight"


@dataclass(frozen=True)
class Priced:
    """What the loaded model's blocks are made of: each linear's number of weights, and the width that one side of it has."""

    parameters: int
    width: int
    matrices: Mapping[str, int]

    @classmethod
    def of(cls, accounting: Any) -> Priced:
        """From an `Accounting`."""
        matrices = {
            n.removesuffix(".weight"): c for n, c in accounting.by_tensor.items() if n.startswith("blocks.") and n.endswith(_MATRIX)
        }
        return cls(accounting.parameters, accounting.config.d_model, matrices)

    def trainable(self, lora: LoraConfig) -> TrainableCounts:
        """r · (in + out) per chosen matrix. Raises `ConfigError` when a pattern matches no layer."""
        names: Collection[str] = self.matrices
        chosen = matching(names, lora.patterns())
        return TrainableCounts(sum(lora.r * (self.width + self.matrices[n] // self.width) for n in chosen), self.parameters)


@dataclass(frozen=True)
class Wanted:
    """What a check is about; another one makes the last check worthless. `model` is only compared."""

    data: DataConfig
    max_length: int
    model: object


class Preflight(Check):
    """The report of the data, and the price of the model: known even when the data cannot be used."""

    def __init__(self, services: Services, parent: QObject) -> None:
        super().__init__(services, self._read, parent)
        self._price: tuple[object, Priced] | None = None

    def _read(self, session: Any, wanted: Wanted, control: Control) -> Generator[Event, None, DataReport]:
        """On a worker's thread, which sets the price as a whole and says of which model it is."""
        self._price = wanted.model, Priced.of(session.account())
        report: DataReport = yield from session.preflight(wanted.data, wanted.max_length, control)
        return report

    @property
    def priced(self) -> Priced | None:
        """What the model's layers are made of, as soon as that is known."""
        price, wanted = self._price, self._wanted
        return price[1] if price is not None and wanted is not None and price[0] == wanted.model else None

    @property
    def report(self) -> DataReport | None:
        """What the data are; None before they were read, or when they cannot be."""
        found: DataReport | None = self.found
        return found

    @property
    def usable(self) -> bool:
        """The data were read and something in them would be learnt."""
        return self.word == "checked" and self.report is not None and self.report.usable
