"""One breaker: a pure state machine that is told the time."""

from collections import deque
from collections.abc import Callable
from datetime import timedelta

from router_svc.breakers.records import (
    BreakerKey,
    BreakerRules,
    BreakerState,
    Cause,
    Opening,
    Scope,
)
from router_svc.generate.failures import FailureKind, ProviderFailure

# Failures that say something about what a breaker of this scope stands before.
COUNTED = {
    Scope.PROVIDER: frozenset({FailureKind.NETWORK}),
    Scope.KEY: frozenset({FailureKind.NO_CREDIT, FailureKind.MISCONFIGURED}),
    Scope.MODEL: frozenset(
        {
            FailureKind.RATE_LIMITED,
            FailureKind.SERVER,
            FailureKind.TIMEOUT,
            FailureKind.NONSENSE,
            FailureKind.MISCONFIGURED,
        }
    ),
}
# Failures of calls that did not get as far as that: they say nothing of it. A bad key
# comes before the model, too; see `_is_reached`.
_BEFORE = {
    Scope.PROVIDER: frozenset({FailureKind.TIMEOUT}),
    Scope.KEY: frozenset({FailureKind.NETWORK, FailureKind.TIMEOUT}),
    Scope.MODEL: frozenset({FailureKind.NETWORK, FailureKind.NO_CREDIT, FailureKind.MISCONFIGURED}),
}
_UNKNOWN_MODEL = "404"
# The exponent of doubling is bounded, so that a long outage does not overflow.
_MOST_DOUBLINGS = 10


class Breaker:
    """Stands before one provider, key or model.

    Args:
        key: Its name.
        rules: When it opens, and for how long.
        changed: Told after each opening and closing.
    """

    def __init__(
        self, key: BreakerKey, rules: BreakerRules, changed: Callable[["Breaker"], None]
    ) -> None:
        self.key = key
        self.opening: Opening | None = None
        self._rules = rules
        self._changed = changed
        self._failures = 0
        self._results: deque[bool] = deque(maxlen=rules.window)
        # Which opening the probe under way is to end.
        self._probed: Opening | None = None

    @property
    def failures(self) -> int:
        """Failures since the last success."""
        return self._failures

    def state(self, now: float) -> BreakerState:
        """Returns whether calls are let through."""
        if self.opening is None:
            return BreakerState.CLOSED
        until = self.opening.until
        return BreakerState.HALF_OPEN if until is not None and now >= until else BreakerState.OPEN

    def lets_through(self, now: float) -> bool:
        """Returns whether a call would be let through now."""
        if self.opening is None:
            return True
        return self.state(now) is BreakerState.HALF_OPEN and self._probed is None

    def enter(self, now: float) -> bool:
        """Lets a call through that `lets_through`, and returns whether it is a probe."""
        probe = self.state(now) is BreakerState.HALF_OPEN
        if probe:
            self._probed = self.opening
        return probe

    def succeeded(self, *, probe: bool) -> None:
        """Notes that a call was answered; a late one from before the opening closes nothing."""
        decides = self._end(probe=probe)
        if decides or self.opening is None:
            self._succeed()

    def failed(self, failure: ProviderFailure, now: float, *, probe: bool) -> None:
        """Notes that a call failed."""
        decides = self._end(probe=probe)
        if not self._counts(failure):
            # Whatever it was, what this stands before has answered.
            if decides and self._is_reached(failure):
                self._succeed()
            return
        if self.opening is not None and not decides:
            return
        self._failures += 1
        self._results.append(False)
        if decides or self._is_too_much(failure):
            self._open(failure, now)

    def released(self, *, probe: bool) -> None:
        """Notes that a call ended without telling anything."""
        self._end(probe=probe)

    def put(self, opening: Opening | None) -> None:
        """Opens or closes it as another instance, or somebody, says."""
        self.opening = opening
        if opening is None:
            self._failures = 0
            self._results.clear()

    def rest(self, now: float) -> timedelta | None:
        """Returns how long it stays open; None for not before somebody resets it."""
        if self.opening is None or self.opening.until is None:
            return None if self.opening else timedelta(0)
        return timedelta(seconds=max(0.0, self.opening.until - now))

    def _end(self, *, probe: bool) -> bool:
        """Ends a call, and returns whether it decides: as the probe of the present opening."""
        if not probe:
            return False
        probed, self._probed = self._probed, None
        return probed is self.opening

    def _succeed(self) -> None:
        self._failures = 0
        self._results.append(True)
        if self.opening is not None:
            self._close()

    def _is_reached(self, failure: ProviderFailure) -> bool:
        return failure.called and failure.kind not in _BEFORE[self.key.scope]

    def _counts(self, failure: ProviderFailure) -> bool:
        if failure.kind not in COUNTED[self.key.scope]:
            return False
        if failure.kind is FailureKind.MISCONFIGURED:
            # An unknown model says nothing of the key, nor a bad key of the model.
            return (failure.status == _UNKNOWN_MODEL) == (self.key.scope is Scope.MODEL)
        return True

    def _is_too_much(self, failure: ProviderFailure) -> bool:
        if failure.kind in (FailureKind.NO_CREDIT, FailureKind.MISCONFIGURED):
            return True
        if failure.retry_after is not None or self._failures >= self._rules.failures:
            return True
        full = len(self._results) == self._rules.window
        return full and self._results.count(False) >= self._rules.share * self._rules.window

    def _open(self, failure: ProviderFailure, now: float) -> None:
        rules = self._rules
        openings = 1 if self.opening is None else self.opening.openings + 1
        first, longest = rules.first_rest, rules.longest_rest
        if failure.kind is FailureKind.NO_CREDIT:
            first, longest = rules.credit_rest, rules.longest_credit_rest
        rest = first * 2 ** min(openings - 1, _MOST_DOUBLINGS)
        if failure.retry_after is not None and failure.kind is not FailureKind.NO_CREDIT:
            # The provider knows better, be it shorter or longer.
            rest = failure.retry_after
        elif failure.retry_after is not None:
            rest = max(rest, failure.retry_after)
        self.opening = Opening(
            until=now + min(rest, longest).total_seconds(),
            cause=Cause(failure.kind, failure.message, failure.status),
            openings=openings,
        )
        self._changed(self)

    def _close(self) -> None:
        self.opening = None
        self._results.clear()
        self._changed(self)
