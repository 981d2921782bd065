"""Products by the faster library, where there is one: the same numbers and the same gradients as torch's own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from workbench.numerics import products
from workbench.numerics.products import FEWEST_ROWS, fast_linear, product, suits


@pytest.fixture(params=["oneDNN", "as on other machines"])
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The rest of the code on either kind of machine, as far as this one has oneDNN."""
    fast = request.param == "oneDNN"
    monkeypatch.setattr(products, "_made_by_amd", lambda: fast)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    products._kernel.cache_clear()
    if fast and products._kernel() is None:
        pytest.skip("this torch was built without oneDNN's linear")
    yield request.param
    products._kernel.cache_clear()


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("shape", [(3, 40, 24), (64, 24), (1, 24)])
def test_values_and_gradients(library: str, shape: tuple[int, ...], bias: bool) -> None:
    found = []
    for way in (fast_linear, F.linear):
        draw = torch.Generator().manual_seed(0)
        x, weight = torch.randn(shape, generator=draw), torch.randn(10, 24, generator=draw)
        offset = torch.randn(10, generator=draw) if bias else None
        given = [t.requires_grad_() for t in (x, weight, offset) if t is not None]
        out = way(x, weight, offset)
        (out * torch.linspace(-1, 1, 10)).sum().backward()
        found.append([out, *(t.grad for t in given)])
    for mine, wanted in zip(*found, strict=True):
        torch.testing.assert_close(mine, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("turned", ["x", "weight", "both"])
def test_transposed_matrices(library: str, turned: str) -> None:
    def view(tensor: Tensor, name: str) -> Tensor:
        return tensor.t().contiguous().t() if turned in (name, "both") else tensor

    x, weight = torch.randn(48, 20), torch.randn(30, 20)
    torch.testing.assert_close(product(view(x, "x"), view(weight, "weight")), x @ weight.t(), rtol=1e-5, atol=1e-5)


def test_it_is_float32s_precision_not_bfloat16s(library: str) -> None:
    x, weight = torch.randn(64, 512), torch.randn(32, 512)
    exact = (x.double() @ weight.double().t()).float()
    assert (product(x, weight) - exact).abs().max() < 2e-4


def test_where_it_steps_back(library: str) -> None:
    x, weight = torch.randn(FEWEST_ROWS, 8), torch.randn(4, 8)
    assert suits(x, weight) == (library == "oneDNN")
    assert not suits(x[:-1], weight)
    assert not suits(x.double(), weight.double())
    assert not suits(x.to("meta"), weight.to("meta"))
    with torch.autocast("cpu", torch.bfloat16):
        assert not suits(x, weight)


def test_a_torch_that_calls_it_otherwise_gets_the_plain_product(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "_made_by_amd", lambda: True)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")

    class Other:
        @staticmethod
        def _linear_pointwise(*_: object) -> Tensor:
            raise RuntimeError("schema changed")

    monkeypatch.setattr(torch.ops, "mkldnn", Other())
    products._kernel.cache_clear()
    try:
        assert products._kernel() is None
    finally:
        products._kernel.cache_clear()
