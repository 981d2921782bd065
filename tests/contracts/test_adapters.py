"""Every registered adapter method keeps the promises of `Adapter`."""

from __future__ import annotations

import copy

import pytest
import torch

from workbench.adapters import ADAPTERS, LoraConfig, adapters_of, attach, disabled, merge, scale, trainable_parameters
from workbench.adapters.base import adapter_type
from workbench.core.fields import describe
from workbench.model import ModelConfig, Transformer, build_model

METHODS = ADAPTERS.names()


def model_with(method: str) -> Transformer:
    model = build_model(ModelConfig(vocab_size=31, n_layers=1, d_model=16, n_heads=2, max_positions=16), seed=1)
    attach(model, LoraConfig(method=method, r=2, lora_alpha=4))
    return model


def train_a_little(model: Transformer, ids: torch.Tensor) -> None:
    optimizer = torch.optim.Adam(trainable_parameters(model).values(), lr=0.05)
    for _ in range(3):
        optimizer.zero_grad()
        model(ids).logsumexp(-1).mean().backward()
        optimizer.step()


@pytest.fixture
def ids() -> torch.Tensor:
    return torch.arange(10)[None]


@pytest.mark.parametrize("method", METHODS)
def test_is_described(method: str) -> None:
    entry = ADAPTERS[method]
    assert entry.label
    assert entry.source
    assert entry.equation
    assert entry.help.endswith(".")
    assert method in {o.name for i in describe(LoraConfig) if i.name == "method" for o in i.pick_options()}


@pytest.mark.parametrize("method", METHODS)
def test_scale_is_proportional_to_alpha(method: str) -> None:
    rule = adapter_type(method).scale_rule
    assert rule(8.0, 4) == pytest.approx(8 * rule(1.0, 4))
    assert LoraConfig(method=method, r=4, lora_alpha=8.0).scale() == rule(8.0, 4)


@pytest.mark.parametrize("method", METHODS)
def test_starts_as_the_base_bit_for_bit(method: str, ids: torch.Tensor) -> None:
    model = model_with(method)
    tuned = model(ids)
    with disabled(model):
        assert torch.equal(model(ids), tuned)


@pytest.mark.parametrize("method", METHODS)
def test_training_form_equals_running_form(method: str, ids: torch.Tensor) -> None:
    model = model_with(method)
    train_a_little(model, ids)
    with_grad = model(ids)
    with torch.no_grad():
        without = model(ids)
    with disabled(model):
        assert not torch.allclose(model(ids), without)
    torch.testing.assert_close(with_grad, without)


@pytest.mark.parametrize("method", METHODS)
def test_merged_equals_unmerged(method: str, ids: torch.Tensor) -> None:
    model = model_with(method)
    train_a_little(model, ids)
    apart = model(ids)
    merge(model)
    torch.testing.assert_close(model(ids), apart, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_zero_strength_is_the_base(method: str, ids: torch.Tensor) -> None:
    model = model_with(method)
    train_a_little(model, ids)
    scale(model, "default", 0.0)
    with disabled(model):
        bare = model(ids)
    assert torch.equal(model(ids), bare)


@pytest.mark.parametrize("method", METHODS)
def test_parameters_are_float32_whatever_the_base(method: str, ids: torch.Tensor) -> None:
    model = build_model(ModelConfig(vocab_size=31, n_layers=1, d_model=16, n_heads=2, max_positions=16), seed=1, dtype=torch.bfloat16)
    attach(model, LoraConfig(method=method, r=2))
    assert {p.dtype for p in trainable_parameters(model).values()} == {torch.float32}
    train_a_little(model, ids)
    assert model(ids).dtype == torch.bfloat16


@pytest.mark.parametrize("method", METHODS)
def test_can_be_copied_and_stored(method: str, ids: torch.Tensor) -> None:
    model = model_with(method)
    train_a_little(model, ids)
    twin = copy.deepcopy(model)
    assert torch.equal(twin(ids), model(ids))
    for adapter in adapters_of(model, "default").values():
        tensors = adapter.peft_tensors()
        assert {t.data_ptr() for t in tensors.values()} == {p.data_ptr() for p in adapter.parameters()}, (
            "a trained tensor has no place in the file"
        )
