"""Every registered norm placement keeps the promises of `Residual`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from workbench.caches import KVCache
from workbench.core.fields import field_problems, from_dict, to_dict
from workbench.model import ModelConfig, Transformer, account, build_model
from workbench.parts.residuals import RESIDUALS, Residual

LATE = "scaled"
KINDS = (*RESIDUALS.names(), LATE)
EACH = pytest.mark.parametrize("kind", KINDS)


class ScaledResidual(Residual):
    """Written from the protocol alone, with a parameter of its own."""

    wants_final_norm = True

    def __init__(self, norm: Any, depth: int) -> None:
        super().__init__()
        self.attention_norm = norm()
        self.mlp_norm = norm()
        self.strength = nn.Parameter(torch.full((2,), depth**-0.5))

    def forward(self, x: Tensor, attention: Any, mlp: Any) -> Tensor:
        x = x + self.strength[0].to(x.dtype) * attention(self.attention_norm(x))
        out: Tensor = x + self.strength[1].to(x.dtype) * mlp(self.mlp_norm(x))
        return out


@pytest.fixture(scope="module", autouse=True)
def _a_kind_registered_late() -> Iterator[None]:
    RESIDUALS.register(LATE, label="Scaled", help="Branches are scaled.", source="this test", equation="x ← x + s·F(N(x))")(ScaledResidual)
    yield
    RESIDUALS.unregister(LATE)


def config(kind: str, **changes: Any) -> ModelConfig:
    sizes: dict[str, Any] = {"vocab_size": 61, "n_layers": 3, "d_model": 16, "n_heads": 2, "max_positions": 24}
    return ModelConfig(**{**sizes, "residual": kind, **changes})


@pytest.fixture
def ids() -> Tensor:
    return torch.randint(61, (2, 9), generator=torch.Generator().manual_seed(1))


def built(kind: str, **changes: Any) -> Transformer:
    return build_model(config(kind, **changes))


@EACH
def test_is_described(kind: str) -> None:
    entry = RESIDUALS[kind]
    assert entry.label
    assert entry.source
    assert entry.equation
    assert entry.help.endswith(".")
    assert field_problems(entry.options()) == []
    assert config(kind).problems() == []
    assert from_dict(ModelConfig, to_dict(config(kind))) == config(kind)


@EACH
def test_each_branch_is_asked_once_and_joins_the_stream(kind: str) -> None:
    asked: list[str] = []

    def branch(name: str) -> Any:
        def run(x: Tensor) -> Tensor:
            asked.append(name)
            return torch.full_like(x, 0.5) * x.roll(1, -1)

        return run

    residual = RESIDUALS.choose(kind).make(norm=lambda: nn.LayerNorm(16), depth=3)
    x = torch.randn(2, 5, 16)
    before = x.clone()
    out = residual(x, branch("attention"), branch("mlp"))
    assert asked == ["attention", "mlp"]
    assert out.shape == x.shape
    assert not torch.allclose(out, x)
    assert torch.equal(x, before), "the stream of the caller was changed in place"


@EACH
def test_norms_are_made_by_the_builder(kind: str) -> None:
    made: list[nn.Module] = []

    def norm() -> nn.Module:
        made.append(nn.Identity())
        return made[-1]

    residual = RESIDUALS.choose(kind).make(norm=norm, depth=3)
    assert made, "a placement without norms"
    assert all(any(m is child for child in residual.children()) for m in made)
    assert all("norm" in name for name, m in residual.named_children() if isinstance(m, nn.Identity))


@EACH
def test_the_model_has_a_final_norm_where_one_is_wanted(kind: str) -> None:
    wanted = RESIDUALS[kind].make.wants_final_norm  # type: ignore[attr-defined]
    assert config(kind).has_final_norm == wanted
    assert isinstance(built(kind).final_norm, nn.Identity) != wanted
    assert config(kind, final_norm=not wanted).has_final_norm != wanted


@EACH
def test_gradients_reach_every_parameter(kind: str, ids: Tensor) -> None:
    model = built(kind)
    model(ids).logsumexp(-1).mean().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 0, name


@EACH
def test_cached_equals_uncached(kind: str, ids: Tensor) -> None:
    model = built(kind)
    cache = KVCache.for_model(model, batch=2)
    with torch.no_grad():
        steps = torch.cat([model(ids[:, t : t + 1], cache) for t in range(9)], 1)
        torch.testing.assert_close(steps, model(ids), rtol=1e-4, atol=1e-5)


@EACH
def test_tokens_do_not_see_what_comes_later(kind: str, ids: Tensor) -> None:
    model, changed = built(kind), ids.clone()
    changed[:, -1] = (changed[:, -1] + 1) % 61
    with torch.no_grad():
        torch.testing.assert_close(model(changed)[:, :-1], model(ids)[:, :-1], rtol=1e-4, atol=1e-5)


@EACH
def test_it_is_accounted(kind: str) -> None:
    found = account(config(kind))
    assert found.parameters == sum(p.numel() for p in built(kind).parameters())
    assert sum(found.by_part.values()) == found.parameters
    assert found.by_tensor == {n: p.numel() for n, p in built(kind).named_parameters()}


@EACH
def test_half_precision(kind: str, ids: Tensor) -> None:
    model = build_model(config(kind), dtype=torch.bfloat16)
    with torch.no_grad():
        assert model(ids).dtype == torch.bfloat16
