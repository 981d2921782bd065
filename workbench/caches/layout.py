"""When a token leaves full precision, and what everything takes: arithmetic alone, nothing allocated."""

from __future__ import annotations

import math
from dataclasses import dataclass

from workbench.caches.base import Codec

BLOCK = 16
"""Tokens that are encoded together: often enough to keep few of them exact, seldom enough that the calls do not count."""

DROPPED = 32
"""Tokens that are dropped together where there are enough: a multiple of every group that codecs use."""


def drop_block(capacity: int, group: int = 1) -> int:
    """How many tokens a full context drops at a time: about an eighth, in whole groups."""
    unit = math.lcm(DROPPED, group)
    return capacity // 8 // unit * unit or max(group, capacity // 8 // group * group)


@dataclass(frozen=True)
class Layout:
    """One layer: `sinks` exact slots, then encoded ones, then an exact tail of at least `window` tokens.

    How many are encoded follows from the number of tokens alone, however they came. All sizes in bytes are those of keys
    and values together; `side` is what the codecs keep per layer beside the vectors, from the first encoded one on.
    """

    batch: int
    heads: int
    exact_bytes: int
    group: int
    group_bytes: int
    sinks: int
    window: int
    block: int
    first: int
    side: int = 0
    tracked: int = 0

    @staticmethod
    def of(
        keys: Codec, values: Codec, *, batch: int, heads: int, width: int, itemsize: int, sinks: int, window: int, track: bool
    ) -> Layout:
        """The layout of a layer with these codecs. `itemsize`: bytes of one exact value. `track`: two float16 errors per token."""
        group = math.lcm(keys.group, values.group)
        block = math.lcm(BLOCK, group)
        wants = max(keys.wants, values.wants)
        bytes_of = {codec: sum(p.nbytes for p in codec.planes().values()) * (group // codec.group) for codec in (keys, values)}
        return Layout(
            batch=batch,
            heads=heads,
            exact_bytes=2 * width * itemsize,
            group=group,
            group_bytes=bytes_of[keys] + bytes_of[values],
            sinks=sinks,
            window=window,
            block=block,
            first=max(block, math.ceil(wants / block) * block),
            side=keys.side_nbytes + values.side_nbytes,
            tracked=4 if track else 0,
        )

    @property
    def room(self) -> int:
        """Most tokens that the exact tail ever holds."""
        return self.window + self.first

    def coded(self, tokens: int) -> int:
        """How many of `tokens` tokens are encoded once all are stored."""
        free = tokens - self.sinks - self.window
        return 0 if free < self.first else free // self.block * self.block

    def nbytes(self, tokens: int, coded: int | None = None) -> int:
        """Bytes of `tokens` tokens, of which `coded` (None: as many as the rule says) are encoded."""
        coded = self.coded(tokens) if coded is None else coded
        per_head = coded // self.group * self.group_bytes + (tokens - coded) * self.exact_bytes
        return self.batch * (self.heads * per_head + (self.side if coded else 0)) + self.tracked * coded
