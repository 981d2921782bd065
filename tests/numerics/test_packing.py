"""What is packed comes back, in exactly the bytes promised."""

from __future__ import annotations

import pytest
import torch

from workbench.numerics.packing import fields, pack, padded, unpack


@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize("width", [8, 24, 32, 64, 96, 128])
@pytest.mark.parametrize("tokens", [0, 1, 5])
def test_unpack_undoes_pack(bits: int, width: int, tokens: int) -> None:
    codes = torch.randint(2**bits, (2, tokens, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(width))
    packed = pack(codes, bits)
    assert packed.shape == (2, tokens, width * bits // 8)
    assert packed.dtype == torch.uint8
    assert torch.equal(unpack(packed, bits, width), codes)


@pytest.mark.parametrize("bits", range(1, 9))
def test_views_are_packed_too(bits: int) -> None:
    codes = torch.randint(2**bits, (32, 7, 3), dtype=torch.uint8).permute(2, 1, 0)[:, ::2]
    packed = pack(codes, bits)
    assert torch.equal(unpack(packed, bits, 32), codes)
    wide = torch.cat((packed, packed), -1)[..., : packed.shape[-1]]
    assert torch.equal(unpack(wide, bits, 32), codes)


def test_packing_makes_a_copy() -> None:
    codes = torch.ones(1, 8, dtype=torch.uint8)
    packed = pack(codes, 8)
    codes.zero_()
    assert packed.sum() == 8


def test_fields_are_aligned_and_the_upper_bits_come_first() -> None:
    assert [fields(b) for b in range(1, 9)] == [(1,), (2,), (2, 1), (4,), (4, 1), (4, 2), (4, 2, 1), (8,)]
    codes = torch.tensor([[0, 1, 2, 3, 4, 5, 6, 7]], dtype=torch.uint8)
    assert pack(codes, 3).tolist() == [[0b01_01_00_00, 0b11_11_10_10, 0b10101010]]


def test_widths_are_padded_to_whole_bytes() -> None:
    assert [padded(w) for w in (1, 8, 9, 64, 65)] == [8, 8, 16, 64, 72]
