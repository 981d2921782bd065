"""A scale and a few bits for each coordinate of the randomly rotated vector."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from workbench.caches.base import KV_CODECS, Codec, CodecShape, Plane, Planes
from workbench.core.fields import Option, pick, setting
from workbench.numerics import kv_kernels, turboquant
from workbench.numerics.codebooks import BITS
from workbench.numerics.kv_kernels import Packed
from workbench.numerics.packing import padded
from workbench.numerics.turboquant import Rule, Sketch

FIRST = 64
"""Tokens whose mean is taken."""

MSE, PROD = "mse", "prod"

RULES = (
    Option(
        "unbiased", "Unbiased", "Length divided by the overlap with its own code: products with queries are right on average.",
        source="arXiv:2604.18555",
    ),
    Option("matched", "Same length", "The decoded vector is as long as the original.", used_by="vLLM's nc presets"),
    Option("plain", "Length", "The length itself, as the paper has it: decoded vectors come out too short.", source="arXiv:2504.19874"),
)  # fmt: skip
VARIANTS = (
    Option(MSE, "All bits for the value", "Least error of the vector itself.", source="arXiv:2504.19874"),
    Option(
        PROD, "One bit for a sketch",
        "Experimental: one bit of each number goes to a sketch of the error, and the scale is the length. Products are right on average, "
        "but several times as noisy.",
        source="arXiv:2504.19874",
    ),
)  # fmt: skip
SKETCHES = (
    Option("gaussian", "Gaussian", "Independent random numbers, as the paper has it.", source="arXiv:2406.03482"),
    Option("orthogonal", "Orthogonal", "A second rotation: about a third of the Gaussian one's noise."),
)


@dataclass(frozen=True)
class TurboQuantOptions:
    bits: int = setting(
        4,
        label="Bits",
        unit="bits",
        minimum=BITS[0],
        maximum=BITS[-1],
        help="Bits for each number of a vector; a float16 scale for each vector comes on top.",
    )
    scale: str = pick(RULES, "unbiased", label="Scale", advanced=True, help="What is stored in place of a vector's length.")
    centred: bool = setting(
        True,
        label="Centred",
        advanced=True,
        help="Encodes what differs from the mean of the first 64 tokens: families whose keys share a large part need it.",
        source="arXiv:2410.02367",
    )
    variant: str = pick(VARIANTS, MSE, label="Variant", advanced=True, help="What all the bits are spent on.")
    sketch: str = pick(SKETCHES, "gaussian", label="Sketch", advanced=True, help="The random matrix of the sketch variant.")


@KV_CODECS.register(
    "turboquant",
    label="TurboQuant",
    help="Rotates vectors at random, so that one codebook suits all of them, and keeps one to eight bits of each number.",
    options=TurboQuantOptions,
    source="arXiv:2504.19874",
    equation="x ≈ s·Πᵀc[codes(Πx)]",
    used_by="vLLM and forks of llama.cpp offer variants of it",
)
class TurboQuantCodec(Codec):
    """Keys and values alike; all layers share one rotation. Attention reads the codes: a query is rotated once, and the weighted
    sum of values is rotated back once."""

    def __init__(
        self, shape: CodecShape, *, bits: int = 4, scale: Rule = "unbiased", centred: bool = True, variant: str = MSE,
        sketch: Sketch = "gaussian",
    ) -> None:  # fmt: skip
        super().__init__(shape)
        self.sketch: Sketch | None = sketch if variant == PROD else None
        self.bits = bits - 1 if self.sketch else bits
        self.rule: Rule = "plain" if self.sketch else scale
        self.wide = padded(shape.width)
        self.wants = FIRST if centred else 0
        self._mean: Tensor | None = None

    def planes(self) -> Mapping[str, Plane]:
        found: dict[str, Plane] = {}
        if self.bits:
            found |= {"codes": Plane((self.wide * self.bits // 8,), torch.uint8), "scale": Plane((), torch.float16)}
        if self.sketch:
            found |= {"signs": Plane((self.wide // 8,), torch.uint8), "length": Plane((), torch.float16)}
        return found

    # ---- what is fixed -----------------------------------------------------------------------------------------------

    def calibrate(self, x: Tensor) -> None:
        mean = torch.nan_to_num(torch.nan_to_num(x, nan=0.0).mean(2, keepdim=True), nan=0.0)
        self._mean = mean.clamp(-turboquant.LARGEST, turboquant.LARGEST).half() if self.wants else None

    def forget(self) -> None:
        self._mean = None

    @property
    def side_nbytes(self) -> int:
        return self.shape.heads * self.shape.width * torch.float16.itemsize if self.wants else 0

    def constants(self) -> tuple[Tensor, ...]:
        tables = (self._levels(),) if self.bits else ()
        return (self._rotation(), *tables, *((self._sketch(), _SIGNS) if self.sketch else ()))

    def _rotation(self) -> Tensor:
        return turboquant.rotation(self.shape.width, self.shape.device)

    def _levels(self) -> Tensor:
        return turboquant.levels(self.bits, self.wide, self.shape.device)

    def _sketch(self) -> Tensor:
        assert self.sketch is not None
        return turboquant.sketch(self.shape.width, self.sketch, self.shape.device)

    # ---- vectors -----------------------------------------------------------------------------------------------------

    def encode(self, x: Tensor) -> dict[str, Tensor]:
        x = torch.nan_to_num(x, nan=0.0)
        if self._mean is not None:
            x = x - self._mean
        found: dict[str, Tensor] = {}
        if self.bits:
            codes, scale = turboquant.encode(x, self.bits, self.rule, self._rotation())
            found |= {"codes": codes, "scale": scale}
        if self.sketch:
            left = x - turboquant.decode(codes, scale, self.bits, self._rotation()) if self.bits else x
            signs, length = turboquant.encode_signs(left, self._sketch(), self.sketch)
            found |= {"signs": signs, "length": length}
        return found

    def decode(self, planes: Planes) -> Tensor:
        parts = []
        if self.bits:
            parts.append(turboquant.decode(planes["codes"], planes["scale"], self.bits, self._rotation()))
        if self.sketch:
            parts.append(turboquant.decode_signs(planes["signs"], planes["length"], self._sketch()))
        if self._mean is not None:
            parts.append(self._mean.float())
        return sum(parts[1:], parts[0])

    # ---- attention ---------------------------------------------------------------------------------------------------

    def scores(self, q: Tensor, planes: Planes) -> Tensor:
        parts = []
        if self.bits:
            parts.append(kv_kernels.scores(q @ self._rotation().t(), planes["codes"], planes["scale"], self._levels()))
        if self.sketch:
            parts.append(kv_kernels.scores(q @ self._sketch().t(), planes["signs"], planes["length"], _SIGNS.to(q.device)))
        if self._mean is not None:
            parts.append(q @ self._mean.float().transpose(-1, -2))
        return sum(parts[1:], parts[0])

    def weighted_sum(self, p: Tensor, planes: Planes) -> Tensor:
        parts = []
        if self.bits:
            parts.append(kv_kernels.weighted_sum(p, planes["codes"], planes["scale"], self._levels(), self.wide) @ self._rotation())
        if self.sketch:
            parts.append(kv_kernels.weighted_sum(p, planes["signs"], planes["length"], _SIGNS.to(p.device), self.wide) @ self._sketch())
        if self._mean is not None:
            parts.append(p.sum(-1, keepdim=True) * self._mean.float())
        return sum(parts[1:], parts[0])

    def packed(self, planes: Planes) -> Packed | None:
        if self.sketch or self.wide != self.shape.width:
            return None
        shift = None if self._mean is None else self._mean.float()
        return Packed(planes["codes"], planes["scale"], self._levels(), self._rotation(), shift)


_SIGNS = torch.tensor([-1.0, 1.0])
