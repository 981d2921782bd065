"""How much text fits, what makes room when it is full, and what a cache stands for between two texts."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from workbench.caches import ROLLING, SINKS, CacheConfig, KVCache
from workbench.caches.layout import drop_block
from workbench.core.errors import ConfigError, DataError
from workbench.model import Transformer

UNCACHED = CacheConfig(use_cache=False)


class Room:
    """What happens to a text that grows beyond the context, for one model and one cache, or none.

    Under "rolling" and "sinks" the oldest tokens are dropped, a block at a time, and only when no other token fits: which
    ones are gone follows from the number of tokens alone. "sinks" keeps the first ones (arXiv:2309.17453).

    `moves`: the cache forgets them, what came after them keeps its keys, and the first tokens' keys are turned so that
    positions are without a gap. Keys of positions that cannot be moved (`Position.movable`) would be wrong; then, as
    without a cache, what is left is read again.
    """

    def __init__(self, model: Transformer, cache: KVCache | None, config: CacheConfig = UNCACHED) -> None:
        """`config` says what to do without a cache; one that exists knows it itself."""
        config = config if cache is None else cache.config
        self.model = model
        self.limit = context_limit(model, cache, config.capacity if cache is None else None)
        self.overflow = config.overflow
        self.rolls = config.overflow in (ROLLING, SINKS)
        self.moves = self.rolls and cache is not None and bool(model.position.movable)
        self.first = config.sinks if config.overflow == SINKS else 0
        """Tokens at the beginning that stay."""
        self._lead = config.sinks if config.overflow == ROLLING else 0  # kept exact as long as they last, they go as one
        group = 1 if cache is None else cache.group
        self._block = drop_block(self.limit, group)
        if self.rolls and self.limit < config.sinks + self._block + 1:
            kept = f" and {config.sinks} that stay exact" if config.sinks else ""
            raise ConfigError(
                f"A context of {self.limit} tokens is too short to drop blocks of {self._block}{kept}.",
                hint=f"Use a context of {config.least_capacity(self.limit, group)} or more, or keep fewer first tokens.",
            )

    def dropped(self, tokens: int) -> int:
        """How many of `tokens` tokens are gone once all of them were given to the model."""
        over = tokens - self.limit
        if not self.rolls or over <= 0:
            return 0
        return self._lead + math.ceil(max(1, over - self._lead) / self._block) * self._block

    def rest(self, ids: Sequence[int]) -> list[int]:
        """What is left of a text when what was dropped has to be read again."""
        return [*ids[: self.first], *ids[self.first + self.dropped(len(ids)) :]]

    def drop(self, cache: KVCache) -> None:
        """Let a full cache forget its next block; only where `moves`."""
        count = self._block if cache.offset else self._lead + self._block
        cache.drop(self.first, count, self._turn if self.first else None)

    def _turn(self, layer: int, keys: Tensor, by: int) -> Tensor:
        moved = self.model.blocks[layer].attention.positional  # type: ignore[union-attr]
        return self.model.position.moved(keys, by) if moved else keys


@dataclass
class CacheState:
    """Which text a cache stands for; owned, like the cache, by whoever runs the chat.

    The cache holds the first `cache.length + cache.offset` of `ids`, without the `cache.offset` that were dropped. `key` is
    what the stored keys depend on besides the tokens: the adapters in use and their strengths, for example. When it
    changes, nothing is re-used.
    """

    ids: list[int] = field(default_factory=list)
    key: Hashable = None

    def reusable(self, prompt_ids: Sequence[int], cache: KVCache, key: Hashable, room: Room) -> int:
        """How many leading slots of the cache hold what reading the prompt afresh would put there. The prompt's last token is
        always computed anew. What was dropped counts as read, unless the prompt is too short for it to have been dropped."""
        gone = cache.offset
        if key != self.key or cache.length + gone > len(self.ids):
            return 0
        text = prompt_ids if room.moves else room.rest(prompt_ids)
        longest = max(min(cache.length + gone, len(text) - 1), 0)
        common = next((i for i in range(longest) if self.ids[i] != text[i]), longest)
        if gone and (common <= room.first + gone or gone > room.dropped(common + 1)):
            return 0
        return common - gone

    def settle(self, cache: KVCache) -> None:
        """Forget the tokens that the cache does not stand for."""
        self.ids = self.ids[: cache.length + cache.offset]


def context_limit(model: Transformer, cache: KVCache | None, capacity: int | None = None) -> int:
    """Tokens that can be given to the model in one text. `capacity`: a shorter context that was asked for."""
    limits = (int(model.config.max_positions), capacity, None if cache is None else cache.capacity)
    return min(n for n in limits if n is not None)


def require_causal(model: Transformer) -> None:
    """Raise `ConfigError` for a bidirectional model, which has no next token."""
    if not model.config.causal:
        raise ConfigError(
            "This model reads text in both directions: it fills gaps, but it can neither continue nor score a text.",
            hint="Choose a causal model, or train this one on masked tokens.",
        )


def require_room(tokens: int, room: Room) -> None:
    """Raise `DataError` when a prompt of `tokens` tokens is empty or does not fit."""
    if tokens == 0:
        raise DataError("The prompt is empty.", hint="Write something first.")
    if tokens > room.limit and not room.rolls:
        raise DataError(
            f"The prompt is {tokens} tokens long; the context holds {room.limit}.",
            hint="Start a new chat, shorten the text, or choose another way for when the context is full.",
        )
