"""Telling what is rare from what is frequent."""

import time
from collections.abc import Callable


class Pace:
    """Says of each event whether events are rare: a token bucket that never makes one wait.

    A burst counts as rare, and what comes no faster than `per_second` on average. While
    events keep coming faster than that, none is rare.
    """

    def __init__(
        self,
        *,
        per_second: float,
        burst: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._per_second = per_second
        self._burst = float(burst)
        self._clock = clock
        self._tokens = float(burst)
        self._counted_at = clock()

    def is_rare(self) -> bool:
        """Count an event; return whether it is one of few."""
        now = self._clock()
        came = (now - self._counted_at) * self._per_second
        self._counted_at = now
        self._tokens = min(self._burst, self._tokens + came)
        is_rare = self._tokens >= 1
        self._tokens = max(self._tokens - 1, -self._burst)
        return is_rare
