"""All breakers of this process, and the permits that they give together."""

import math
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from typing import Protocol

from router_svc.breakers.breaker import Breaker
from router_svc.breakers.records import BreakerKey, BreakerRules, Opening
from router_svc.generate.failures import ProviderFailure
from router_svc.generate.load import Load


class Told(Protocol):
    """Hears of openings and closings."""

    def __call__(self, breaker: Breaker, *, by_hand: bool) -> None:
        """Takes one that has opened or closed; `by_hand` when somebody did it."""
        ...


class Breakers:
    """The breakers, made when they are first asked for.

    Args:
        rules: When they open, and for how long.
        clock: Monotonic seconds.
    """

    def __init__(self, rules: BreakerRules, clock: Callable[[], float]) -> None:
        self._rules = rules
        self._clock = clock
        self._breakers: dict[BreakerKey, Breaker] = {}
        self._listeners: list[Told] = []

    def subscribe(self, told: Told) -> None:
        """Has `told` called after each opening and closing by this process's calls, or by hand."""
        self._listeners.append(told)

    def get(self, key: BreakerKey) -> Breaker:
        """Returns the breaker called `key`."""
        breaker = self._breakers.get(key)
        if breaker is None:
            breaker = self._breakers[key] = Breaker(key, self._rules, self._changed)
        return breaker

    def keep(self, keys: Iterable[BreakerKey]) -> None:
        """Makes breakers for `keys`, and forgets all others."""
        kept = {key: self.get(key) for key in keys}
        self._breakers = kept

    def all(self) -> Sequence[Breaker]:
        """Returns all, by name."""
        return [self._breakers[key] for key in sorted(self._breakers)]

    def find(self, key: BreakerKey) -> Breaker | None:
        """Returns the breaker called `key`, if it is known."""
        return self._breakers.get(key)

    def put(self, breaker: Breaker, opening: Opening | None) -> None:
        """Opens or closes a breaker by hand, for all instances."""
        breaker.put(opening)
        self._changed(breaker, by_hand=True)

    def refusal(self, keys: Sequence[BreakerKey]) -> ProviderFailure | None:
        """Returns why a call that needs all of `keys` would not be let through; None if it would.

        The kind is that of the failure that opened the breaker, so that a bad key does not
        look like an outage meanwhile.
        """
        now = self._clock()
        for key in keys:
            breaker = self.get(key)
            if not breaker.lets_through(now):
                return _refusal(breaker, breaker.rest(now))
        return None

    def permit(self, keys: Sequence[BreakerKey], load: Load) -> "BreakerPermit":
        """Lets a call through that `refusal` says nothing against."""
        now = self._clock()
        entered = [(breaker, breaker.enter(now)) for breaker in map(self.get, keys)]
        return BreakerPermit(entered, load, self._clock)

    def _changed(self, breaker: Breaker, *, by_hand: bool = False) -> None:
        for told in self._listeners:
            told(breaker, by_hand=by_hand)


class BreakerPermit:
    """The right to one call, given by all breakers before it. See `generate.ports.Permit`."""

    def __init__(
        self,
        entered: Sequence[tuple[Breaker, bool]],
        load: Load,
        clock: Callable[[], float],
    ) -> None:
        self._entered = entered
        self._load = load
        self._clock = clock
        self._done = False
        load.begin()

    def succeeded(self, seconds: float) -> None:
        """See `Permit`."""
        if self._end(seconds):
            for breaker, probe in self._entered:
                breaker.succeeded(probe=probe)

    def failed(self, failure: ProviderFailure) -> None:
        """See `Permit`."""
        if self._end():
            now = self._clock()
            for breaker, probe in self._entered:
                breaker.failed(failure, now, probe=probe)

    def released(self) -> None:
        """See `Permit`."""
        if self._end():
            for breaker, probe in self._entered:
                breaker.released(probe=probe)

    def _end(self, seconds: float | None = None) -> bool:
        done, self._done = self._done, True
        if not done:
            self._load.end(seconds)
        return not done


def _refusal(breaker: Breaker, rest: timedelta | None) -> ProviderFailure:
    assert breaker.opening is not None
    cause = breaker.opening.cause
    if rest is None:
        told = "is left alone until somebody resets its breaker"
    elif rest:
        told = f"left to rest for another {math.ceil(rest.total_seconds())} s after"
    else:
        told = "is being tried out by another call after"
    return ProviderFailure(
        cause.kind,
        f"{told}: {cause.message}",
        status=cause.status,
        retry_after=rest or None,
        called=False,
    )
