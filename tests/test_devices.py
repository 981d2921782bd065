"""Which device and which precision the work runs in."""

from __future__ import annotations

import builtins
import io
from typing import Any

import pytest
import torch

from workbench import devices
from workbench.core.errors import ConfigError
from workbench.devices import choose_compute, cpu_has_fast_bfloat16, default_threads


def machine(monkeypatch: pytest.MonkeyPatch, *, cuda: int = 0, mps: bool = False, bfloat16: bool = False) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    monkeypatch.setattr(devices, "cpu_has_fast_bfloat16", lambda: bfloat16)


@pytest.mark.parametrize(
    ("has", "device", "dtype", "prefill"),
    [
        ({}, "cpu", torch.float32, None),
        ({"bfloat16": True}, "cpu", torch.float32, torch.bfloat16),
        ({"cuda": 1}, "cuda", torch.bfloat16, None),
        ({"mps": True}, "mps", torch.float32, None),
        ({"cuda": 1, "mps": True, "bfloat16": True}, "cuda", torch.bfloat16, None),
    ],
)
def test_auto_takes_the_best_there_is(
    monkeypatch: pytest.MonkeyPatch, has: dict[str, Any], device: str, dtype: torch.dtype, prefill: torch.dtype | None
) -> None:
    machine(monkeypatch, **has)
    found = choose_compute()
    assert (found.device.type, found.dtype, found.prefill_dtype) == (device, dtype, prefill)
    assert found.reason


def test_what_is_asked_for_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, cuda=2, bfloat16=True)
    found = choose_compute("cpu", "bfloat16")
    assert (found.device, found.dtype, found.prefill_dtype) == (torch.device("cpu"), torch.bfloat16, None)
    assert choose_compute("cuda:1", "float16").device == torch.device("cuda:1")
    assert choose_compute("cpu", "float32").prefill_dtype is None


@pytest.mark.parametrize("name", ["cuda", "mps", "tpu", "", "cpu:x", "cpu:1", "CPU:", "cuda:0"])
def test_a_device_that_is_not_there_is_named_with_those_that_are(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    machine(monkeypatch)
    with pytest.raises(ConfigError) as caught:
        choose_compute(name)
    assert str(caught.value) == f"The device {name!r} is not available here. Choose one of: auto, cpu."


@pytest.mark.parametrize("name", ["cuda:2", "cuda:-1", "cuda:x", "cuda:"])
def test_a_gpu_beyond_the_last_is_not_available(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    machine(monkeypatch, cuda=2)
    with pytest.raises(ConfigError, match=f"The device '{name}' is not available here. Choose one of: auto, cpu, cuda"):
        choose_compute(name)


def test_an_unknown_precision_is_named_with_the_known_ones() -> None:
    with pytest.raises(ConfigError) as caught:
        choose_compute("cpu", "int3")
    assert str(caught.value) == "There is no precision 'int3'. Choose one of: auto, float32, bfloat16, float16."


@pytest.mark.parametrize(
    ("text", "fast"),
    [
        ("flags\t\t: fpu sse avx512f avx512_bf16 amx_tile\n", True),
        ("flags\t\t: fpu amx_bf16\n", True),
        ("Features\t: fp asimd bf16 i8mm\n", True),
        ("flags\t\t: fpu avx2 avx512f avx512_bf16x\n", False),
        ("model name : bf16 machine\n", False),
        ("", False),
    ],
)
def test_fast_bfloat16_is_read_from_the_cpu(monkeypatch: pytest.MonkeyPatch, text: str, fast: bool) -> None:
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    monkeypatch.setattr(builtins, "open", lambda *_a, **_k: io.StringIO("processor : 0\n" + text))
    assert cpu_has_fast_bfloat16() is fast


def test_fast_bfloat16_without_cpuinfo_or_mkldnn_is_no(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: Any, **__: Any) -> Any:
        raise FileNotFoundError("/proc/cpuinfo")

    with monkeypatch.context() as patch:
        patch.setattr(builtins, "open", missing)
        assert not cpu_has_fast_bfloat16()
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert not cpu_has_fast_bfloat16()


def test_the_label_names_device_precision_and_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, mps=True)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert choose_compute("cpu").label == "CPU · float32 · 1 thread"
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    assert choose_compute("cpu", "bfloat16").label == "CPU · bfloat16 · 4 threads"
    assert choose_compute("mps").label == "MPS · float32"


def test_threads_are_the_physical_cores_and_at_least_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices.psutil, "cpu_count", lambda logical=True: 8 if logical else 4)
    assert default_threads() == 4
    monkeypatch.setattr(devices.psutil, "cpu_count", lambda logical=True: None)
    monkeypatch.setattr(devices.os, "cpu_count", lambda: None)
    assert default_threads() == 1
