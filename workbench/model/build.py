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
    head = Linear(config.d_model, config.vocab_size, bias=False, **where)
    table = head.weight if config.tie_embeddings else torch.empty(config.vocab_size, config.d_model, **where)
    embedding = nn.Embedding(config.vocab_size, config.d_model, _weight=table, _freeze=False)
    model = Transformer(config, embedding, position, blocks, norm() if config.has_final_norm else nn.Identity(), head)
    if init and torch.device(device).type != "meta":
        initialise(model, config.init.make(), config.n_layers, seed)
    return model.eval()


def _block(config: ModelConfig, index: int, norm: partial[nn.Module], position: Position, where: dict[str, Any]) -> Block:
    positional = config.nope_every is None or (index + 1) % config.nope_every != 0
    scoring = Scoring(
        scale=config.head_width**-0.5,
        window=config.sliding_window,
        softcap=config.attention_softcap,
        bias=position.bias if positional else None,
    )
    head_norm = partial(config.norm.make, width=config.head_width, **where) if config.qk_norm else None
    attention = Attention(
        width=config.d_model,
        heads=config.n_heads,
        kv_heads=config.kv_heads,
        head_width=config.head_width,
        scoring=scoring,
        bias=config.attention_bias,
        out_bias=config.attention_out_bias,
        q_norm=head_norm() if head_norm else None,
        k_norm=head_norm() if head_norm else None,
        positional=positional,
        **where,
    )
    mlp = config.mlp.make(width=config.d_model, hidden=config.hidden, bias=config.mlp_bias, **where)
    return Block(attention, mlp, config.residual.make(norm=norm, depth=config.n_layers))
