"""How often something may be done: at once when it is rare, evenly when it is not."""

import time
from collections.abc import Callable


class Pace:
    """Lets a burst of turns pass at once, and beyond it so many a second.

    A token bucket: a turn takes a token, and tokens come back at an even rate.
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
        self._is_held = False

    @property
    def is_held(self) -> bool:
        """Whether the last turn had to wait."""
        return self._is_held

    def take(self) -> float:
        """Take a turn; return how many seconds it has to wait, 0 for none."""
        now = self._clock()
        came = (now - self._counted_at) * self._per_second
        self._tokens = min(self._burst, self._tokens + came) - 1
        self._counted_at = now
        self._is_held = self._tokens < 0
        return -self._tokens / self._per_second if self._is_held else 0.0
