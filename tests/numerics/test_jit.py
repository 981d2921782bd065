"""Kernels compiled by numba: what they return, that threads share the work, and what happens without numba."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from workbench.core.errors import WorkbenchError
from workbench.numerics import jit

needs_numba = pytest.mark.skipif(not jit.available(), reason="numba is not installed here")


@jit.kernel
def total(x):
    result = np.float32(0)
    for value in x:
        result += value
    return result


@jit.shared_kernel
def doubled(begin, end, x, out):
    for i in range(begin, end):
        out[i] = 2 * x[i]


@jit.shared_kernel
def unstarted(begin, end, out):
    out[begin:end] = 1


@pytest.fixture(params=[1, 2, 5])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@needs_numba
def test_a_kernel_takes_tensors_and_returns_a_number() -> None:
    assert total(torch.arange(5.0)) == 10.0


@needs_numba
@pytest.mark.parametrize("count", [0, 1, 2, 3, 64, 1001])
def test_a_shared_kernel_does_every_item_once(threads: int, count: int) -> None:
    x, out = torch.randn(count), torch.full((count,), -1.0)
    doubled(count, x, out)
    assert torch.equal(out, 2 * x)


@needs_numba
def test_nan_and_infinity_keep_their_meaning() -> None:
    assert np.isnan(total(torch.tensor([1.0, float("nan"), 2.0])))
    assert total(torch.tensor([1.0, float("inf")])) == float("inf")


def test_without_numba_a_kernel_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jit, "available", lambda: False)
    with pytest.raises(WorkbenchError, match="numba") as raised:
        unstarted(3, torch.zeros(3))
    assert "pip install numba" in raised.value.hint
    assert not unstarted.compiled


@needs_numba
def test_numba_is_imported_by_the_first_call_only() -> None:
    code = "import sys, workbench.numerics.jit, workbench.model; assert 'numba' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@needs_numba
def test_code_that_an_earlier_process_left_is_known(tmp_path: Path) -> None:
    (tmp_path / "fresh.py").write_text(
        "from workbench.numerics import jit\n\n@jit.shared_kernel\ndef fresh(begin, end, out):\n    out[begin:end] = 1\n"
    )
    code = "import torch; from fresh import fresh; print(fresh.kept); fresh(3, torch.zeros(3)); print(fresh.kept)"
    where = {**os.environ, "PYTHONPATH": os.pathsep.join((str(tmp_path), *sys.path)), "NUMBA_CACHE_DIR": str(tmp_path / "kept")}
    seen = [subprocess.run([sys.executable, "-c", code], env=where, capture_output=True, text=True).stdout.split() for _ in range(2)]
    assert seen == [["False", "True"], ["True", "True"]]
