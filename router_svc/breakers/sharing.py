"""Tells other instances which breakers opened and closed here, and learns of theirs.

Nothing of this is on the way of a call: changes are written and read in the background,
and while the database is away each instance goes by what it sees itself.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

from router_svc.breakers.board import Breakers
from router_svc.breakers.breaker import Breaker
from router_svc.breakers.ports import BreakerStore, SharedBreaker
from router_svc.breakers.records import BreakerKey, Cause, Opening
from router_svc.generate.failures import FailureKind

_logger = logging.getLogger(__name__)

# Long enough that every instance has read of a closing.
KEPT_SECONDS = 3600.0
_FORGET_EVERY = 600
_CLOSED = Cause(FailureKind.SERVER, "")


@dataclass(frozen=True, slots=True)
class _Change:
    """A breaker that has opened or closed here, and whether somebody did it."""

    breaker: Breaker
    by_hand: bool


class Sharing:
    """Keeps this instance's breakers and the record's alike.

    Args:
        breakers: The breakers here.
        store: The record.
        every_seconds: How often the record is read.
        clock: Monotonic seconds, as the breakers use it.
    """

    def __init__(
        self,
        breakers: Breakers,
        store: BreakerStore,
        *,
        every_seconds: float,
        clock: Callable[[], float],
    ) -> None:
        self._breakers = breakers
        self._store = store
        self._every_seconds = every_seconds
        self._clock = clock
        self._changed: dict[BreakerKey, _Change] = {}
        # Which version a breaker goes by. One that left the catalogue and came back is another
        # breaker, and knows of none.
        self._known: dict[BreakerKey, tuple[Breaker, int]] = {}
        self._woken = asyncio.Event()
        self._failing = False
        breakers.subscribe(self._note)

    async def run(self) -> None:
        """Keeps sharing until cancelled."""
        rounds = 0
        while True:
            try:
                await self.exchange()
                if rounds % _FORGET_EVERY == 0:
                    await self._store.forget(older_than_seconds=KEPT_SECONDS)
                self._failing = False
            except Exception:
                # Told once, not every second of an outage.
                if not self._failing:
                    _logger.exception("breakers are not shared now")
                self._failing = True
            rounds += 1
            self._woken.clear()
            try:
                async with asyncio.timeout(self._every_seconds):
                    await self._woken.wait()
            except TimeoutError:
                continue

    async def exchange(self) -> None:
        """Writes what changed here, then takes over what changed elsewhere."""
        while self._changed:
            key, change = next(iter(self._changed.items()))
            opening = change.breaker.opening
            shared = self._shared(key, opening)
            version = await self._store.put(shared, by_hand=change.by_hand)
            self._known[key] = change.breaker, version
            # Unless it has changed again meanwhile.
            if self._changed.get(key) is change:
                del self._changed[key]
        for shared in await self._store.read():
            self._take(shared)

    def _take(self, shared: SharedBreaker) -> None:
        breaker = self._breakers.find(shared.key)
        if breaker is None or shared.key in self._changed:
            return
        known, version = self._known.get(shared.key, (None, 0))
        if known is breaker and shared.version <= version:
            return
        self._known[shared.key] = breaker, shared.version
        if not shared.is_open:
            breaker.put(None)
            return
        left = shared.seconds_left
        until = None if left is None else self._clock() + left
        breaker.put(Opening(until, shared.cause, shared.openings, shared.forced))

    def _note(self, breaker: Breaker, *, by_hand: bool) -> None:
        before = self._changed.get(breaker.key)
        # What was done by hand, and is not written yet, is written whatever came after it.
        by_hand = by_hand or (before is not None and before.by_hand)
        self._changed[breaker.key] = _Change(breaker, by_hand)
        self._woken.set()

    def _shared(self, key: BreakerKey, opening: Opening | None) -> SharedBreaker:
        left = None
        if opening is not None and opening.until is not None:
            left = max(0.0, opening.until - self._clock())
        return SharedBreaker(
            key=key,
            version=0,
            is_open=opening is not None,
            seconds_left=left,
            cause=_CLOSED if opening is None else opening.cause,
            openings=0 if opening is None else opening.openings,
            forced=opening is not None and opening.forced,
        )
