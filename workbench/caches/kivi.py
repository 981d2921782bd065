"""Keys by channel, values by token: the steps follow what each of them has in common."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from workbench.caches.base import KV_CODECS, Codec, CodecShape, Plane, Planes
from workbench.core.fields import setting
from workbench.numerics import uniform
from workbench.numerics.packing import pack, padded, unpack
from workbench.numerics.uniform import minmax, runs

TOKENS = 32
"""Keys that are encoded together, and values of a token that share a scale, as in the paper."""


@dataclass(frozen=True)
class KiviOptions:
    bits: int = setting(
        4,
        label="Bits",
        unit="bits",
        minimum=2,
        maximum=8,
        help="Bits for each number, 2 or 4 in the paper; a scale and a least value for each 32 of them add one more.",
    )


@KV_CODECS.register(
    "kivi",
    label="KIVI",
    help="Steps from the least to the largest value: for keys of each channel over 32 tokens, for values within each token.",
    options=KiviOptions,
    source="arXiv:2402.02750",
    used_by="the paper's code; transformers' quantized cache follows it in part",
)
class KiviCodec(Codec):
    """Keys: `low + scale · code` for each channel of 32 tokens. Values: the same for runs of up to 32 numbers of a token."""

    def __init__(self, shape: CodecShape, bits: int = 4) -> None:
        super().__init__(shape)
        self.bits = bits
        self.by_channel = shape.role == "keys"
        self.group = TOKENS if self.by_channel else 1
        self.wide = padded(shape.width)
        self.size = runs(self.wide, TOKENS)

    def planes(self) -> Mapping[str, Plane]:
        runs_of = self.wide // self.size
        shape = (TOKENS, self.wide * self.bits // 8) if self.by_channel else (runs_of, self.size * self.bits // 8)
        number = Plane((self.shape.width,) if self.by_channel else (runs_of,), torch.float16)
        return {"codes": Plane(shape, torch.uint8), "scale": number, "low": number}

    def encode(self, x: Tensor) -> dict[str, Tensor]:
        spare = self.wide - self.shape.width
        if self.by_channel:
            codes, scale, low = minmax(x.reshape(*x.shape[:2], -1, TOKENS, x.shape[3]).transpose(-1, -2), self.bits)
            codes = torch.nn.functional.pad(codes.transpose(-1, -2), (0, spare))
        else:
            padding = x[..., -1:].expand(*x.shape[:-1], spare)
            cut = torch.cat((x, padding), -1).reshape(*x.shape[:3], -1, self.size)
            codes, scale, low = minmax(cut, self.bits)
        return {"codes": pack(codes, self.bits), "scale": scale, "low": low}

    def decode(self, planes: Planes) -> Tensor:
        codes = unpack(planes["codes"], self.bits, self.wide if self.by_channel else self.size).float()
        scale, low = planes["scale"].float(), planes["low"].float()
        if self.by_channel:
            x = codes[..., : self.shape.width] * scale.unsqueeze(3) + low.unsqueeze(3)
            return x.flatten(2, 3)
        x = codes * scale[..., None] + low[..., None]
        return x.flatten(-2)[..., : self.shape.width]

    def scores(self, q: Tensor, planes: Planes) -> Tensor:
        stored = planes["codes"], planes["scale"], planes["low"], self._levels()
        if self.by_channel:
            return uniform.channel_scores(q, *stored, self.wide)
        return uniform.scores(torch.nn.functional.pad(q, (0, self.wide - q.shape[-1])), *stored)

    def weighted_sum(self, p: Tensor, planes: Planes) -> Tensor:
        stored = planes["codes"], planes["scale"], planes["low"], self._levels()
        if self.by_channel:
            return uniform.channel_sum(p, *stored, self.wide)
        return uniform.weighted_sum(p, *stored, self.size)[..., : self.shape.width]

    def _levels(self) -> Tensor:
        return uniform.levels(self.bits, 0, self.shape.device)

    def constants(self) -> tuple[Tensor, ...]:
        return (self._levels(),)
