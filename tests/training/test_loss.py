"""The fused loss against its slow twin."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from workbench.data import IGNORED
from workbench.training import loss as loss_module
from workbench.training.loss import fused_cross_entropy, summed_loss, trained_rows


def test_rows_are_those_that_predict_something() -> None:
    rows, wanted = trained_rows(torch.tensor([[IGNORED, 5, 6, IGNORED], [2, IGNORED, IGNORED, IGNORED]]))
    assert rows.tolist() == [1, 2, 4]
    assert wanted.tolist() == [5, 6, 2]


@pytest.mark.parametrize("trainable_head", [False, True])
@pytest.mark.parametrize("chunk", [1, 3, 100])
def test_fused_equals_plain(chunk: int, trainable_head: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loss_module, "CHUNK_ELEMENTS", 50 * chunk)
    draw = torch.Generator().manual_seed(0)
    hidden = torch.randn(10, 8, generator=draw, dtype=torch.float32)
    weight = torch.randn(50, 8, generator=draw)
    targets = torch.randint(50, (10,), generator=draw)
    found, wanted = [], []
    for kind, out in ((fused_cross_entropy, found), (lambda h, w, y: F.cross_entropy(h @ w.t(), y, reduction="sum"), wanted)):
        h, w = hidden.clone().requires_grad_(), weight.clone().requires_grad_(trainable_head)
        value = kind(h, w, targets)
        (value / 7).backward()
        out += [value.detach(), h.grad, *([w.grad] if trainable_head else [])]
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


def test_fused_under_autocast_is_near_and_returns_float32() -> None:
    draw = torch.Generator().manual_seed(1)
    hidden, weight = torch.randn(16, 32, generator=draw).requires_grad_(), torch.randn(64, 32, generator=draw)
    targets = torch.randint(64, (16,), generator=draw)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = fused_cross_entropy(hidden, weight, targets)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, F.cross_entropy(hidden @ weight.t(), targets, reduction="sum"), rtol=0.02, atol=0.5)
    value.backward()
    assert hidden.grad is not None
    assert hidden.grad.dtype == torch.float32


def test_no_trained_token_gives_zero_and_zero_gradients(make_model) -> None:  # type: ignore[no-untyped-def]
    model = make_model(adapted=False)
    hidden = torch.randn(1, 4, 16, requires_grad=True)
    value = summed_loss(model, hidden, torch.full((1, 4), IGNORED))
    value.backward()
    assert float(value.detach()) == 0.0
    assert hidden.grad is not None
    assert not hidden.grad.any()
