"""What people may do with breakers: look, open, reset."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from router_svc.breakers.board import Breakers
from router_svc.breakers.breaker import Breaker
from router_svc.breakers.records import BreakerKey, BreakerState, Cause, Opening
from router_svc.generate.failures import FailureKind
from stepwire.errors import Reason, StepwireError

BY_HAND = "opened by hand"


@dataclass(frozen=True, slots=True)
class BreakerView:
    """A breaker as people see it; `open_until` is by the wall clock."""

    name: str
    state: BreakerState
    opening: Opening | None
    open_until: datetime | None
    failures: int


class BreakerOperations:
    """See `breaker_service.proto`.

    Args:
        breakers: The breakers.
        clock: Monotonic seconds, as the breakers use it.
    """

    def __init__(self, breakers: Breakers, clock: Callable[[], float]) -> None:
        self._breakers = breakers
        self._clock = clock

    def list(self, *, open_only: bool) -> Sequence[BreakerView]:
        """Returns the breakers, by name."""
        return [
            self._view(each)
            for each in self._breakers.all()
            if each.opening is not None or not open_only
        ]

    def open(self, name: str, *, message: str, duration: timedelta | None) -> BreakerView:
        """Opens a breaker, until it is reset or `duration` is over.

        Raises:
            StepwireError: BREAKER_NOT_FOUND.
        """
        breaker = self._find(name)
        until = None if duration is None else self._clock() + duration.total_seconds()
        cause = Cause(FailureKind.SERVER, message or BY_HAND)
        self._breakers.put(breaker, Opening(until, cause, forced=True))
        return self._view(breaker)

    def reset(self, name: str) -> BreakerView:
        """Closes a breaker.

        Raises:
            StepwireError: BREAKER_NOT_FOUND.
        """
        breaker = self._find(name)
        self._breakers.put(breaker, None)
        return self._view(breaker)

    def _find(self, name: str) -> Breaker:
        key = BreakerKey.parse(name)
        breaker = None if key is None else self._breakers.find(key)
        if breaker is None:
            raise StepwireError(
                Reason.BREAKER_NOT_FOUND,
                f"there is no breaker called {name!r}",
                metadata={"breaker": name},
            )
        return breaker

    def _view(self, breaker: Breaker) -> BreakerView:
        now = self._clock()
        rest = breaker.rest(now)
        opened = breaker.opening is not None
        until = datetime.now(UTC) + rest if opened and rest is not None else None
        return BreakerView(
            str(breaker.key), breaker.state(now), breaker.opening, until, breaker.failures
        )
