"""Stop strings in streamed text: what may still become one is held back, and a found one is cut off."""

from __future__ import annotations

from collections.abc import Sequence


class StopStrings:
    """Feeds text through in pieces of any size. The result does not depend on how the text was cut into pieces.

    The reply ends where the first stop string is complete and is cut where it began.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        """`stops`: non-empty texts."""
        self._stops = tuple(stops)
        self._held = ""
        self.found: str | None = None
        """The stop string that ended the text."""

    def push(self, text: str) -> str:
        """The text that can be shown now; "" after a stop string was found."""
        if self.found is not None:
            return ""
        self._held += text
        hits = [(at + len(s), at, s) for s in self._stops if (at := self._held.find(s)) >= 0]
        if hits:
            _, at, self.found = min(hits)
            shown, self._held = self._held[:at], ""
            return shown
        keep = self._possible_start()
        shown, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        return shown

    def flush(self) -> str:
        """What was held back, when the text ended otherwise."""
        held, self._held = self._held, ""
        return held

    def _possible_start(self) -> int:
        """Length of the longest end of the held text with which a stop string begins."""
        longest = max((len(s) for s in self._stops), default=1) - 1
        for length in range(min(longest, len(self._held)), 0, -1):
            end = self._held[-length:]
            if any(s.startswith(end) for s in self._stops):
                return length
        return 0
