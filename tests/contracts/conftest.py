"""What the contracts of the architecture's axes share: a kind that is registered late, small models, and the promises that
every kind of every axis keeps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from workbench.core.fields import field_problems, from_dict, to_dict
from workbench.core.registry import Registry
from workbench.model import ModelConfig, Transformer, account, build_model

VOCABULARY = 61


@pytest.fixture(scope="module", autouse=True)
def _a_kind_registered_late(request: pytest.FixtureRequest) -> Iterator[None]:
    """A module's `LATE_KIND` (registry, name, make, equation) is registered while its tests run: it was written from the
    registry's docstring alone, and keeps every promise like the kinds of the engine."""
    late: tuple[Registry[Any], str, Callable[..., Any], str] | None = getattr(request.module, "LATE_KIND", None)
    if late is None:
        yield
        return
    registry, name, make, equation = late
    told = {"label": name.capitalize(), "help": "Is registered late.", "source": "this test", "used_by": "this test"}
    registry.register(name, equation=equation, **told)(make)
    yield
    registry.unregister(name)


def small_config(**changes: Any) -> ModelConfig:
    sizes: dict[str, Any] = {"vocab_size": VOCABULARY, "n_layers": 2, "d_model": 32, "n_heads": 4, "n_kv_heads": 2, "max_positions": 24}
    return ModelConfig(**{**sizes, **changes})


@pytest.fixture
def small() -> Callable[..., ModelConfig]:
    """Makes small architectures."""
    return small_config


@pytest.fixture
def ids() -> Tensor:
    return torch.randint(VOCABULARY, (2, 14), generator=torch.Generator().manual_seed(1))


@pytest.fixture
def described() -> Callable[[Registry[Any], str], None]:
    """Checks what a kind says about itself."""

    def check(registry: Registry[Any], kind: str) -> None:
        entry = registry[kind]
        assert entry.label
        assert entry.source
        assert entry.equation
        assert entry.used_by
        assert entry.help.endswith(".")
        assert field_problems(entry.options()) == []

    return check


@pytest.fixture
def usable() -> Callable[[ModelConfig], Transformer]:
    """Checks that an architecture can be written down, built, run and priced; gives the model."""

    def check(config: ModelConfig) -> Transformer:
        assert config.problems() == []
        assert from_dict(ModelConfig, to_dict(config)) == config
        model = build_model(config)
        assert model(torch.arange(6)[None]).isfinite().all()
        found = account(config)
        assert found.by_tensor == {n: p.numel() for n, p in model.named_parameters()}
        assert sum(found.by_part.values()) == found.parameters
        assert build_model(config, device="meta")(torch.zeros(1, 6, dtype=torch.int64, device="meta")).shape[:2] == (1, 6)
        return model

    return check
