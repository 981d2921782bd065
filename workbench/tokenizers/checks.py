"""Is a BPE vocabulary safe for an engine that knows only token ranks (tiktoken), not merges?

Such an engine joins any two neighbours whose concatenation is a token, lowest rank first. That equals merging by rules
exactly when (a) ids rise with the merges that create them, (b) no two merges create the same token, and (c) every token
of several bytes is rebuilt from its bytes by the rules alone: merging inside a span does not depend on its surroundings,
so a pair that is no rule, yet spells a token, can then never arise. (d) Bytes without a token must be supplied.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from workbench.core.errors import ModelError
from workbench.tokenizers.spec import LETTER_OF_BYTE, BpeSpec


@dataclass(frozen=True)
class Findings:
    """The outcome: `out_of_order` and `duplicates` name a token (or are ""); `unreachable` are ids of tokens that no
    sequence of merges gives; `missing_bytes` have no token."""

    out_of_order: str
    duplicates: str
    unreachable: tuple[int, ...]
    missing_bytes: tuple[int, ...]

    @property
    def rank_order_holds(self) -> bool:
        """(a) and (b)."""
        return not self.out_of_order and not self.duplicates


def examine(spec: BpeSpec) -> Findings:
    """Run the checks; `ModelError` when a merge makes a token that does not exist. About 0.3 s for 49,000 tokens."""
    ids = {token: id for id, token in reversed(list(enumerate(spec.tokens))) if token}
    ranks: dict[tuple[str, str], int] = {}
    made: set[str] = set()
    out_of_order = duplicates = ""
    last = -1
    for rank, merge in enumerate(spec.merges):
        left, _, right = merge.partition(" ")
        result = left + right
        id = ids.get(result)
        if id is None or left not in ids or right not in ids:
            raise ModelError(
                f"The tokenizer's merge {rank} ({merge!r}) needs a token that is not in its vocabulary.",
                hint="The tokenizer is damaged; download the model again, or give a folder with its tokenizer.json.",
            )
        ranks.setdefault((left, right), rank)
        if result in made:
            duplicates = duplicates or result
            continue
        made.add(result)
        if id < last:
            out_of_order = out_of_order or result
        last = id
    unreachable = tuple(id for id, token in enumerate(spec.tokens) if len(token) > 1 and len(merge_all(token, ranks)) > 1)
    missing = tuple(byte for byte, letter in LETTER_OF_BYTE.items() if letter not in ids)
    return Findings(out_of_order, duplicates, unreachable, missing)


def merge_all(letters: Sequence[str], ranks: dict[tuple[str, str], int]) -> list[str]:
    """What the rules make of one piece: the lowest-ranked adjacent pair first, leftmost of equals, until none is left."""
    parts = list(letters)
    find = ranks.get
    never = len(ranks) + 1
    while len(parts) > 1:
        pairs = [find(pair, never) for pair in pairwise(parts)]
        best = min(pairs)
        if best == never:
            break
        at = pairs.index(best)
        parts[at : at + 2] = [parts[at] + parts[at + 1]]
    return parts
