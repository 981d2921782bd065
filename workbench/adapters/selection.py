"""Which adapters of a model act, and how strongly; each thread may choose for itself."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import nn

PLACE = "_adapter_selection"
"""The attribute of a model that holds its `Selection`: there with or without adapters, and copied with the model."""

_creating = threading.Lock()


class Selection:
    """One per model, shared by all of its adapted linears.

    `default` (name -> strength) holds for every thread that has not chosen otherwise. `attached` lists the names, oldest first,
    with the strength at which each is merged into the weights (None: it is not). `noise` seeds dropout masks; None leaves them
    to the global generator. `frozen` remembers what attaching froze, for the last detach.

    Both mappings are replaced, never changed in place: a thread in the middle of a pass goes on with the one it has read. Who
    replaces one holds `lock`; who reads needs none.
    """

    def __init__(self) -> None:
        self.default: Mapping[str, float] = {}
        self.attached: Mapping[str, float | None] = {}
        self.noise: int | None = None
        self.frozen: list[Any] = []
        self.lock = threading.RLock()
        self._local = threading.local()

    def add(self, name: str, strength: float) -> None:
        """From here on the name can be chosen, and acts at `strength` where nobody chooses."""
        self.attached = {**self.attached, name: None}
        self.default = {**self.default, name: strength}

    def remove(self, name: str) -> None:
        """From here on the name is unknown."""
        self.default = {n: s for n, s in self.default.items() if n != name}
        self.attached = {n: m for n, m in self.attached.items() if n != name}

    def active(self) -> Mapping[str, float]:
        """Name -> strength for the calling thread."""
        chosen: Mapping[str, float] | None = getattr(self._local, "chosen", None)
        return self.default if chosen is None else chosen

    @contextmanager
    def use(self, chosen: Mapping[str, float]) -> Iterator[None]:
        """The calling thread uses exactly `chosen` inside the block."""
        before = getattr(self._local, "chosen", None)
        self._local.chosen = dict(chosen)
        try:
            yield
        finally:
            self._local.chosen = before

    def __deepcopy__(self, memo: dict[int, Any]) -> Selection:
        copy = memo[id(self)] = Selection()
        copy.default, copy.attached, copy.noise = self.default, self.attached, self.noise
        return copy

    def __reduce__(self) -> tuple[Any, ...]:
        """A model can be pickled with it; threads and what they chose stay behind."""
        return Selection, (), {"default": dict(self.default), "attached": dict(self.attached), "noise": self.noise}


def selection_of(model: nn.Module) -> Selection:
    """The model's selection, made on first use; a part of an adapted model answers with that of its adapted layers."""
    found: Selection | None = model.__dict__.get(PLACE)
    if found is not None:
        return found
    with _creating:
        found = model.__dict__.get(PLACE)
        if found is None:
            inner = (getattr(module, "selection", None) for module in model.modules())
            found = next((s for s in inner if isinstance(s, Selection)), None) or Selection()
            model.__dict__[PLACE] = found
        return found
