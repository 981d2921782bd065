"""The one place that turns choices into parts."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import nn

from workbench.core.fields import require_usable
from workbench.model.block import Block
from workbench.model.config import ModelConfig
from workbench.model.init import initialise
from workbench.model.transformer import Transformer
from workbench.numerics.attention import Scoring
from workbench.parts.attention import Attention
from workbench.parts.head import HeadTransform
from workbench.parts.linear import Linear
from workbench.parts.positions import Position


def build_model(
    config: ModelConfig,
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    init: bool = True,
    seed: int = 0,
) -> Transformer:
    """A model of that architecture, in evaluation mode. `init=False` leaves matrices uninitialised, for loaders that
    overwrite all of them; device "meta" allocates nothing. Raises `ConfigError` when `config.problems()` is not empty."""
    require_usable(config)
    where: dict[str, Any] = {"device": device, "dtype": dtype}
    position = config.position.make(
        width=config.d_model, head_width=config.head_width, heads=config.n_heads, max_positions=config.max_positions, **where
    )
    norm = partial(config.norm.make, width=config.d_model, **where)
    blocks = [_block(config, index, norm, position, where) for index in range(config.n_layers)]
    head = Linear(config.d_model, config.vocab_size, bias=config.head_bias, **where)
    table = head.weight if config.tie_embeddings else torch.empty(config.vocab_size, config.d_model, **where)
    model = Transformer(
        config,
        embedding=nn.Embedding(config.vocab_size, config.d_model, _weight=table, _freeze=False),
        position=position,
        blocks=blocks,
        final_norm=norm() if config.has_final_norm else nn.Identity(),
        lm_head=head,
        segment_embedding=_table(config.segment_types, config.d_model, where) if config.segment_types else None,
        embedding_norm=norm() if config.embedding_norm else nn.Identity(),
        head_transform=HeadTransform(config.d_model, norm(), **where) if config.head_transform else nn.Identity(),
    )
    if init and torch.device(device).type != "meta":
        initialise(model, config.init.make(), config.n_layers, seed)
    return model.eval()


def _table(rows: int, width: int, where: dict[str, Any]) -> nn.Embedding:
    """Values undefined until initialised or loaded: drawing them on the meta device would cost a second of imports."""
    return nn.Embedding(rows, width, _weight=torch.empty(rows, width, **where), _freeze=False)


def _block(config: ModelConfig, index: int, norm: partial[nn.Module], position: Position, where: dict[str, Any]) -> Block:
    scoring = Scoring(
        scale=config.score_scale,
        causal=config.causal,
        window=config.window_of(index),
        softcap=config.attention_softcap,
        bias=position.bias if config.positional(index) else None,
    )
    q_norm, k_norm = (_qk_norm(config, heads, where) for heads in (config.n_heads, config.kv_heads))
    attention = Attention(
        width=config.d_model,
        heads=config.n_heads,
        kv_heads=config.kv_heads,
        head_width=config.head_width,
        scoring=scoring,
        bias=config.attention_bias,
        out_bias=config.attention_out_bias,
        q_norm=q_norm,
        k_norm=k_norm,
        norm_whole=config.qk_norm == "full",
        positional=config.positional(index),
        **where,
    )
    mlp = config.mlp.make(width=config.d_model, hidden=config.hidden, bias=config.mlp_bias, **where)
    return Block(attention, mlp, config.residual.make(norm=norm, depth=config.n_layers))


def _qk_norm(config: ModelConfig, heads: int, where: dict[str, Any]) -> nn.Module | None:
    """The norm of queries or keys, over one head or over all of them; None without QK-norm."""
    if config.qk_norm == "off":
        return None
    return config.norm.make(width=config.head_width * (heads if config.qk_norm == "full" else 1), **where)
