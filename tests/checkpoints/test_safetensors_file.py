"""The safetensors container, held against the `safetensors` package both ways."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from workbench.checkpoints.safetensors_file import Outgoing, SafetensorsFile, Shards, write_safetensors
from workbench.core.errors import FileError

TENSORS = {
    "a": torch.arange(12, dtype=torch.float32).reshape(3, 4),
    "b": torch.arange(12, dtype=torch.float32).reshape(3, 4).to(torch.bfloat16),
    "c": torch.arange(3, dtype=torch.float16),
    "d": torch.arange(4, dtype=torch.float64).reshape(2, 2),
    "mask": torch.ones(1, 1, 2, 2, dtype=torch.bool),
    "steps": torch.tensor(7),
}


def outgoing(tensors: dict[str, torch.Tensor]) -> list[Outgoing]:
    return [Outgoing(name, tuple(t.shape), t.dtype, lambda t=t: t) for name, t in tensors.items()]  # type: ignore[misc]


def test_reads_what_the_package_writes(tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / "m.safetensors", metadata={"format": "pt"})
    file = SafetensorsFile(tmp_path / "m.safetensors")
    assert set(file.infos) == set(TENSORS)
    for name in "abcd":
        info = file.infos[name]
        assert (info.shape, info.dtype, info.nbytes) == (tuple(TENSORS[name].shape), TENSORS[name].dtype, TENSORS[name].nbytes)
        assert torch.equal(file.rows(name, slice(None)), TENSORS[name])
        assert torch.equal(file.rows(name, np.array([1, 0])), TENSORS[name][[1, 0]])
    assert torch.equal(file.rows("b", slice(1, 3), transposed=True), TENSORS["b"].t()[1:3])


def test_the_package_reads_what_we_write(tmp_path: Path) -> None:
    strided = {**TENSORS, "a": TENSORS["a"].t()}
    written = list(write_safetensors(tmp_path / "m.safetensors", outgoing(strided)))
    assert written == [t.nbytes for t in TENSORS.values()]
    again = load_file(tmp_path / "m.safetensors")
    assert set(again) == set(strided)
    assert all(torch.equal(again[name], t) for name, t in strided.items())
    with safe_open(tmp_path / "m.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt"}  # older transformers refuse files without it


def test_a_file_cut_anywhere_is_a_file_error(tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / "m.safetensors")
    whole = (tmp_path / "m.safetensors").read_bytes()
    for length in range(0, len(whole), 7):
        (tmp_path / "cut.safetensors").write_bytes(whole[:length])
        with pytest.raises(FileError, match=r"cut\.safetensors") as caught:
            SafetensorsFile(tmp_path / "cut.safetensors").close()
        assert caught.value.hint


def with_header(header: Any, data: bytes = b"\0" * 16) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def entry(**changes: Any) -> dict[str, Any]:
    return {"w": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16], **changes}}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (struct.pack("<Q", 2**60) + b"{}", "its header would take 1152921504606846976 bytes, the file has 10"),
        (with_header(b"{broken"), "its header is not JSON"),
        (with_header(b"[" * 100_000), "its header is not JSON"),
        (with_header([1]), "its header is not a table of tensors"),
        (with_header({"w": 1}), "the entry of w is not complete"),
        (with_header(entry(shape=None)), "the entry of w is not complete"),
        (with_header(entry(dtype="F31")), "w is stored as F31, which is not known"),
        (with_header(entry(dtype=[])), "w is stored as [], which is not known"),
        (with_header(b'{"w": ' + b"9" * 5000 + b"}"), "its header is not JSON"),
        (with_header(entry(shape=[5])), "w with shape [5] takes 20 bytes, its header says 16"),
        (with_header(entry(shape=[-4])), "is not made of whole numbers"),
        (with_header(entry(shape=[2**40], data_offsets=[0, 2**42])), "is truncated: w ends at byte"),
        (with_header(entry(data_offsets=[8, 24])), "is truncated: w ends at byte"),
        (with_header(entry(data_offsets=[-16, 0])), "is not made of whole numbers"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
def test_each_fault_has_its_sentence(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "bad.safetensors"
    path.write_bytes(content)
    with pytest.raises(FileError) as caught:
        SafetensorsFile(path)
    assert says in caught.value.message
    assert caught.value.hint


def test_shards_read_as_one(tmp_path: Path) -> None:
    save_file({"a": TENSORS["a"]}, tmp_path / "1.safetensors")
    save_file({"b": TENSORS["b"]}, tmp_path / "2.safetensors")
    file = Shards(tmp_path, {"a": "1.safetensors", "b": "2.safetensors"})
    assert torch.equal(file.rows("a", slice(None)), TENSORS["a"])
    assert torch.equal(file.rows("b", slice(1, 2)), TENSORS["b"][1:2])
    file.forget()
    file.close()


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    save_file({"a": TENSORS["a"]}, tmp_path / "1.safetensors")
    with pytest.raises(FileError, match=r"the shard 2\.safetensors is missing \(1 of 2 are\)"):
        Shards(tmp_path, {"a": "1.safetensors", "b": "2.safetensors"})


def test_a_shard_outside_the_folder_is_not_opened(tmp_path: Path) -> None:
    save_file({"a": TENSORS["a"]}, tmp_path / "1.safetensors")
    (tmp_path / "model").mkdir()
    with pytest.raises(FileError, match=r"\.\./1\.safetensors is missing"):
        Shards(tmp_path / "model", {"a": "../1.safetensors"})


def test_a_tensor_that_is_not_where_the_index_says_is_named(tmp_path: Path) -> None:
    save_file({"a": TENSORS["a"]}, tmp_path / "1.safetensors")
    with pytest.raises(FileError, match=r"b is not in 1\.safetensors"):
        Shards(tmp_path, {"a": "1.safetensors", "b": "1.safetensors"})
