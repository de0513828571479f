"""What was invalidated lately, as far as this instance knows."""

from collections import deque
from collections.abc import Callable
from typing import Final

from router_svc.cache.records import Invalidation, Kept

REMEMBERED: Final = 1_000
"""Invalidations, for answers that were begun before; an answer begun before the oldest of
them is not kept."""
CURRENT_SECONDS: Final = 3.0
"""For how long what is known of the record counts as all that there is."""


class Invalidations:
    """The last invalidations, in order.

    Args:
        clock: Monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._last: deque[Invalidation] = deque()
        self._numbers: dict[str, int] = {}
        self._current_until = 0.0
        self.seen = 0
        """Number of the last one that is known."""

    @property
    def mark(self) -> str:
        """The mark of the last one; empty where there is no record."""
        return self._last[-1].mark if self._last else ""

    @property
    def is_current(self) -> bool:
        """Whether the record was looked at a moment ago."""
        return self._clock() < self._current_until

    def now(self) -> float:
        """Returns the time to be given to `caught_up`."""
        return self._clock()

    def caught_up(self, at: float) -> None:
        """Notes that all are known that there were at that time."""
        self._current_until = at + CURRENT_SECONDS

    def add(self, invalidation: Invalidation) -> bool:
        """Takes note of one; returns False for one that is known."""
        if invalidation.number <= self.seen:
            return False
        if len(self._last) == REMEMBERED:
            self._numbers.pop(self._last.popleft().mark, None)
        self._last.append(invalidation)
        self._numbers[invalidation.mark] = invalidation.number
        self.seen = invalidation.number
        return True

    def number_of(self, mark: str) -> int | None:
        """Returns which one has this mark; None for one that is not, or no longer, known."""
        return self._numbers.get(mark) if mark else None

    def removes(self, kept: Kept, *, since: int) -> bool:
        """Returns whether an answer is gone that outlived all up to the number `since`."""
        if since == self.seen:
            return False
        if len(self._last) == REMEMBERED and self._last[0].number > since + 1:
            return True
        return any(each.removes(kept) for each in self._last if each.number > since)
