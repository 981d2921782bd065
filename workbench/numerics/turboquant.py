"""TurboQuant (arXiv:2504.19874): vectors as a scale and, for each coordinate after a random rotation, a code of a few bits.

Rotated, every vector's coordinates are distributed alike, whatever the vector, so that one codebook suits all of them.

Shapes: x [..., D] any floating type; codes uint8 [..., W·bits/8] with W = D padded to a multiple of 8; scales float16 [...].
The scale takes the place of the vector's length and carries the codebook's factor: vector ≈ scale · codebook[codes] @ rotation.
A vector's bytes depend on that vector alone. Anything not a number counts as 0, and a scale is at most float16's largest.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Literal, get_args

import torch
from torch import Tensor

from workbench.numerics import jit, turboquant_loops
from workbench.numerics.codebooks import boundaries, codebook
from workbench.numerics.packing import pack, padded, unpack
from workbench.numerics.rotation import gaussian, haar

Rule = Literal["unbiased", "matched", "plain"]
Sketch = Literal["gaussian", "orthogonal"]

LARGEST = torch.finfo(torch.float16).max
ROTATION_SEED, SKETCH_SEED = 2504_19874, 2406_03482
"""Two seeds, because the sketch of what is left must not know the rotation that left it; and no common ones: random vectors drawn with
a rotation's own seed are its rows, the worst there are."""


CPU = torch.device("cpu")


@cache
def rotation(width: int, device: torch.device = CPU) -> Tensor:
    """[W, D] float32 with orthonormal columns: x @ rotation.T is the rotated x, its padding included. Shared: do not write to it."""
    return haar(padded(width), ROTATION_SEED)[:, :width].to(device)


@cache
def levels(bits: int, wide: int, device: torch.device = CPU) -> Tensor:
    """`codebook(bits, wide)` on a device. Shared: do not write to it."""
    return codebook(bits, wide).to(device)


@cache
def _edges(bits: int, wide: int, device: torch.device) -> Tensor:
    return boundaries(bits, wide).to(device, exact_type(device))


def encode(x: Tensor, bits: int, rule: Rule = "unbiased", pi: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """(codes, scale) of x in `bits` bits a coordinate. `rule` says which scale is stored in place of ‖x‖, with u = x / ‖x‖ rotated
    and c its looked-up codes: plain ‖x‖, which the paper has; matched ‖x‖ / ‖c‖, which keeps the length; unbiased ‖x‖ / ⟨u, c⟩, with
    which ⟨x, x̃⟩ = ‖x‖² for every vector (EDEN, arXiv:2604.18555). `pi` is `rotation(D)` on x's device."""
    pi = rotation(x.shape[-1], x.device) if pi is None else pi
    if x.device.type == "cpu" and jit.available():
        edges, near = _edges(bits, pi.shape[0], x.device), levels(bits, pi.shape[0], x.device)
        return turboquant_loops.encode(x.float(), bits, get_args(Rule).index(rule), pi, edges, near, LARGEST)
    return encode_by_torch(x, bits, rule, pi)


def encode_by_torch(x: Tensor, bits: int, rule: Rule, pi: Tensor) -> tuple[Tensor, Tensor]:
    """`encode` without a compiler, on any device."""
    wide = pi.shape[0]
    # In float64 a product's rounding is far below any boundary between codes: they do not depend on how many vectors come at once.
    x = torch.nan_to_num(x.float(), nan=0.0).to(exact_type(x.device))
    size = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    unit = (x / size.clamp_min(torch.finfo(torch.float32).tiny)) @ (pi.to(x.dtype).t() * math.sqrt(wide))
    codes = torch.bucketize(unit, _edges(bits, wide, x.device), out_int32=True)
    if rule == "plain":
        scale = size[..., 0] / math.sqrt(wide)
    else:
        near = levels(bits, wide, x.device)[codes].to(x.dtype)
        if rule == "matched":
            scale = size[..., 0] / torch.linalg.vector_norm(near, dim=-1)
        else:
            overlap = torch.linalg.vecdot(unit, near)
            scale = size[..., 0] * math.sqrt(wide) / torch.where(overlap > 0, overlap, 1.0)
    return pack(codes.to(torch.uint8), bits), scale.clamp_max(LARGEST).half()


def decode(codes: Tensor, scale: Tensor, bits: int, pi: Tensor) -> Tensor:
    """[..., D] float32."""
    return rotated(codes, scale, bits, pi.shape[0]) @ pi


def rotated(codes: Tensor, scale: Tensor, bits: int, wide: int) -> Tensor:
    """What `decode` gives before it is rotated back: [..., W] float32."""
    return levels(bits, wide, codes.device)[unpack(codes, bits, wide).int()] * scale.float()[..., None]


def exact_type(device: torch.device) -> torch.dtype:
    """float64, where the device has it."""
    return torch.float32 if device.type == "mps" else torch.float64


# ---- the paper's second variant: one bit of every coordinate goes to a sketch of what is left (QJL, arXiv:2406.03482) ----------


@cache
def sketch(width: int, kind: Sketch, device: torch.device = CPU) -> Tensor:
    """S [W, D] float32, independent of the rotation: what is left of x is about its length · `sketch_factor` · signs(S x) @ S."""
    wide = padded(width)
    matrix = haar(wide, SKETCH_SEED) if kind == "orthogonal" else gaussian(wide, SKETCH_SEED)
    return matrix[:, :width].to(device)


def sketch_factor(wide: int, kind: Sketch) -> float:
    """1 / E[⟨S u, signs(S u)⟩] of a unit vector u; the two kinds of S need different ones."""
    if kind == "gaussian":
        return math.sqrt(math.pi / 2) / wide
    return math.sqrt(math.pi) / wide * math.exp(math.lgamma((wide + 1) / 2) - math.lgamma(wide / 2))


def encode_signs(left: Tensor, s: Tensor, kind: Sketch) -> tuple[Tensor, Tensor]:
    """(signs packed to one bit each, scale) of what is left [..., D]; the scale is its length times `sketch_factor`."""
    left = left.to(exact_type(left.device))
    size = torch.linalg.vector_norm(left, dim=-1) * sketch_factor(s.shape[0], kind)
    signs = (left @ s.to(left.dtype).t()) > 0
    return pack(signs.to(torch.uint8), 1), size.clamp_max(LARGEST).half()


def decode_signs(signs: Tensor, scale: Tensor, s: Tensor) -> Tensor:
    """[..., D] float32."""
    return (unpack(signs, 1, s.shape[0]).float() * 2 - 1) * scale.float()[..., None] @ s
