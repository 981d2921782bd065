"""The attention module: joined and separate projections, grouped heads, QK-norm, layers without position."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from workbench.caches import LayerShape
from workbench.caches.exact import ExactLayerCache
from workbench.numerics.attention import Frame, Scoring
from workbench.parts.attention import Attention
from workbench.parts.norms import NORMS
from workbench.parts.positions import POSITIONS

C, D = 16, 8
POSITION = POSITIONS.choose("rope").make(width=C, head_width=D, heads=4, max_positions=32)


def make(heads: int = 4, groups: int = 2, qk_norm: bool = False, **options: Any) -> Attention:
    norms: list[nn.Module | None] = [NORMS.choose("rmsnorm").make(width=D) if qk_norm else None for _ in range(2)]
    attention = Attention(C, heads, groups, D, Scoring(scale=D**-0.5), q_norm=norms[0], k_norm=norms[1], **options)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in attention.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.4)
    return attention


def frame(tokens: int = 5, batch: int = 2, start: int = 0) -> Frame:
    made = Frame(torch.arange(start, start + tokens)[None].expand(batch, -1), start)
    made.rotation = POSITION.prepare(made.positions)
    return made


def by_hand(attention: Attention, x: Tensor) -> Tensor:
    """Every step in float64 with named heads."""
    heads, groups = attention.q_proj.out_features // D, attention.kv_heads
    batch, tokens, _ = x.shape

    def project(linear: Any, count: int) -> Tensor:
        y = x.double() @ linear.weight.double().T
        y = y if linear.bias is None else y + linear.bias.double()
        return y.view(batch, tokens, count, D).transpose(1, 2)

    q, k, v = project(attention.q_proj, heads), project(attention.k_proj, groups), project(attention.v_proj, groups)
    if attention.q_norm is not None:
        q, k = (
            t / (t.square().mean(-1, keepdim=True) + 1e-5).sqrt() * n.weight.double()  # type: ignore[operator, union-attr]
            for t, n in ((q, attention.q_norm), (k, attention.k_norm))
        )
    if attention.positional:
        angles = torch.arange(tokens)[:, None] * 10000.0 ** (-torch.arange(0, D, 2, dtype=torch.float64) / D)
        cos, sin = (torch.cat((a, a), -1) for a in (angles.cos(), angles.sin()))
        q, k = (t * cos + torch.cat((-t[..., D // 2 :], t[..., : D // 2]), -1) * sin for t in (q, k))
    k, v = (t.repeat_interleave(heads // groups, 1) for t in (k, v))
    scores = (q @ k.mT * D**-0.5).masked_fill(~torch.ones(tokens, tokens, dtype=torch.bool).tril(), -torch.inf)
    mixed = (scores.softmax(-1) @ v).transpose(1, 2).reshape(batch, tokens, -1) @ attention.o_proj.weight.double().T
    return mixed if attention.o_proj.bias is None else mixed + attention.o_proj.bias.double()


OPTIONS = [
    {}, {"heads": 4, "groups": 4}, {"heads": 6, "groups": 2}, {"heads": 4, "groups": 1}, {"bias": True, "out_bias": True},
    {"qk_norm": True}, {"positional": False}, {"qk_norm": True, "positional": False, "bias": True},
]  # fmt: skip


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_equals_the_steps_by_hand(options: dict[str, Any], grad: bool) -> None:
    attention = make(**options)
    x = torch.randn(2, 5, C, generator=torch.Generator().manual_seed(1))
    with torch.set_grad_enabled(grad):
        out = attention(x, frame(), POSITION)
    torch.testing.assert_close(out.double(), by_hand(attention, x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_token_by_token_through_a_layer_cache_is_the_same(options: dict[str, Any]) -> None:
    attention = make(**options)
    x = torch.randn(2, 5, C, generator=torch.Generator().manual_seed(1))
    cache = ExactLayerCache(LayerShape(0, 1, 2, attention.kv_heads, D, 8, torch.float32, torch.device("cpu")))
    with torch.no_grad():
        steps = [attention(x[:, t : t + 1], frame(1, 2, t), POSITION, cache) for t in range(5)]
        torch.testing.assert_close(torch.cat(steps, 1), attention(x, frame(), POSITION), rtol=1e-4, atol=1e-5)


def test_half_precision_runs_joined() -> None:
    attention = make().to(torch.bfloat16)
    with torch.no_grad():
        out = attention(torch.randn(2, 5, C).bfloat16(), frame(), POSITION)
    assert out.dtype == torch.bfloat16
