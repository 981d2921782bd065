"""Every registered norm placement keeps the promises of `Residual`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from workbench.caches import KVCache
from workbench.model import ModelConfig, Transformer, build_model
from workbench.parts.residuals import RESIDUALS, Residual

KINDS = (*RESIDUALS.names(), "scaled")
EACH = pytest.mark.parametrize("kind", KINDS)
Built = Callable[..., Transformer]
Described = Callable[[Any, str], None]
Make = Callable[..., ModelConfig]
Usable = Callable[[ModelConfig], Transformer]


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


LATE_KIND = (RESIDUALS, "scaled", ScaledResidual, "x ← x + s·F(N(x))")


@pytest.fixture
def built(small: Make) -> Callable[..., Transformer]:
    return lambda kind, **changes: build_model(small(residual=kind, **changes))


@EACH
def test_is_described(kind: str, described: Described) -> None:
    described(RESIDUALS, kind)


@EACH
def test_a_model_is_built_stored_and_counted_with_it(kind: str, small: Make, usable: Usable) -> None:
    usable(small(residual=kind, n_layers=3))


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
def test_the_model_has_a_final_norm_where_one_is_wanted(kind: str, small: Make, built: Built) -> None:
    wanted = RESIDUALS[kind].make.wants_final_norm  # type: ignore[attr-defined]
    assert small(residual=kind).has_final_norm == wanted
    assert isinstance(built(kind).final_norm, nn.Identity) != wanted
    assert small(residual=kind, final_norm=not wanted).has_final_norm != wanted


@EACH
def test_gradients_reach_every_parameter(kind: str, ids: Tensor, built: Built) -> None:
    model = built(kind)
    model(ids).logsumexp(-1).mean().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 0, name


@EACH
def test_cached_equals_uncached(kind: str, ids: Tensor, built: Built) -> None:
    model = built(kind)
    cache = KVCache.for_model(model, batch=2)
    with torch.no_grad():
        steps = torch.cat([model(ids[:, t : t + 1], cache) for t in range(14)], 1)
        torch.testing.assert_close(steps, model(ids), rtol=1e-4, atol=1e-5)


@EACH
def test_tokens_do_not_see_what_comes_later(kind: str, ids: Tensor, built: Built) -> None:
    model, changed = built(kind), ids.clone()
    changed[:, -1] = (changed[:, -1] + 1) % 61
    with torch.no_grad():
        torch.testing.assert_close(model(changed)[:, :-1], model(ids)[:, :-1], rtol=1e-4, atol=1e-5)


@EACH
def test_half_precision(kind: str, ids: Tensor, built: Built) -> None:
    model = built(kind).to(torch.bfloat16)
    with torch.no_grad():
        assert model(ids).dtype == torch.bfloat16
