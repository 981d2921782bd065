"""From logits to the next token: pure functions, and a `Sampler` that owns the random numbers of one reply.

The functions match transformers' logits processors of the same names (same formulas, same order: repetition penalty,
temperature, top-k, top-p, min-p); excluded tokens become -inf. Shapes: V vocabulary; every function takes [..., V].
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Iterable

import torch
from torch import Tensor

from workbench.core.errors import ModelError
from workbench.generation.config import MAX_SEED, GenerationConfig

_NUCLEUS_GUESS = 1024
"""Tokens looked at before a whole vocabulary is sorted for top-p: sorting 49k logits costs milliseconds, this a fraction of one."""


def penalize_repetition(logits: Tensor, seen: Tensor, penalty: float) -> Tensor:
    """Divide positive and multiply negative logits of seen tokens by `penalty` (arXiv:1909.05858).

    `seen` bool [V] or [..., V]: True for ids in the prompt or the reply so far.
    """
    return torch.where(seen, torch.where(logits < 0, logits * penalty, logits / penalty), logits)


def apply_temperature(logits: Tensor, temperature: float) -> Tensor:
    """Divide by `temperature` (> 0)."""
    return logits / temperature


def keep_top_k(logits: Tensor, k: int) -> Tensor:
    """Exclude everything below the k-th largest logit; ties with it stay. k = 0 or k >= V changes nothing."""
    if k == 0 or k >= logits.shape[-1]:
        return logits
    least = logits.topk(k, dim=-1).values[..., -1:]
    return logits.masked_fill(logits < least, -torch.inf)


def keep_top_p(logits: Tensor, p: float) -> Tensor:
    """Keep the smallest set of likeliest tokens whose probability reaches `p`, at least one (arXiv:1904.09751)."""
    if p >= 1.0:
        return logits
    ordered, order = logits.sort(dim=-1, descending=False)
    excluded = ordered.softmax(-1).cumsum(-1) <= 1 - p
    excluded[..., -1] = False
    return logits.masked_fill(torch.zeros_like(excluded).scatter(-1, order, excluded), -torch.inf)


def keep_min_p(logits: Tensor, min_p: float) -> Tensor:
    """Exclude tokens whose probability is below `min_p` times the largest one (arXiv:2407.01082)."""
    if min_p <= 0.0:
        return logits
    probabilities = logits.softmax(-1)
    excluded = probabilities < min_p * probabilities.amax(-1, keepdim=True)
    return logits.masked_fill(excluded, -torch.inf)


def process(logits: Tensor, seen: Tensor | None, config: GenerationConfig) -> Tensor:
    """All processors of `config` in order, over the whole vocabulary: [..., V] -> [..., V], excluded tokens at -inf.

    The plain twin of what `Sampler` does on a few candidates. Greedy configs get the repetition penalty only.
    """
    if seen is not None and config.repetition_penalty != 1.0:
        logits = penalize_repetition(logits, seen, config.repetition_penalty)
    if config.greedy:
        return logits
    logits = apply_temperature(logits, config.temperature)
    return keep_min_p(keep_top_p(keep_top_k(logits, config.top_k), config.top_p), config.min_p)


class Sampler:
    """Picks the tokens of one reply; owns its random numbers, so equal seeds give equal replies whatever else runs.

    Works on the CPU in float32 whatever the model's device, which makes a seed mean the same everywhere.
    """

    def __init__(self, config: GenerationConfig, seen: Iterable[int] = ()) -> None:
        """`seen`: the prompt's ids, for the repetition penalty."""
        self.config = config
        self.seed = secrets.randbelow(MAX_SEED) if config.seed is None else config.seed
        """The seed in use: the configured one, or the one drawn for this reply."""
        self._generator = torch.Generator("cpu").manual_seed(self.seed)
        self._seen_ids = set(seen) if config.repetition_penalty != 1.0 else None

    @torch.inference_mode()
    def __call__(self, logits: Tensor) -> tuple[int, float]:
        """Logits [V] of one position -> (id, natural log of the probability the model itself gave that id).

        The log-probability is that of the unprocessed logits. Raises `ModelError` when the logits are not finite.
        """
        logits = logits.detach().to("cpu", torch.float32)
        total = float(logits.logsumexp(-1))
        if not math.isfinite(total):
            raise ModelError(
                f"The model's logits are not finite (their log-sum is {total}), so no token can be picked.",
                hint="The weights or the adapter are damaged, or the dtype overflowed; try float32, or another checkpoint.",
            )
        scores = self._penalized(logits)
        token = int(scores.argmax() if self.config.greedy else self._draw(*self.candidates(scores)))
        if self._seen_ids is not None:
            self._seen_ids.add(token)
        return token, float(logits[token]) - total

    def _penalized(self, logits: Tensor) -> Tensor:
        if not self._seen_ids:
            return logits
        ids = torch.tensor([i for i in self._seen_ids if i < logits.shape[-1]])
        values = logits[ids]
        penalty = self.config.repetition_penalty
        return logits.index_copy(0, ids, torch.where(values < 0, values * penalty, values / penalty))

    def candidates(self, scores: Tensor) -> tuple[Tensor, Tensor]:
        """Penalised logits [V] -> (ids [N], probabilities [N]) of the tokens that can be drawn, for a sampling config.

        Equal to `softmax(process(...))` without its zeros, but sorts only what top-k or the nucleus can contain.
        """
        config = self.config
        scores = apply_temperature(scores, config.temperature)
        if 0 < config.top_k < scores.shape[-1]:
            ids = (scores >= scores.topk(config.top_k).values[-1]).nonzero().squeeze(-1)
            values = keep_top_p(scores[ids], config.top_p)
        elif config.top_p < 1.0:
            values, ids = self._nucleus(scores)
        else:
            values, ids = scores, torch.arange(scores.shape[-1])
        values = keep_min_p(values, config.min_p)
        kept = (values > -torch.inf).nonzero().squeeze(-1)
        return ids[kept], values[kept].softmax(-1)

    def _nucleus(self, scores: Tensor) -> tuple[Tensor, Tensor]:
        """Top-p over a whole vocabulary [V] -> (values, ids) that contain the nucleus, the rest of them at -inf."""
        top_p, total = self.config.top_p, scores.logsumexp(-1)
        values, ids = scores.topk(min(_NUCLEUS_GUESS, scores.shape[-1]))
        reached = (values - total).exp().double().cumsum(-1)
        if float(reached[-1]) <= top_p + 1e-3 and len(values) < scores.shape[-1]:
            values, ids = scores.sort(descending=True)
            reached = (values - total).exp().double().cumsum(-1)
        excluded = reached.roll(1) >= top_p  # what the likelier ones reach without this token
        excluded[0] = False
        return values.masked_fill(excluded, -torch.inf), ids

    def _draw(self, ids: Tensor, probabilities: Tensor) -> Tensor:
        """One id by inverting the cumulative distribution: one random number a token, in double precision."""
        bounds = probabilities.double().cumsum(-1)
        total = bounds[-1]
        point = torch.rand((), generator=self._generator, dtype=torch.float64) * total
        below = torch.minimum(point, torch.nextafter(total, torch.zeros_like(total)))
        return ids[torch.searchsorted(bounds, below, right=True)]
