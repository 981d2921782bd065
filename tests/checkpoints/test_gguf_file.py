"""The GGUF container: what the reader gives, and what it says about broken files."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import _type_traits, dequantize

from workbench.checkpoints.gguf_file import GGUFFile
from workbench.core.errors import FileError, ModelError, WorkbenchError
from workbench.model import Transformer

MakeGGUF = Callable[..., tuple[Path, Transformer]]
QUANTIZED = sorted(_type_traits, key=lambda kind: kind.name)


def write(path: Path, tensors: dict[str, tuple[np.ndarray[Any, Any], GGMLQuantizationType]], **fields: Any) -> GGUFFile:
    writer = gguf.GGUFWriter(path, "llama")
    for key, value in fields.items():
        getattr(writer, f"add_{key.split('_')[0]}")(key, value)
    for name, (array, kind) in tensors.items():
        writer.add_tensor(name, array, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return GGUFFile(path)


def test_metadata_of_every_type_comes_back_as_python_values(tmp_path: Path) -> None:
    fields: dict[str, Any] = {
        "uint8_a": 200, "int8_a": -100, "uint16_a": 60000, "int16_a": -30000, "uint32_a": 4_000_000_000, "int32_a": -2_000_000_000,
        "uint64_a": 2**60, "int64_a": -(2**60), "float32_a": 0.5, "float64_a": 1e300, "bool_a": True, "string_a": "naïve 日本",
        "array_words": ["a", "", "日"], "array_numbers": [3, 1, 2], "array_floats": [0.5, -2.0],
    }  # fmt: skip
    file = write(tmp_path / "m.gguf", {}, **fields)
    assert {key: file.metadata[key] for key in fields} == fields
    assert file.metadata["general.architecture"] == "llama"
    assert type(file.metadata["uint32_a"]) is int
    assert type(file.metadata["bool_a"]) is bool


@pytest.mark.parametrize("kind", QUANTIZED, ids=lambda kind: kind.name)
def test_every_quantization_decodes_row_by_row_as_whole(tmp_path: Path, kind: GGMLQuantizationType) -> None:
    block, nbytes = GGML_QUANT_SIZES[kind]
    raw = np.random.default_rng(0).integers(0, 256, (12, 2 * nbytes), dtype=np.uint8)
    with np.errstate(all="ignore"):
        file = write(tmp_path / "q.gguf", {"w": (raw, kind)})
        whole = torch.from_numpy(np.ascontiguousarray(dequantize(raw, kind)))
        assert file.infos["w"].shape == (12, 2 * block)
        order = np.array([11, 0, 5, 5])
        for rows in (slice(None), slice(3, 8), order):
            assert torch.equal(file.rows("w", rows).nan_to_num(), whole[torch.as_tensor(order) if rows is order else rows].nan_to_num())


@pytest.mark.parametrize(("array", "dtype"), [(np.float32, torch.float32), (np.float16, torch.float16), (np.float64, torch.float64)])
def test_plain_tensors_keep_their_dtype(tmp_path: Path, array: type, dtype: torch.dtype) -> None:
    values = np.arange(12, dtype=array).reshape(3, 4)
    kind = {np.float32: GGMLQuantizationType.F32, np.float16: GGMLQuantizationType.F16, np.float64: GGMLQuantizationType.F64}[array]
    file = write(tmp_path / "p.gguf", {"w": (values, kind), "v": (values[0].copy(), kind)})
    assert file.infos["w"].dtype == dtype
    assert torch.equal(file.rows("w", slice(1, 3)), torch.from_numpy(values[1:3]))
    assert torch.equal(file.rows("w", slice(0, 2), transposed=True), torch.from_numpy(values.T[:2].copy()))
    assert torch.equal(file.rows("v", np.array([3, 0])), torch.from_numpy(values[0][[3, 0]]))


def test_a_tensor_of_its_own_outlives_the_file(tmp_path: Path) -> None:
    file = write(tmp_path / "p.gguf", {"w": (np.ones((2, 4), np.float32), GGMLQuantizationType.F32)})
    kept = file.rows("w", slice(None))
    file.forget()
    file.close()
    kept += 1  # a view of the read-only map would fail or crash here
    assert kept.sum() == 16


def test_a_file_cut_anywhere_is_a_file_error(make_gguf: MakeGGUF, tmp_path: Path) -> None:
    whole = make_gguf()[0].read_bytes()
    cut = tmp_path / "cut.gguf"
    places = sorted({*range(64), *range(64, len(whole), 997), len(whole) - 40})
    for length in places:
        cut.write_bytes(whole[:length])
        with pytest.raises(FileError) as caught:
            GGUFFile(cut).close()
        assert "cut.gguf" in caught.value.message
        assert caught.value.hint
        assert len(caught.value.message) < 200


def test_a_damaged_header_never_escapes_as_another_error(make_gguf: MakeGGUF, tmp_path: Path) -> None:
    whole = bytearray(make_gguf(tokenizer=False)[0].read_bytes())
    bad = tmp_path / "bad.gguf"
    draw = np.random.default_rng(0)
    refused = 0
    for _ in range(400):
        changed = bytearray(whole)
        for at in draw.integers(0, 2000, 3):
            changed[at] = int(draw.choice([0, 1, 127, 255, draw.integers(256)]))
        bad.write_bytes(changed)
        try:
            GGUFFile(bad).close()
        except WorkbenchError:
            refused += 1
    assert refused > 100


def header(version: int = 3, tensors: int = 0, keys: int = 0, magic: bytes = b"GGUF") -> bytes:
    return magic + struct.pack("<IQQ", version, tensors, keys)


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value.encode())) + value.encode()


TENSOR = text("w") + struct.pack("<I", 1)  # name and number of dimensions; the rest follows


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (header(magic=b"GGML"), "is not a GGUF file: it begins with b'GGML'"),
        (b"", "is empty"),
        (header(version=1), "has GGUF version 1; versions 2 and 3 can be read"),
        (header(version=4), "has GGUF version 4"),
        (struct.pack(">4sI", b"GGUF", 3) + b"\0" * 16, "big-endian"),
        (header(tensors=2**63), "claims 9223372036854775808 tensors, but only 8 bytes follow"),
        (header(keys=2**40) + b"\0" * 64, "claims 1099511627776 metadata entries"),
        (header(keys=1) + struct.pack("<Q", 2**62) + b"\0" * 64, "a metadata key at byte 32 takes 4611686018427387904 bytes"),
        (header(keys=1) + text("a") + struct.pack("<I", 99) + b"\0" * 64, "a has the unknown type 99"),
        (header(keys=1) + text("a") + struct.pack("<IIQ", 9, 4, 2**50) + b"\0" * 64, "claims 1125899906842624 items of a"),
        (header(keys=1) + text("a") + struct.pack("<IIQ", 9, 9, 1) + b"\0" * 64, "a is an array of the unknown type 9"),
        (header(keys=1) + text("a") + struct.pack("<IQ", 8, 2) + b"\xff\xfe" + b"\0" * 64, "is not UTF-8 text"),
        (header(keys=2) + 2 * (text("a") + struct.pack("<IB", 0, 1)) + b"\0" * 64, "the key a appears twice"),
        (header(tensors=1) + text("w") + struct.pack("<I", 0) + b"\0" * 64, "has 0 dimensions"),
        (header(tensors=1) + text("w") + struct.pack("<I", 2**31) + b"\0" * 64, "has 2147483648 dimensions"),
        (header(tensors=1) + TENSOR + struct.pack("<QIQ", 2**61, 0, 0) + b"\0" * 64, "is truncated: the tensor w ends at byte"),
        (header(tensors=1) + TENSOR + struct.pack("<QIQ", 4, 0, 2**62) + b"\0" * 64, "is truncated: the tensor w ends at byte"),
        (header(tensors=1) + TENSOR + struct.pack("<QIQ", 33, 2, 0) + b"\0" * 64, "has rows of 33 values, no multiple of Q4_0's 32"),
        (header(tensors=2) + 2 * (TENSOR + struct.pack("<QIQ", 1, 0, 0)) + b"\0" * 64, "the tensor w appears twice"),
        (header(keys=1) + text("general.alignment") + struct.pack("<II", 4, 0) + b"\0" * 64, "its alignment is 0"),
        (header(keys=1) + text("general.alignment") + struct.pack("<II", 4, 24) + b"\0" * 64, "its alignment is 24"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
def test_each_fault_has_its_sentence(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "bad.gguf"
    path.write_bytes(content)
    with pytest.raises(FileError) as caught:
        GGUFFile(path)
    assert says in caught.value.message
    assert caught.value.hint


def test_an_unknown_storage_type_names_the_tensor(tmp_path: Path) -> None:
    path = tmp_path / "new.gguf"
    path.write_bytes(header(tensors=1) + TENSOR + struct.pack("<QIQ", 32, 250, 0) + b"\0" * 64)
    with pytest.raises(ModelError, match="the tensor w has the storage type 250") as caught:
        GGUFFile(path)
    assert "Q8_0" in caught.value.hint


def test_version_2_is_read(make_gguf: MakeGGUF, tmp_path: Path) -> None:
    whole = bytearray(make_gguf()[0].read_bytes())
    whole[4] = 2
    (tmp_path / "two.gguf").write_bytes(whole)
    assert GGUFFile(tmp_path / "two.gguf").version == 2


def test_a_type_without_a_decoder_names_the_tensor(tmp_path: Path) -> None:
    kind = GGMLQuantizationType.Q8_K
    raw = np.zeros((2, GGML_QUANT_SIZES[kind][1]), np.uint8)
    file = write(tmp_path / "q.gguf", {"w": (raw, kind)})
    with pytest.raises(ModelError, match="the tensor w is stored as Q8_K, which cannot be decoded"):
        file.rows("w", slice(None))
