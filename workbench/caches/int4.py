"""Four bits a value with a scale for each few of them, with or without a rotation before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from workbench.caches.base import KV_CODECS, Codec, CodecShape, Plane, Planes
from workbench.core.fields import Option, pick, setting
from workbench.numerics import turboquant, uniform
from workbench.numerics.kv_kernels import Packed
from workbench.numerics.packing import pack, padded, unpack
from workbench.numerics.uniform import minmax, runs, symmetric

BITS = 4
SYMMETRIC, MIN_MAX = "symmetric", "min-max"

RANGES = (
    Option(SYMMETRIC, "Around zero", "One scale: steps on both sides of zero.", used_by="llama.cpp's q4_0"),
    Option(MIN_MAX, "From least to largest", "A scale and the least value: suits values that lie on one side.", used_by="llama.cpp's q4_1"),
)  # fmt: skip


@dataclass(frozen=True)
class Int4Options:
    rotated: bool = setting(
        False,
        label="Rotated",
        help="Rotates each vector at random first, so that no few large numbers decide about the steps of the others.",
        source="arXiv:2404.00456",
    )
    group_size: int | None = setting(
        32,
        label="Values per scale",
        none_label="the whole vector",
        minimum=8,
        maximum=1024,
        help="So many values of a vector share a float16 scale; where the width is no multiple of it, the next smaller number that fits.",
    )
    range: str = pick(RANGES, SYMMETRIC, label="Range", help="What the sixteen codes of a group of values span.")


@KV_CODECS.register(
    "int4",
    label="INT4",
    help="Four bits a value in equal steps and a float16 scale for each few values, plain or rotated first.",
    options=Int4Options,
    source="arXiv:2303.06865",
    used_by="llama.cpp and Hugging Face transformers offer it in this or a similar form",
)
class Int4Codec(Codec):
    """A vector lies in `count` runs of `size` values; products are those of its runs, straight from the codes."""

    def __init__(self, shape: CodecShape, *, rotated: bool = False, group_size: int | None = 32, range: str = SYMMETRIC) -> None:
        super().__init__(shape)
        self.rotated, self.offset = rotated, range == MIN_MAX
        self.wide = padded(shape.width)
        self.size = runs(self.wide, group_size)
        self.count = self.wide // self.size

    def planes(self) -> Mapping[str, Plane]:
        number = Plane((self.count,), torch.float16)
        found = {"codes": Plane((self.count, self.size * BITS // 8), torch.uint8), "scale": number}
        return found | {"low": number} if self.offset else found

    def constants(self) -> tuple[Tensor, ...]:
        return (*((self._rotation(),) if self.rotated else ()), self._levels())

    def _rotation(self) -> Tensor:
        return turboquant.rotation(self.shape.width, self.shape.device)

    def _levels(self) -> Tensor:
        return uniform.levels(BITS, 0 if self.offset else -(2 ** (BITS - 1)), self.shape.device)

    # ---- vectors -----------------------------------------------------------------------------------------------------

    def encode(self, x: Tensor) -> dict[str, Tensor]:
        turned = self._turned(x)
        cut = turned.reshape(*turned.shape[:-1], self.count, self.size)
        if self.offset:
            codes, scale, low = minmax(cut, BITS)
            return {"codes": pack(codes, BITS), "scale": scale, "low": low}
        codes, scale = symmetric(cut, BITS)
        return {"codes": pack(codes, BITS), "scale": scale}

    def _turned(self, x: Tensor) -> Tensor:
        """[..., D] -> [..., W], rotated if that is asked for."""
        if self.rotated:
            # In float64 a product's rounding does not depend on how many vectors come at once, and what is huge stays finite.
            x = torch.nan_to_num(x.float(), nan=0.0).to(turboquant.exact_type(x.device))
            return x @ self._rotation().to(x.dtype).t()
        spare = self.wide - self.shape.width
        return torch.cat((x, x[..., -1:].expand(*x.shape[:-1], spare)), -1) if spare else x

    def decode(self, planes: Planes) -> Tensor:
        steps = self._levels()[unpack(planes["codes"], BITS, self.size).int()]
        x = steps * planes["scale"].float()[..., None]
        if self.offset:
            x = x + planes["low"].float()[..., None]
        return self._back(x.flatten(-2))

    def _back(self, x: Tensor) -> Tensor:
        return x @ self._rotation() if self.rotated else x[..., : self.shape.width]

    # ---- attention ---------------------------------------------------------------------------------------------------

    def scores(self, q: Tensor, planes: Planes) -> Tensor:
        turned = q @ self._rotation().t() if self.rotated else torch.nn.functional.pad(q, (0, self.wide - q.shape[-1]))
        return uniform.scores(turned, planes["codes"], planes["scale"], planes.get("low"), self._levels())

    def weighted_sum(self, p: Tensor, planes: Planes) -> Tensor:
        table = self._levels()
        return self._back(uniform.weighted_sum(p, planes["codes"], planes["scale"], planes.get("low"), table, self.size))

    def packed(self, planes: Planes) -> Packed | None:
        if self.offset or self.count > 1 or self.wide != self.shape.width:
            return None
        return Packed(planes["codes"][..., 0, :], planes["scale"][..., 0], self._levels(), self._rotation() if self.rotated else None)
