"""Eight bits a value with one scale a vector."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from workbench.caches.base import KV_CODECS, Codec, Plane, Planes
from workbench.numerics import kv_kernels
from workbench.numerics.kv_kernels import Packed

LARGEST = 65504.0
"""The largest float16: scales are stored as such."""


@KV_CODECS.register(
    "int8",
    label="INT8",
    help="Eight bits a value and one float16 scale for each token and head: half of float16, and close to exact.",
    source="arXiv:2208.07339",
    used_by="vLLM and llama.cpp offer it in this or a similar form",
)
class Int8Codec(Codec):
    """q = round(x / s) in −127 … 127, s = max|x| / 127 as it is after rounding to float16."""

    def planes(self) -> Mapping[str, Plane]:
        return {"codes": Plane((self.shape.width,), torch.int8), "scale": Plane((), torch.float16)}

    def encode(self, x: Tensor) -> dict[str, Tensor]:
        x = torch.nan_to_num(x, nan=0.0)
        scale = (x.abs().amax(-1) / 127).clamp_max(LARGEST).half()
        divisor = torch.where(scale > 0, scale.float(), 1.0)[..., None]
        return {"codes": (x / divisor).round_().clamp_(-127, 127).to(torch.int8), "scale": scale}

    def decode(self, planes: Planes) -> Tensor:
        return planes["codes"].float() * planes["scale"].float()[..., None]

    def scores(self, q: Tensor, planes: Planes) -> Tensor:
        return kv_kernels.scores(q, planes["codes"], planes["scale"], None)

    def weighted_sum(self, p: Tensor, planes: Planes) -> Tensor:
        return kv_kernels.weighted_sum(p, planes["codes"], planes["scale"], None, self.shape.width)

    def packed(self, planes: Planes) -> Packed:
        return Packed(planes["codes"], planes["scale"], None)
