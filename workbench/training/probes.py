"""A look inside the blocks at some updates: gradients, the residual stream, the largest activation of each.

Hooks sit on whole blocks, whose output is the residual stream, and only during the forward passes of a probed update; a
run that does not look pays nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from workbench.core.metrics import FAMILIES
from workbench.model import Transformer

_BLOCK = re.compile(r"blocks\.(\d+)\.")
GRADIENT, RMS, LARGEST = (FAMILIES[name] for name in ("block_gradient_norm", "residual_rms", "activation_max"))


class Probes:
    """Collects over the micro-batches of one update. `parameters` are the trained ones by their stable names.

    Averages are over real tokens: what stands at a padded position counts for nothing.
    """

    def __init__(self, model: Transformer, parameters: Mapping[str, nn.Parameter]) -> None:
        self._blocks = list(model.blocks)
        self._trained: list[list[nn.Parameter]] = [[] for _ in self._blocks]
        for name, parameter in parameters.items():
            if found := _BLOCK.match(name):
                self._trained[int(found[1])].append(parameter)
        self._forget()

    def _forget(self) -> None:
        self._squares = [0.0] * len(self._blocks)
        self._largest = [0.0] * len(self._blocks)
        self._elements = [0] * len(self._blocks)

    @contextmanager
    def watching(self, positions: Tensor) -> Iterator[None]:
        """Watch the forward passes inside the block; `positions` [B, T] are −1 at padding."""
        real = (positions >= 0).flatten()
        every = bool(real.all())

        def look(index: int, out: Tensor) -> None:
            rows = out.detach().flatten(0, 1)
            rows = rows if every else rows[: len(real)][real.to(rows.device)]
            # The norm accumulates in float32 for narrow dtypes; a copy of the stream would cost more than the look.
            self._squares[index] += float(torch.linalg.vector_norm(rows, dtype=torch.float32)) ** 2
            self._largest[index] = max(self._largest[index], float(torch.linalg.vector_norm(rows, ord=float("inf"))))
            self._elements[index] += rows.numel()

        def hook(index: int) -> Any:
            return lambda _module, _inputs, out: look(index, out)

        handles = [block.register_forward_hook(hook(index)) for index, block in enumerate(self._blocks)]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    @torch.no_grad()
    def values(self) -> dict[str, float]:
        """What was seen since the last call, and the norms of the gradients as they are now; then start afresh. Blocks
        without trained parameters have no gradient norm."""
        found: dict[str, float] = {}
        for index, trained in enumerate(self._trained):
            gradients = [p.grad for p in trained if p.grad is not None]
            if gradients:
                found[GRADIENT.key(index)] = float(torch.nn.utils.get_total_norm(gradients, foreach=True))
            if self._elements[index]:
                found[RMS.key(index)] = (self._squares[index] / self._elements[index]) ** 0.5
                found[LARGEST.key(index)] = self._largest[index]
        self._forget()
        return found
