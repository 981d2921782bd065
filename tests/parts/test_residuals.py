"""Norm placements: the equations, with branches and norms that can be followed by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from workbench.parts.residuals import RESIDUALS
from workbench.parts.residuals.deepnorm import alpha, beta

Step = Callable[[Tensor], Tensor]


class Numbered(nn.Module):
    """A stand-in for a norm that is not linear and differs from its siblings: N_i(x) = sin(x + i)."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number

    def forward(self, x: Tensor) -> Tensor:
        return torch.sin(x + self.number)


def make(kind: str, depth: int = 6, **options: Any) -> tuple[Any, list[Numbered]]:
    norms: list[Numbered] = []

    def norm() -> Numbered:
        norms.append(Numbered(len(norms) + 1))
        return norms[-1]

    return RESIDUALS.choose(kind, options).make(norm=norm, depth=depth), norms


def attention(x: Tensor) -> Tensor:
    return 2 * x + 1


def mlp(x: Tensor) -> Tensor:
    return x * x - 3


def n(number: int) -> Step:
    return lambda x: torch.sin(x + number)


def post(x: Tensor) -> Tensor:
    x = n(1)(x + attention(x))
    return n(2)(x + mlp(x))


def pre(x: Tensor) -> Tensor:
    x = x + attention(n(1)(x))
    return x + mlp(n(2)(x))


def deepnorm(x: Tensor) -> Tensor:
    a = (2 * 6) ** 0.25
    x = n(1)(a * x + attention(x))
    return n(2)(a * x + mlp(x))


def double(x: Tensor) -> Tensor:
    x = x + n(2)(attention(n(1)(x)))
    return x + n(4)(mlp(n(3)(x)))


def reordered(x: Tensor) -> Tensor:
    x = x + n(1)(attention(x))
    return x + n(2)(mlp(x))


def two_norms(x: Tensor) -> Tensor:
    return x + attention(n(1)(x)) + mlp(n(2)(x))


def shared_norm(x: Tensor) -> Tensor:
    return x + attention(n(1)(x)) + mlp(n(1)(x))


EQUATIONS: list[tuple[str, dict[str, bool], Step, int]] = [
    ("post", {}, post, 2), ("pre", {}, pre, 2), ("deepnorm", {}, deepnorm, 2), ("double", {}, double, 4), ("reordered", {}, reordered, 2),
    ("parallel", {"shared_norm": False}, two_norms, 2), ("parallel", {"shared_norm": True}, shared_norm, 1),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "options", "equation", "count"), EQUATIONS)
def test_equals_its_equation(kind: str, options: dict[str, bool], equation: Step, count: int) -> None:
    residual, norms = make(kind, **options)
    assert len(norms) == count
    x = torch.linspace(-2, 2, 24).view(2, 3, 4)
    torch.testing.assert_close(residual(x, attention, mlp), equation(x), rtol=1e-6, atol=1e-6)


def test_every_placement_has_its_equation_here() -> None:
    assert {kind for kind, *_ in EQUATIONS} == set(RESIDUALS.names())


@pytest.mark.parametrize(
    ("kind", "wants"), [("post", False), ("deepnorm", False), ("pre", True), ("double", True), ("reordered", True), ("parallel", True)]
)
def test_a_final_norm_is_wanted_where_the_stream_is_left_raw(kind: str, wants: bool) -> None:
    assert make(kind)[0].wants_final_norm is wants


def test_deepnorm_constants() -> None:
    """arXiv:2203.00555, table 2, decoder; facts §4.3 for N = 12."""
    assert (alpha(12), beta(12)) == (pytest.approx(2.2134, abs=1e-4), pytest.approx(0.3195, abs=1e-4))
    assert make("deepnorm", depth=12)[0].alpha == alpha(12)
    assert alpha(8) * beta(8) == pytest.approx(0.25**0.25)


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("pre", {"attention_norm", "mlp_norm"}), ("post", {"attention_norm", "mlp_norm"}), ("deepnorm", {"attention_norm", "mlp_norm"}),
        ("double", {"attention_norm", "attention_out_norm", "mlp_norm", "mlp_out_norm"}),
        ("reordered", {"attention_out_norm", "mlp_out_norm"}), ("parallel", {"attention_norm", "mlp_norm"}),
    ],
)  # fmt: skip
def test_norms_have_the_names_checkpoints_use(kind: str, names: set[str]) -> None:
    assert {name for name, _ in make(kind)[0].named_children()} == names
