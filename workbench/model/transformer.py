"""The transformer."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from workbench.caches.cache import KVCache
from workbench.core.errors import ConfigError
from workbench.model.block import Block
from workbench.model.config import ModelConfig
from workbench.numerics.attention import Frame
from workbench.parts.frozen import Frozen
from workbench.parts.linear import Linear
from workbench.parts.positions.base import Position


class Transformer(nn.Module):
    """Token ids to logits. Holds weights only: caches, samplers and optimizers belong to whoever runs the job.

    `embedding.weight` [V, C]; with tied embeddings `lm_head.weight` is the same parameter (arXiv:1608.05859).
    """

    def __init__(
        self,
        config: ModelConfig,
        embedding: nn.Embedding,
        position: Position,
        blocks: Sequence[Block],
        final_norm: nn.Module,
        lm_head: Linear,
        segment_embedding: nn.Embedding | None = None,
        embedding_norm: nn.Module | None = None,
        head_transform: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.embedding = embedding
        self.segment_embedding = segment_embedding
        self.position = position
        self.embedding_norm = embedding_norm or nn.Identity()
        self.blocks = nn.ModuleList(blocks)
        self.final_norm = final_norm
        self.head_transform = head_transform or nn.Identity()
        self.lm_head = lm_head
        self.tie()

    def tie(self) -> None:
        """Make head and embedding one parameter again where the config says so (moving between devices keeps it so)."""
        if self.config.tie_embeddings:
            self.embedding.weight = self.lm_head.weight

    @property
    def device(self) -> torch.device:
        return self.embedding.device if isinstance(self.embedding, Frozen) else self.embedding.weight.device

    @property
    def dtype(self) -> torch.dtype:
        return self.embedding.dtype if isinstance(self.embedding, Frozen) else self.embedding.weight.dtype

    def forward(self, ids: Tensor, cache: KVCache | None = None, positions: Tensor | None = None, segments: Tensor | None = None) -> Tensor:
        """ids int64 [B, T] -> logits [B, T, V]. See `hidden` for the other arguments."""
        return self.head(self.hidden(ids, cache, positions, segments))

    def hidden(
        self,
        ids: Tensor,
        cache: KVCache | None = None,
        positions: Tensor | None = None,
        segments: Tensor | None = None,
        *,
        recompute: bool = False,
    ) -> Tensor:
        """ids [B, T] -> what the head reads, [B, T, C].

        `cache`: attend to, and append to, what it holds. `positions` [B, T] int64, −1 for padding; None continues after
        the cache. `segments` [B, T]: tokens see only their own segment (packed documents; not with a cache).
        `recompute`: keep no activations inside blocks, compute them again in the backward pass (gradient checkpointing).
        Raises `ConfigError` when the tokens do not fit the context or the cache.
        """
        frame = self._frame(ids, cache, positions, segments)
        x = self._embed(ids, frame)
        frame.rotation = self.position.prepare(frame.positions)
        for index, block in enumerate(self.blocks):
            layer = None if cache is None else cache.layers[index]
            if recompute and self.training:
                x = checkpoint(block, x, frame, self.position, layer, use_reentrant=False)
            else:
                x = block(x, frame, self.position, layer)
        if cache is not None:
            cache.advance(ids.shape[1])
        out: Tensor = self.final_norm(x)
        return out

    def head(self, hidden: Tensor) -> Tensor:
        """[..., C] -> logits [..., V]."""
        logits: Tensor = self.lm_head(self.head_transform(hidden))
        cap = self.config.logit_softcap
        return logits if cap is None else cap * torch.tanh(logits / cap)

    def _embed(self, ids: Tensor, frame: Frame) -> Tensor:
        """What enters the first block, [B, T, C]."""
        x: Tensor = self.embedding(ids)
        if self.config.scale_embeddings:  # rounded to the weights' type first, as in Gemma: √3584 = 59.87 becomes 59.75 in bfloat16
            x = x * torch.tensor(math.sqrt(self.config.d_model), dtype=x.dtype)
        if self.segment_embedding is not None:
            x = x + self.segment_embedding.weight[0]
        out: Tensor = self.embedding_norm(self.position.embed(x, frame.positions))
        return out

    def _frame(self, ids: Tensor, cache: KVCache | None, positions: Tensor | None, segments: Tensor | None) -> Frame:
        batch, tokens = ids.shape
        if cache is not None:
            if not self.config.causal:
                raise ConfigError(
                    "A bidirectional model cannot use a KV cache: every new token changes all the others.", hint="Run it without a cache."
                )
            if segments is not None:
                raise ConfigError("Packed documents cannot be used with a KV cache.", hint="Run them without a cache, or one at a time.")
            if batch != cache.batch:
                raise ConfigError(f"The cache is for {cache.batch} sequences; {batch} were given.", hint="Make a cache of that batch.")
            frame = cache.frame(tokens, positions, ids.device)
        elif positions is None and segments is None:
            frame = Frame(torch.arange(tokens, device=ids.device)[None].expand(batch, -1))
        else:
            if positions is None:
                positions = torch.arange(tokens, device=ids.device)[None].expand(batch, -1)
            frame = Frame(positions, plain=False, key_positions=positions, segments=segments)
        self._check_context(frame)
        return frame

    def _check_context(self, frame: Frame) -> None:
        limit = self.config.max_positions
        if self.position.context_bound:
            newest = frame.end if frame.plain else int(frame.positions.max()) + 1
            if newest > limit:
                raise ConfigError(
                    f"The text has {newest} tokens; this model has positions for {limit}.", hint="Shorten the text or start a new chat."
                )
