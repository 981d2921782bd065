"""The options that single families brought along: each does what its source says, and nonsense is refused at its field."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from workbench.caches import KVCache
from workbench.core.errors import ConfigError
from workbench.model import ModelConfig, Transformer, account

Tiny = Callable[..., Transformer]


@torch.no_grad()
def same_weights(model: Transformer, other: Transformer) -> None:
    other.load_state_dict(model.state_dict(), strict=False)


@torch.no_grad()
def test_bidirectional_tokens_see_what_comes_after(tiny: Tiny, ids: Tensor) -> None:
    changed = ids.clone()
    changed[:, -1] = (ids[:, -1] + 1) % 61
    for causal in (True, False):
        model = tiny(causal=causal)
        assert torch.equal(model(ids)[:, :-1], model(changed)[:, :-1]) is causal


def test_a_bidirectional_model_has_no_cache(tiny: Tiny, ids: Tensor) -> None:
    model = tiny(causal=False)
    with pytest.raises(ConfigError, match="bidirectional model cannot use a KV cache"):
        model(ids, KVCache.for_model(model, batch=2))


@torch.no_grad()
def test_full_attention_every_second_block(tiny: Tiny, ids: Tensor) -> None:
    model = tiny(n_layers=4, sliding_window=3, full_attention_every=2)
    assert [b.attention.scoring.window for b in model.blocks] == [3, None, 3, None]  # type: ignore[union-attr]
    c = model.config
    assert account(c).flops_per_token(20) - account(c).flops_per_token(0) == 4 * c.n_heads * c.head_width * (3 + 20 + 3 + 20)


@torch.no_grad()
def test_soft_capped_logits_are_bounded_and_keep_their_order(tiny: Tiny, ids: Tensor) -> None:
    plain, capped = tiny(), tiny(logit_softcap=2.0)
    torch.testing.assert_close(capped(ids), 2 * torch.tanh(plain(ids) / 2))


@torch.no_grad()
def test_scaled_embeddings(tiny: Tiny, ids: Tensor) -> None:
    scaled, plain = tiny(scale_embeddings=True, tie_embeddings=False), tiny(tie_embeddings=False)
    plain.embedding.weight *= math.sqrt(16)
    torch.testing.assert_close(scaled(ids), plain(ids))


@torch.no_grad()
def test_score_scale(tiny: Tiny, ids: Tensor) -> None:
    """Doubling the scale is doubling the queries."""
    scaled, plain = tiny(attention_scale=1.0, position="none"), tiny(position="none")
    for block in plain.blocks:
        block.attention.q_proj.weight *= 2.0  # type: ignore[union-attr,operator]  # head width 4: the default scale is 1/2
    torch.testing.assert_close(scaled(ids), plain(ids), rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_head_transform_and_bias(tiny: Tiny, ids: Tensor) -> None:
    model = tiny(head_transform=True, head_bias=True, norm="layernorm")
    hidden = model.hidden(ids)
    state = model.state_dict()
    dense = F.gelu(F.linear(hidden, state["head_transform.dense.weight"], state["head_transform.dense.bias"]))
    normed = F.layer_norm(dense, (16,), state["head_transform.norm.weight"], state["head_transform.norm.bias"])
    torch.testing.assert_close(model(ids), F.linear(normed, state["lm_head.weight"], state["lm_head.bias"]))


@torch.no_grad()
def test_embedding_norm_and_segments(tiny: Tiny, ids: Tensor) -> None:
    """With one block whose branches are silent, the model is the head over the normalised sum of embeddings."""
    model = tiny(n_layers=1, embedding_norm=True, segment_types=2, position="learned", norm="layernorm", residual="pre")
    for name, parameter in model.named_parameters():
        if name.endswith(("o_proj.weight", "down_proj.weight")):
            parameter.zero_()
    state = model.state_dict()
    summed = state["embedding.weight"][ids] + state["position.weight"][:13] + state["segment_embedding.weight"][0]
    x = F.layer_norm(summed, (16,), state["embedding_norm.weight"], state["embedding_norm.bias"])
    torch.testing.assert_close(model(ids), model.head(model.final_norm(x)), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_qk_norm_over_all_heads_is_not_per_head(tiny: Tiny, ids: Tensor) -> None:
    full = tiny(qk_norm="full", n_kv_heads=2)
    attention = full.blocks[0].attention
    assert attention.q_norm.weight.shape == (16,)  # type: ignore[union-attr]
    assert attention.k_norm.weight.shape == (8,)  # type: ignore[union-attr]
    # One head louder than the others stays louder: only the sum over all heads is brought to one size.
    x = torch.randn(1, 1, 16)
    attention.q_proj.weight[:4] *= 10  # type: ignore[union-attr,index]
    q = attention.q_norm(attention.q_proj(x)) / attention.q_norm.weight  # type: ignore[union-attr,operator]
    assert q.square().mean() == pytest.approx(1, rel=1e-3)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"full_attention_every": 2}, "full_attention_every"),
        ({"nope_every": 2, "position": "learned"}, "nope_every"),
        ({"scale_embeddings": True, "position": "sinusoidal"}, "scale_embeddings"),
        ({"qk_norm": "head", "norm": "none"}, "qk_norm"),
        ({"qk_norm": "sometimes"}, "qk_norm"),
        ({"segment_types": 0}, "segment_types"),
    ],
)
def test_nonsense_is_refused_at_its_field(changes: dict[str, Any], field: str) -> None:
    problems = ModelConfig(**changes).problems()
    assert [p.field for p in problems] == [field]
    assert problems[0].fix
