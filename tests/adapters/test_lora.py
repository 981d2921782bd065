"""The arithmetic of LoRA and RsLoRA."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from workbench.adapters import LoraConfig, attach, trainable_parameters
from workbench.adapters.autograd import low_rank_linear
from workbench.model import Transformer


def gradient_norm(model: Transformer, ids: torch.Tensor, name: str = "default") -> float:
    logits = model(ids)[:, :-1].flatten(0, 1)
    F.cross_entropy(logits, ids[:, 1:].flatten()).backward()
    grads = [p.grad for p in trainable_parameters(model, name).values()]
    assert all(g is not None for g in grads)
    return math.sqrt(sum(float(g.double().pow(2).sum()) for g in grads if g is not None))


def test_the_two_scales() -> None:
    assert LoraConfig(r=16, lora_alpha=32).scale() == 2.0
    assert LoraConfig(method="rslora", r=16, lora_alpha=32).scale() == 8.0


@pytest.mark.parametrize(("method", "ratio"), [("lora", 2.0), ("rslora", 1.0)])
def test_first_gradient_falls_with_the_root_of_the_rank_for_lora_only(
    make_model: Callable[..., Transformer], ids: torch.Tensor, method: str, ratio: float
) -> None:
    norms = []
    for r in (64, 256):
        model = make_model(d_model=128, d_ff=256)
        attach(model, LoraConfig(method=method, r=r, lora_alpha=16))
        norms.append(gradient_norm(model, ids))
    assert norms[0] / norms[1] == pytest.approx(ratio, rel=0.05)


def test_rslora_is_lora_with_alpha_times_root_r(make_model: Callable[..., Transformer], ids: torch.Tensor) -> None:
    """Not only at the start: the same losses along a training run."""
    runs = []
    for config in (LoraConfig(method="rslora", r=16, lora_alpha=8), LoraConfig(method="lora", r=16, lora_alpha=8 * math.sqrt(16))):
        model = make_model()
        attach(model, config)
        optimizer = torch.optim.SGD(trainable_parameters(model).values(), lr=0.5)
        losses = []
        for _ in range(5):
            loss = F.cross_entropy(model(ids)[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
        runs.append(losses)
    assert runs[0] == runs[1]
    assert runs[0][0] > runs[0][-1]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("layout", ["row-major", "input-major"])
@pytest.mark.parametrize("bias", [True, False])
def test_fused_linear_equals_plain_autograd(dtype: torch.dtype, layout: str, bias: bool) -> None:
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator)

    weight = draw(24, 20).to(dtype)
    weight = weight if layout == "row-major" else weight.t().contiguous().t()
    offset = draw(24).to(dtype) if bias else None
    seen = draw(2, 7, 24).to(dtype)
    given = [(draw(2, 7, 20).to(dtype)), draw(4, 20), draw(24, 4)]
    results: list[list[torch.Tensor]] = []
    for form in ("fused", "plain"):
        x, a, b = (t.clone().requires_grad_() for t in given)
        if form == "fused":
            out = low_rank_linear(x, weight, offset, a, b, 1.5)
        else:
            wide = x.double()
            out = (
                F.linear(wide, weight.double(), None if offset is None else offset.double())
                + 1.5 * (wide @ a.double().t()) @ b.double().t()
            )
        out.backward(seen.to(out.dtype))
        assert x.grad is not None
        assert a.grad is not None
        assert b.grad is not None
        assert a.grad.dtype == b.grad.dtype == torch.float32
        results.append([t.double() for t in (out, x.grad, a.grad, b.grad)])
    for mine, reference in zip(*results, strict=True):
        limit = 1e-5 if dtype == torch.float32 else 2e-2
        assert float(((mine - reference).abs().max() / reference.abs().max()).detach()) < limit


def test_fused_linear_under_autocast_multiplies_in_bfloat16_and_trains_in_float32() -> None:
    x, weight = torch.randn(5, 8, requires_grad=True), torch.randn(6, 8)
    a, b = torch.randn(2, 8, requires_grad=True), torch.randn(6, 2, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        out = low_rank_linear(x, weight, None, a, b, 1.0)
    assert out.dtype == torch.bfloat16
    out.float().sum().backward()
    assert x.grad is not None
    assert a.grad is not None
    assert x.grad.dtype == a.grad.dtype == torch.float32
    exact = weight.sum(0) + (b.sum(0) @ a)
    torch.testing.assert_close(x.grad[0], exact.detach(), rtol=0.05, atol=0.1)


def test_frozen_weights_get_no_gradient_and_are_not_copied(model: Transformer, ids: torch.Tensor) -> None:
    attach(model, LoraConfig(r=2))
    kept: list[Any] = []
    bases = {p.data_ptr() for p in model.parameters() if not p.requires_grad}
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):  # type: ignore[func-returns-value]
        loss = model(ids).float().logsumexp(-1).mean()
    loss.backward()
    assert all(p.grad is None for p in model.parameters() if not p.requires_grad)
    weights = {tuple(p.shape) for p in model.parameters() if not p.requires_grad and p.dim() == 2}
    assert all(t.data_ptr() in bases for t in kept if tuple(t.shape) in weights and t.shape[0] != ids.numel())


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_dropout_acts_on_the_adapters_input_only(model: Transformer, ids: torch.Tensor, trained: Callable[..., None], share: float) -> None:
    attach(model, LoraConfig(r=2, lora_dropout=share))
    plain = model(ids)
    model.train()
    assert torch.equal(model(ids), plain), "while B is zero, dropping its input changes nothing"
    trained(model)
    assert not torch.equal(model(ids), model(ids)), "each pass draws another mask"
    model.eval()
    assert torch.equal(model(ids), model(ids))


def test_seeded_dropout_repeats_and_leaves_the_global_generator_alone(
    model: Transformer, ids: torch.Tensor, trained: Callable[..., None]
) -> None:
    attach(model, LoraConfig(r=2, lora_dropout=0.3))
    trained(model)
    model.train()
    selection: Any = model.blocks[0].attention.q_proj.selection
    before = torch.get_rng_state()
    selection.noise = 7
    first, again = model(ids), model(ids)
    selection.noise = 8
    other = model(ids)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(before, torch.get_rng_state())


def test_dropout_keeps_the_mean() -> None:
    from workbench.adapters.dropout import dropped

    out = dropped(torch.ones(200, 200), 0.25, noise=1)
    assert float((out == 0).float().mean()) == pytest.approx(0.25, abs=0.01)
    assert float(out.mean()) == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize("r", [4, 64])
def test_the_start_has_the_documented_spread(make_model: Callable[..., Transformer], r: int) -> None:
    def spread(init: str) -> float:
        model = make_model(d_model=128)
        attach(model, LoraConfig(r=r, init=init, target_modules=("q_proj",)))
        return float(trainable_parameters(model)["blocks.0.attention.q_proj.A"].detach().std())

    assert spread("kaiming") == pytest.approx(1 / math.sqrt(3 * 128), rel=0.1)
    assert spread("gaussian") == pytest.approx(1 / r, rel=0.1)


def test_the_start_follows_from_the_seed(make_model: Callable[..., Transformer]) -> None:
    def start(seed: int) -> torch.Tensor:
        model = make_model()
        attach(model, LoraConfig(r=2), seed=seed)
        return trainable_parameters(model)["blocks.1.mlp.down_proj.A"].detach()

    before = torch.get_rng_state()
    assert torch.equal(start(1), start(1))
    assert not torch.equal(start(1), start(2))
    assert torch.equal(before, torch.get_rng_state())
