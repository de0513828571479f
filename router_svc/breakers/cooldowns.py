"""Leaves a model alone for a while after it failed.

Deliberately small: it lives in one process, forgets at restart, and lets all calls
through when a rest is over rather than one probe. A breaker shared by the service's
instances is a separate matter.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from router_svc.generate.ports import ProviderFailure

# One failure is chance; this many in a row, with no success between, are not.
FAILURES_BEFORE_REST = 3
FIRST_REST = timedelta(seconds=5)
# Also the longest that a provider's own Retry-After is followed: a model must not be
# lost for hours because of one answer.
LONGEST_REST = timedelta(minutes=2)


@dataclass(slots=True)
class _Record:
    failures: int = 0
    rests_until: float = 0.0
    cause: ProviderFailure | None = None


class Cooldowns:
    """Which models are resting, until when, and why.

    Args:
        clock: Monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._records: dict[str, _Record] = {}

    def failed(self, model: str, failure: ProviderFailure) -> None:
        """Notes a failure; a provider that named a time is left alone that long."""
        record = self._records.setdefault(model, _Record())
        record.failures += 1
        record.cause = failure
        rest = failure.retry_after or timedelta(0)
        doublings = record.failures - FAILURES_BEFORE_REST
        if doublings >= 0:
            # The exponent is bounded, so that a long outage does not overflow.
            rest = max(rest, FIRST_REST * 2 ** min(doublings, 10))
        until = self._clock() + min(rest, LONGEST_REST).total_seconds()
        record.rests_until = max(record.rests_until, until)

    def succeeded(self, model: str) -> None:
        """Notes a success: the model is well again."""
        self._records.pop(model, None)

    def check(self, model: str) -> None:
        """Returns when `model` may be tried.

        Raises:
            ProviderFailure: It rests. The kind is that of the failure that caused the
                rest, so that a bad key does not look like an outage meanwhile.
        """
        record = self._records.get(model)
        left = 0.0 if record is None else record.rests_until - self._clock()
        if record is None or record.cause is None or left <= 0:
            return
        raise ProviderFailure(
            record.cause.kind,
            f"left to rest for another {math.ceil(left)} s after: {record.cause}",
            status=record.cause.status,
            retry_after=timedelta(seconds=left),
        )

    def resting(self) -> frozenset[str]:
        """Returns the names of the models that rest now."""
        now = self._clock()
        return frozenset(name for name, each in self._records.items() if each.rests_until > now)
