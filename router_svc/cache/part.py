"""A part of the cache that may be away."""

import logging
from collections.abc import Callable

_logger = logging.getLogger(__name__)

# After a failure it is left alone for so long: whoever is away or overloaded is not waited
# for by each request.
REST_SECONDS = 1.0


class Part:
    """Remembers whether a part answers.

    Args:
        name: What it is called in metrics and in the log.
        clock: Monotonic seconds.
    """

    def __init__(self, name: str, clock: Callable[[], float]) -> None:
        self.name = name
        self.why = ""
        """Why it cannot be used; empty when it can, as far as is known."""
        self._clock = clock
        self._rests_until = 0.0

    @property
    def rests(self) -> bool:
        """Whether it is not to be asked now."""
        return bool(self.why) and self._clock() < self._rests_until

    def answered(self) -> None:
        """Notes that it is there."""
        if self.why:
            _logger.info("a part of the cache is back", extra={"part": self.name})
        self.why = ""

    def failed(self, why: str) -> None:
        """Notes that it is not; told once, not for each request of an outage."""
        if not self.why:
            _logger.warning(
                "a part of the cache cannot be used", extra={"part": self.name, "why": why}
            )
        self.why = why or "it does not answer in time"
        self._rests_until = self._clock() + REST_SECONDS
