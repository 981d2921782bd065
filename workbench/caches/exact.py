"""Keys and values as they come, in preallocated memory."""

from __future__ import annotations

import torch
from torch import Tensor

from workbench.caches.base import KV_CODECS, LayerCache, LayerShape


@KV_CODECS.register(
    "exact",
    label="Exact",
    help="Keeps every key and value at full precision, in memory reserved at the start.",
    source="arXiv:1911.02150",
    used_by="the default of every inference engine",
)
class ExactLayerCache(LayerCache):
    """Two tensors [B, G, capacity, D] in the model's dtype. Unwritten slots are never read, so they are left as they are:
    on Linux their pages take no memory until they are written."""

    def __init__(self, shape: LayerShape) -> None:
        super().__init__(shape)
        size = (shape.batch, shape.heads, shape.capacity, shape.width)
        self.keys = torch.empty(size, dtype=shape.dtype, device=shape.device)
        self.values = torch.empty(size, dtype=shape.dtype, device=shape.device)

    def store(self, k: Tensor, v: Tensor, start: int) -> None:
        tokens = k.shape[2]
        self.keys.narrow(2, start, tokens).copy_(k)
        self.values.narrow(2, start, tokens).copy_(v)

    def read(self, end: int) -> tuple[Tensor, Tensor]:
        return self.keys.narrow(2, 0, end), self.values.narrow(2, 0, end)

    def nbytes(self, length: int) -> int:
        s = self.shape
        return 2 * s.batch * s.heads * s.width * length * s.dtype.itemsize

    @property
    def allocated_nbytes(self) -> int:
        return self.keys.nbytes + self.values.nbytes
