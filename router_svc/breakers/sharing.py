"""Tells other instances which breakers opened and closed here, and learns of theirs.

Nothing of this is on the way of a call: changes are written and read in the background,
and while the database is away each instance goes by what it sees itself.
"""

import asyncio
import logging
from collections.abc import Callable

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
        self._changed: dict[BreakerKey, Breaker] = {}
        self._known: dict[BreakerKey, int] = {}
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
            key, breaker = next(iter(self._changed.items()))
            opening = breaker.opening
            self._known[key] = await self._store.put(self._shared(key, opening))
            # Unless it has changed again meanwhile.
            if breaker.opening is opening:
                self._changed.pop(key, None)
        for shared in await self._store.read():
            self._take(shared)

    def _take(self, shared: SharedBreaker) -> None:
        if shared.version <= self._known.get(shared.key, 0) or shared.key in self._changed:
            return
        breaker = self._breakers.find(shared.key)
        if breaker is None:
            return
        self._known[shared.key] = shared.version
        if not shared.is_open:
            breaker.put(None)
            return
        left = shared.seconds_left
        until = None if left is None else self._clock() + left
        breaker.put(Opening(until, shared.cause, shared.openings, shared.forced))

    def _note(self, breaker: Breaker) -> None:
        self._changed[breaker.key] = breaker
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
