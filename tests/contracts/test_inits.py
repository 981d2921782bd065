"""Every registered initialisation draws usable weights, and the same ones for the same seed."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from workbench.core.fields import from_dict, to_dict
from workbench.model import ModelConfig, Transformer, build_model
from workbench.model.init import INITS

KINDS = (*INITS.names(), "uniform")
EACH = pytest.mark.parametrize("kind", KINDS)


@dataclass(frozen=True)
class UniformInit:
    """Written from the protocol alone."""

    def __call__(self, name: str, weight: Tensor, depth: int, generator: torch.Generator) -> None:
        weight.uniform_(-0.05, 0.05, generator=generator)


LATE_KIND = (INITS, "uniform", UniformInit, "W ~ U(−0.05, 0.05)")


def config(kind: str, **changes: Any) -> ModelConfig:
    sizes: dict[str, Any] = {
        "vocab_size": 61, "n_layers": 2, "d_model": 32, "n_heads": 2, "max_positions": 24, "position": "learned", "norm": "layernorm",
        "attention_bias": True, "attention_out_bias": True, "mlp_bias": True, "tie_embeddings": False,
    }  # fmt: skip
    return ModelConfig(**{**sizes, "init": kind, **changes})


def poisoned(kind: str) -> Transformer:
    """Built where every matrix and bias was garbage before it was drawn."""
    from workbench.model.init import initialise

    made = config(kind)
    model = build_model(made, init=False)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1 or name.endswith("bias"):
                parameter.fill_(math.nan)
    initialise(model, made.init.make(), made.n_layers, 0)
    return model


@EACH
def test_is_described(kind: str, described: Callable[[Any, str], None]) -> None:
    described(INITS, kind)
    assert from_dict(ModelConfig, to_dict(config(kind))) == config(kind)


@EACH
def test_every_value_is_drawn(kind: str) -> None:
    for name, parameter in poisoned(kind).requires_grad_(False).named_parameters():
        assert parameter.isfinite().all(), name
        if name.endswith("bias"):
            assert not parameter.any(), name
        elif "norm" in name:
            assert (parameter == 1).all(), name
        else:
            assert parameter.std() > 0, name
            assert abs(float(parameter.mean())) < 4 * float(parameter.std()) / math.sqrt(parameter.numel()), name


@EACH
def test_the_seed_decides(kind: str) -> None:
    first, same, other = (build_model(config(kind), seed=s).state_dict() for s in (1, 1, 2))
    assert all(torch.equal(first[n], same[n]) for n in first)
    drawn = [n for n, t in first.items() if t.dim() > 1]
    assert not any(torch.equal(first[n], other[n]) for n in drawn)


@EACH
def test_no_two_matrices_are_alike(kind: str) -> None:
    weights = [t.flatten()[:32] / t.std() for n, t in build_model(config(kind)).state_dict().items() if t.dim() > 1]
    for index, one in enumerate(weights):
        assert not any(torch.allclose(one, other, atol=1e-3) for other in weights[:index])


@EACH
def test_torchs_own_random_state_is_left_alone(kind: str) -> None:
    state = torch.get_rng_state()
    build_model(config(kind))
    assert torch.equal(torch.get_rng_state(), state)


@EACH
def test_the_first_loss_is_near_that_of_guessing(kind: str) -> None:
    """Fresh logits are small: no initialisation starts out sure of itself. Untied and tied."""
    ids = torch.randint(61, (4, 17), generator=torch.Generator().manual_seed(0))
    for tied in (False, True):
        with torch.no_grad():
            logits = build_model(config(kind, tie_embeddings=tied))(ids[:, :-1])
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())
        assert abs(float(loss) - math.log(61)) < 1.0
