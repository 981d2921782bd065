"""What a batch teaches: the next token, or tokens that were masked. The model's architecture decides which."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from workbench.core.errors import ConfigError
from workbench.data import IGNORED, Batch
from workbench.model import ModelConfig
from workbench.tokenizers import Tokenizer, mask_token_id

SELECTED, MASKED, RANDOM = 0.15, 0.8, 0.1
"""Share of tokens to be predicted; of these, shares that are replaced by the mask token and by a random one (arXiv:1810.04805)."""


@dataclass(frozen=True)
class Task:
    """What the model reads and what it shall predict, [B, T] int64 each: `targets[b, t]` is predicted by the hidden state at
    t, IGNORED where nothing is. `positions` −1 is padding; `segments` as in `Batch`. `count` targets."""

    ids: Tensor
    positions: Tensor
    targets: Tensor
    count: int
    segments: Tensor | None = None


class Objective(ABC):
    """Turns a batch into a task. `lookahead`: tokens of a sequence, at its end, that are targets only: what is cut into
    windows of T inputs needs T + lookahead tokens."""

    lookahead: ClassVar[int] = 0
    causal: ClassVar[bool] = True

    @abstractmethod
    def task(self, batch: Batch, noise: int) -> Task:
        """`noise` seeds whatever is drawn; the same batch and noise give the same task."""


class NextToken(Objective):
    """Position t predicts the token at t + 1; a sequence's last token is read by nobody, so it is no input."""

    lookahead = 1

    def task(self, batch: Batch, noise: int) -> Task:
        end = max(1, batch.ids.shape[1] - 1)
        targets = F.pad(batch.labels[:, 1:], (0, max(0, 2 - batch.ids.shape[1])), value=IGNORED)
        segments = None if batch.segments is None else batch.segments[:, :end]
        return Task(batch.ids[:, :end], batch.positions[:, :end], targets, batch.targets, segments)


class MaskedToken(Objective):
    """15 % of the tokens are to be predicted where they stand: 80 % of them are masked, 10 % become another token, 10 % stay.

    `mask` is the mask token's id, `vocabulary` the number of ids; those in `special` are neither chosen nor drawn.
    """

    causal = False

    def __init__(self, mask: int, vocabulary: int, special: Sequence[int] = ()) -> None:
        self.mask = mask
        kept = torch.ones(vocabulary, dtype=torch.bool)
        kept[[mask, *special]] = False
        self._ordinary = kept
        self._drawn = kept.nonzero().flatten()

    def task(self, batch: Batch, noise: int) -> Task:
        draw = torch.Generator().manual_seed(noise)
        may = self._ordinary[batch.ids] & (batch.positions >= 0)
        chance, fate = (torch.rand(batch.ids.shape, generator=draw) for _ in range(2))
        chosen = may & (chance < SELECTED)
        if not chosen.any():  # a tiny batch: the likeliest one, so that every update teaches something
            chosen = may & (chance == chance.masked_fill(~may, 2.0).min())
        others = self._drawn[torch.randint(len(self._drawn), batch.ids.shape, generator=draw)]
        ids = batch.ids.masked_fill(chosen & (fate < MASKED), self.mask)
        ids = torch.where(chosen & (fate >= MASKED) & (fate < MASKED + RANDOM), others, ids)
        targets = batch.ids.masked_fill(~chosen, IGNORED)
        return Task(ids, batch.positions, targets, int(chosen.sum()), batch.segments)


def objective_for(config: ModelConfig, tokenizer: Tokenizer) -> Objective:
    """What a model of this architecture learns. Raises `ConfigError` when it needs a mask token and the tokenizer has none."""
    if config.causal:
        return NextToken()
    mask = mask_token_id(tokenizer)
    if mask is None:
        raise ConfigError(
            f"A bidirectional model learns to fill in masked tokens, and the tokenizer {tokenizer.name!r} has no mask token.",
            hint="Use bytes, or a BPE learnt from the data; or make the model causal.",
        )
    return MaskedToken(mask, tokenizer.vocab_size, tuple(tokenizer.special.values()))
