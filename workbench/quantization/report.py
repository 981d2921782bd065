"""What a model's weights are kept as, measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from workbench.model import Transformer
from workbench.quantization.norms import FrozenNorm
from workbench.quantization.places import Place, places

NORM_SCHEME = "int8"


@dataclass(frozen=True)
class ModuleReport:
    """One module. `scheme` None: in full precision. `error` is ‖W − W̃‖ / ‖W‖, None where nothing was quantized or measured."""

    name: str
    kind: str
    scheme: str | None
    shape: tuple[int, ...]
    bytes_before: int
    bytes_after: int
    error: float | None

    def to_json(self) -> dict[str, Any]:
        return {**self.__dict__, "shape": list(self.shape)}


@dataclass(frozen=True)
class QuantizationReport:
    """Every module with weights; bytes of the whole model in full precision and as it is."""

    rows: tuple[ModuleReport, ...]
    bytes_before: int
    bytes_after: int

    @property
    def scheme(self) -> str:
        """The scheme of its matrices; "" when nothing is quantized."""
        found = {row.scheme for row in self.rows if row.scheme and row.kind != "norm"} or {r.scheme for r in self.rows if r.scheme}
        return ", ".join(sorted(found))

    @property
    def quantized(self) -> int:
        """How many modules are."""
        return sum(row.scheme is not None for row in self.rows)

    def to_json(self) -> dict[str, Any]:
        rows = [row.to_json() for row in self.rows]
        return {"scheme": self.scheme, "bytes_before": self.bytes_before, "bytes_after": self.bytes_after, "rows": rows}


def report(model: Transformer) -> QuantizationReport:
    """Bytes measured on the tensors, and the error that each quantized module was found to have."""
    rows = tuple(_row(place) for place in places(model))
    return QuantizationReport(rows, sum(row.bytes_before for row in rows), sum(row.bytes_after for row in rows))


def _row(place: Place) -> ModuleReport:
    scheme, error = None, None
    if place.frozen:
        scheme = NORM_SCHEME if isinstance(place.module, FrozenNorm) else place.module.coding.kind
        error = place.module.error
    return ModuleReport(place.name, place.kind, scheme, place.shape, place.plain_nbytes, place.nbytes, error)
