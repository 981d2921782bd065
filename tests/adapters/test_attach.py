"""Putting adapters on, taking them off, choosing between them."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable

import pytest
import torch

from workbench.adapters import (
    LoraConfig,
    LoraLinear,
    adapter_names,
    attach,
    detach,
    disabled,
    merge,
    scale,
    selected,
    strengths,
    trainable_counts,
    trainable_parameters,
    unmerge,
)
from workbench.core.errors import ConfigError
from workbench.model import PRESETS, Transformer, build_model

Make = Callable[..., Transformer]
Stir = Callable[..., None]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize("biases", [True, False])
def test_a_fresh_adapter_changes_no_bit(make_model: Make, ids: torch.Tensor, dtype: torch.dtype, grad: bool, biases: bool) -> None:
    model = make_model(attention_bias=biases, mlp_bias=biases).to(dtype)
    bare = dict(model.named_modules())
    attach(model, LoraConfig(r=4))
    with torch.set_grad_enabled(grad):
        for shape in ((2, 9, 32), (1, 1, 32), (3, 32)):
            x = torch.randn(shape, dtype=dtype)
            assert torch.equal(model.blocks[0].attention.q_proj(x), bare["blocks.0.attention.q_proj"](x))
        with disabled(model):
            before = model(ids)
        if dtype == torch.float32 or not grad:  # training in bfloat16 multiplies attention in another order
            assert torch.equal(model(ids), before)


def test_detach_leaves_the_model_as_it_was(model: Transformer, ids: torch.Tensor, trained: Stir) -> None:
    frozen_before = next(iter(model.blocks[0].parameters())).requires_grad_(False)
    before, modules = model(ids), {n: type(m) for n, m in model.named_modules()}
    attach(model, LoraConfig(r=2), "a")
    attach(model, LoraConfig(r=3, target_modules=("q_proj",)), "b")
    trained(model, "a")
    assert not torch.equal(model(ids), before)
    assert [n for n, p in model.named_parameters() if p.requires_grad] == [n for n, p in model.named_parameters() if "adapters" in n]
    detach(model, "a")
    assert adapter_names(model) == ("b",)
    assert isinstance(model.blocks[0].attention.q_proj, LoraLinear)
    assert not isinstance(model.blocks[0].attention.k_proj, LoraLinear)
    detach(model, "b")
    assert torch.equal(model(ids), before)
    assert {n: type(m) for n, m in model.named_modules()} == modules
    assert not frozen_before.requires_grad
    assert sum(not p.requires_grad for p in model.parameters()) == 1


@pytest.mark.parametrize(
    ("targets", "count"),
    [("all-linear", 14), ("attention", 8), ("mlp", 6), ("q_proj, v_proj", 4), ("blocks.1.*", 7), ("attention,blocks.0.mlp.up_proj", 9)],
)
def test_targets(model: Transformer, targets: str, count: int) -> None:
    assert len(attach(model, LoraConfig(r=1, target_modules=targets))) == count  # type: ignore[arg-type]


def test_what_cannot_be_attached_is_refused(model: Transformer) -> None:
    with pytest.raises(ConfigError, match="qproj"):
        attach(model, LoraConfig(target_modules=("qproj",)))
    with pytest.raises(ConfigError, match="Rank is 0"):
        attach(model, LoraConfig(r=0))
    attach(model, LoraConfig(r=1), "mine")
    with pytest.raises(ConfigError, match="already has"):
        attach(model, LoraConfig(r=1), "mine")
    with pytest.raises(ConfigError, match="dots"):
        attach(model, LoraConfig(r=1), "a.b")
    with pytest.raises(ConfigError, match="yours"):
        detach(model, "yours")
    with pytest.raises(ConfigError, match="yours"), selected(model, {"yours": 1.0}):
        pass
    assert adapter_names(model) == ("mine",)


def test_strength_scales_the_change(model: Transformer, ids: torch.Tensor, trained: Stir) -> None:
    layer = "blocks.0.attention.q_proj"
    attach(model, LoraConfig(r=2))
    trained(model)
    x = torch.randn(3, 32)
    linear = model.get_submodule(layer)
    base = linear.base(x)  # type: ignore[operator]
    for strength in (0.0, 0.5, 1.0, 1.5):
        scale(model, "default", strength)
        expected = base + strength * 16.0 * (x @ linear.adapters["default"].A.t()) @ linear.adapters["default"].B.t()  # type: ignore[index,union-attr]
        for grad in (True, False):
            with torch.set_grad_enabled(grad):
                torch.testing.assert_close(linear(x), expected)
    assert strengths(model) == {"default": 1.5}


@pytest.mark.parametrize("grad", [True, False])
def test_several_adapters_add_up(model: Transformer, trained: Stir, grad: bool) -> None:
    attach(model, LoraConfig(r=2), "a")
    attach(model, LoraConfig(method="rslora", r=4, target_modules=("attention",)), "b")
    trained(model, "a", seed=1)
    trained(model, "b", seed=2)
    x, linear = torch.randn(40, 32), model.blocks[0].attention.v_proj
    with torch.set_grad_enabled(grad):
        results = {}
        for chosen in ({}, {"a": 1.0}, {"b": 0.5}, {"a": 1.0, "b": 0.5}):
            with selected(model, chosen):
                results[tuple(chosen)] = linear(x)
    base = results[()]
    torch.testing.assert_close(results["a", "b"] - base, (results["a",] - base) + (results["b",] - base))


def test_choice_is_of_one_thread(model: Transformer, ids: torch.Tensor, trained: Stir) -> None:
    """While one thread runs the bare base, another one runs the adapter: neither sees the other's choice."""
    attach(model, LoraConfig(r=2))
    trained(model)
    with torch.no_grad():
        tuned = model(ids)
        with disabled(model):
            bare = model(ids)
    inside, done = threading.Event(), threading.Event()
    seen: dict[str, torch.Tensor] = {}

    def other() -> None:
        with torch.no_grad():
            with disabled(model):
                seen["disabled"] = model(ids)
                inside.set()
                done.wait(10)
                seen["still"] = model(ids)
            seen["after"] = model(ids)

    thread = threading.Thread(target=other)
    thread.start()
    assert inside.wait(10)
    with torch.no_grad():
        here = model(ids)
    done.set()
    thread.join()
    assert torch.equal(here, tuned)
    assert torch.equal(seen["disabled"], bare)
    assert torch.equal(seen["still"], bare)
    assert torch.equal(seen["after"], tuned)


def test_choices_nest_and_end_with_an_error(model: Transformer, ids: torch.Tensor, trained: Stir) -> None:
    attach(model, LoraConfig(r=2))
    trained(model)
    tuned = model(ids)
    with pytest.raises(RuntimeError), disabled(model):  # noqa: PT012
        bare = model(ids)
        with selected(model, {"default": 1.0}):
            assert torch.equal(model(ids), tuned)
        assert torch.equal(model(ids), bare)
        raise RuntimeError
    assert torch.equal(model(ids), tuned)


@pytest.mark.parametrize("method", ["lora", "rslora"])
def test_merged_computes_the_same_and_unmerging_restores(model: Transformer, ids: torch.Tensor, trained: Stir, method: str) -> None:
    weights = {n: p.clone() for n, p in model.named_parameters()}
    attach(model, LoraConfig(method=method, r=3, lora_alpha=2.0))
    trained(model)
    scale(model, "default", 0.7)
    apart = model(ids)
    merge(model)
    assert float((model(ids) - apart).detach().abs().max()) <= 1e-5
    assert not torch.equal(model.blocks[0].mlp.up_proj.weight, weights["blocks.0.mlp.up_proj.weight"])
    for refused in (lambda: merge(model), lambda: scale(model, "default", 1.0), lambda: disabled(model).__enter__()):
        with pytest.raises(ConfigError, match="merged"):
            refused()
    unmerge(model)
    torch.testing.assert_close(model(ids), apart)
    detach(model, "default")
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter, weights[name], rtol=0, atol=1e-6)


def test_detaching_a_merged_adapter_unmerges_it(model: Transformer, trained: Stir) -> None:
    before = model.blocks[0].mlp.up_proj.weight.clone()
    attach(model, LoraConfig(r=3))
    trained(model)
    merge(model)
    detach(model, "default")
    torch.testing.assert_close(model.blocks[0].mlp.up_proj.weight, before, rtol=0, atol=1e-6)


def test_state_dict_is_that_of_the_base(model: Transformer, make_model: Make, ids: torch.Tensor, trained: Stir) -> None:
    bare = model.state_dict()
    attach(model, LoraConfig(r=2))
    trained(model)
    wrapped = model.state_dict()
    assert wrapped.keys() == bare.keys()
    assert all(torch.equal(wrapped[k], bare[k]) for k in bare)
    other = make_model(n_kv_heads=2)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    attach(other, LoraConfig(r=2))
    assert other.load_state_dict(wrapped) == ([], [])
    with disabled(model):
        expected = model(ids)
    assert torch.equal(other(ids), expected)
    with pytest.raises(RuntimeError, match="Missing"):
        other.load_state_dict({k: v for k, v in wrapped.items() if "q_proj" not in k})


def test_a_copy_of_a_model_chooses_for_itself(model: Transformer, ids: torch.Tensor, trained: Stir) -> None:
    attach(model, LoraConfig(r=2))
    trained(model)
    twin, tuned = copy.deepcopy(model), model(ids)
    scale(twin, "default", 0.0)
    assert torch.equal(model(ids), tuned)
    assert not torch.equal(twin(ids), tuned)


def test_counts_match_the_published_arithmetic() -> None:
    """Facts §1.5, from configs alone: nothing is allocated."""
    gpt2 = build_model(PRESETS["gpt2"].config, device="meta", init=False)
    every = trainable_counts(gpt2, LoraConfig(r=8))
    assert every.trainable == 1_179_648 + 12 * 8 * 2 * 768, "separate q, k and v have three A's where c_attn has one"
    assert every.base == 124_439_808
    smol = build_model(PRESETS["smollm2-135m"].config, device="meta", init=False)
    small = trainable_counts(smol, LoraConfig(r=8))
    assert (small.trainable, round(small.percent_of_all, 4)) == (2_442_240, 1.7832)
    assert trainable_counts(smol, LoraConfig(r=8, target_modules=("q_proj", "v_proj"))).trainable == 460_800


def test_counts_of_what_is_attached(model: Transformer) -> None:
    planned = trainable_counts(model, LoraConfig(r=4, target_modules=("mlp",)))
    attach(model, LoraConfig(r=4, target_modules=("mlp",)))
    found = trainable_counts(model)
    assert found == planned
    assert found.trainable == sum(p.numel() for p in trainable_parameters(model).values())
    assert found.percent_of_all < found.percent_of_base
