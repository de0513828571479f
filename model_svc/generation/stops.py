"""Ends a text before any of some texts, while it comes in pieces."""

from collections.abc import Sequence


class StopScanner:
    """Passes text on, but for what may be the beginning of a text that ends it.

    Attributes:
        hit: Whether one of these texts came; what follows is of no interest.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        """Looks for some texts, none of them empty."""
        self._stops = stops
        self._held = ""
        self.hit = False

    def feed(self, text: str) -> str:
        """Takes a piece, and returns what is certain to be part of the text."""
        if not self._stops:
            return text
        held = self._held + text
        found = [at for stop in self._stops if (at := held.find(stop)) >= 0]
        if found:
            self.hit, self._held = True, ""
            return held[: min(found)]
        kept = max(_overlap(held, stop) for stop in self._stops)
        self._held = held[len(held) - kept :]
        return held[: len(held) - kept]

    def flush(self) -> str:
        """Returns what was held back, at the end."""
        held, self._held = self._held, ""
        return held


def _overlap(text: str, stop: str) -> int:
    """How many characters at the end of a text may begin `stop`, without being all of it."""
    longest = min(len(text), len(stop) - 1)
    return next((size for size in range(longest, 0, -1) if text.endswith(stop[:size])), 0)
