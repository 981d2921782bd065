"""Regular expressions from a stranger's file: taken only when matching a layer's name is sure to be quick.

Python's matcher tries every way to split a name among the repeats of a pattern, so a short pattern can run for years. What
is allowed here has no repeat within a repeat and only a few of them in a row, which all patterns in use obey.
"""

from __future__ import annotations

import re
from re import _constants, _parser  # type: ignore[attr-defined]
from typing import Any

LONGEST = 4096
"""Characters in one pattern."""
REPEAT = 32
"""What one open repeat counts: about the length of a layer's name."""
LIMIT = 10_000_000
"""Most ways in which a pattern may try one name, in the coarse count of `_ways`."""

_REPEATS = {getattr(_constants, name) for name in ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT") if hasattr(_constants, name)}
_PLAIN = {getattr(_constants, name) for name in ("LITERAL", "NOT_LITERAL", "ANY", "IN", "AT", "CATEGORY", "RANGE")}


def problem_of(pattern: str) -> str | None:
    """What keeps `pattern` from being used, as the end of a sentence about it; None when it can be."""
    if len(pattern) > LONGEST:
        return f"is {len(pattern)} characters long; at most {LONGEST} are read"
    try:
        ways = _ways(_parser.parse(pattern))
        re.compile(pattern)
    except re.error as error:
        return f"is no regular expression ({error})"
    except (RecursionError, OverflowError):
        return "is nested too deeply or repeats too often"
    except _SlowError as error:
        return str(error)
    return None if ways <= LIMIT else "has too many repeats and could take hours to match"


class _SlowError(Exception):
    pass


def _ways(sequence: Any) -> int:
    """An upper bound for the ways to match a name of `REPEAT` letters with the parsed sequence, one choice after the other."""
    total = 1
    for op, argument in sequence:
        total = min(total * _ways_of(op, argument), LIMIT + 1)
    return total


def _ways_of(op: Any, argument: Any) -> int:
    if op in _PLAIN:
        return 1
    if op is _constants.SUBPATTERN:
        return _ways(argument[-1])
    if op is _constants.BRANCH:
        return _ways_of_branches(argument[1])
    if op in _REPEATS:
        low, high, body = argument
        inner = _ways(body)
        if high > 1 and inner > 1:
            raise _SlowError("holds a repeat or a choice within a repeat and could take years to match")
        return inner + 1 if high == 1 and low == 0 else inner * min(int(high) - int(low) + 1, REPEAT)
    raise _SlowError("uses a look-around or a back-reference, which is not supported")


def _ways_of_branches(branches: Any) -> int:
    """Alternatives that start with different letters exclude each other; of all others each may be tried."""
    ways = [_ways(b) for b in branches]
    starts = [str(b[0][1]) if len(b) and b[0][0] is _constants.LITERAL else None for b in branches]
    apart = None not in starts and len(set(starts)) == len(starts)
    return max(ways) if apart else sum(ways)
