"""The lease by which a worker process owns its steps.

It is kept by a thread with an event loop and a connection of its own, so that a blocked
main loop does not lose it. When the lease has run out all the same (the process was
stopped, Postgres was away), the session is over: its steps belong to others, and a new
session is opened.

A worker fences itself: it counts on its lease from when it asked for the last renewal that
was granted, and a margin shorter than it was granted, by a clock that goes on while the
process is stopped. Its attempts have thus ended when others may take their steps.
"""

import asyncio
import logging
import threading
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from executor_svc.clock import boot_seconds
from executor_svc.engine.ports import SessionStore, WorkerProfile
from stepwire.ids import uuid7

logger = logging.getLogger(__name__)

OpenStore = Callable[[], AbstractAsyncContextManager[SessionStore]]

# After a renewal that failed, the next one is tried after so much of the usual time.
RETRY_SHARE = 0.25


@dataclass(frozen=True, slots=True)
class _Held:
    """A session, and until when this process counts on it."""

    session_id: UUID
    until: float


class Lease:
    """Keeps a worker session alive. Start it, and stop it, from the main loop."""

    def __init__(
        self,
        open_store: OpenStore,
        profile: WorkerProfile,
        *,
        lease: timedelta,
        margin: timedelta,
        renew_every: timedelta,
        busy: Callable[[], int],
        on_lost: Callable[[UUID], None],
        on_drain: Callable[[], None],
        clock: Callable[[], float] = boot_seconds,
    ) -> None:
        """Keep a lease for a worker.

        Args:
            open_store: opens a way to the record of the lease's own.
            profile: what the worker is.
            lease: how long its steps stay its own without a renewal.
            margin: how much earlier it stops counting on them.
            renew_every: time between two renewals.
            busy: tells how many steps run; called by the lease's thread.
            on_lost: called in the main loop with a session that was lost; may be called
                again with the same one.
            on_drain: called in the main loop, once, when no further step is to start.
            clock: a monotonic time in seconds.
        """
        self._open_store = open_store
        self._profile = profile
        self._lease = lease
        self._held_seconds = (lease - margin).total_seconds()
        self._renew_every = renew_every.total_seconds()
        self._busy = busy
        self._on_lost = on_lost
        self._on_drain = on_drain
        self._clock = clock
        self._held: _Held | None = None
        self._draining = False
        self._main: asyncio.AbstractEventLoop | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._watch: asyncio.TimerHandle | None = None
        self._opened = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="lease", daemon=True)

    @property
    def session_id(self) -> UUID | None:
        """The session that is alive; None while there is none.

        It is compared with the clock, so that nothing is done for a session that has run out,
        however late its loss is noticed.
        """
        held = self._held
        return None if held is None or self._clock() >= held.until else held.session_id

    async def start(self) -> None:
        """Open the first session.

        Raises:
            Exception: whatever kept the session from being opened.
        """
        self._main = asyncio.get_running_loop()
        self._thread.start()
        await asyncio.to_thread(self._opened.wait)
        if self._failure is not None:
            raise self._failure

    async def stop(self) -> None:
        """End the lease, so that what the session still runs is given back at once."""
        if self._loop is not None and self._stop is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
            await asyncio.to_thread(self._thread.join)

    def check(self) -> None:
        """Notice a lease that has run out; to be called in the main loop's thread.

        A signal handler may call it, between any two lines of other code: hence no logging.
        """
        lost = self._take_lost()
        if lost is not None and self._main is not None:
            self._on_lost(lost)
            self._main.call_soon_threadsafe(_log_lost, lost)

    def _run(self) -> None:
        try:
            asyncio.run(self._keep())
        except Exception as error:
            self._failure = error
            if self._opened.is_set():
                logger.exception("the lease's thread has failed")
                self._lose()
        finally:
            self._opened.set()

    async def _keep(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        async with self._open_store() as store:
            await self._open(store)
            pause = self._renew_every
            while not await self._stopped(self._stop, pause):
                began = self._clock()
                try:
                    async with asyncio.timeout(self._renew_every):
                        await self._renew(store)
                except Exception as error:  # noqa: BLE001 - whatever it is, time decides
                    logger.warning("the lease was not renewed", extra={"cause": repr(error)})
                    pause = self._renew_every * RETRY_SHARE
                else:
                    pause = max(0.0, self._renew_every - (self._clock() - began))
            if self._held is not None:
                async with asyncio.timeout(self._renew_every):
                    await store.close(self._held.session_id)

    async def _stopped(self, stop: asyncio.Event, pause_seconds: float) -> bool:
        try:
            async with asyncio.timeout(pause_seconds):
                return await stop.wait()
        except TimeoutError:
            return False

    async def _open(self, store: SessionStore) -> None:
        session_id, asked = uuid7(), self._clock()
        await store.open(
            session_id,
            self._profile,
            lease=self._lease,
            busy=self._busy(),
            draining=self._draining,
        )
        self._hold(session_id, asked)
        self._opened.set()

    async def _renew(self, store: SessionStore) -> None:
        """Renew the lease; where it has run out, open a new session."""
        held, asked = self._held, self._clock()
        if held is not None and asked < held.until:
            renewal = await store.renew(held.session_id, lease=self._lease, busy=self._busy())
            if renewal is not None and renewal.draining:
                self._drain()
            if renewal is not None and self._held is held:
                self._hold(held.session_id, asked)
                return
        self._lose()
        await self._open(store)

    def _hold(self, session_id: UUID, asked: float) -> None:
        """Count on a session that was granted when `asked` for."""
        self._held = _Held(session_id, asked + self._held_seconds)
        self._look()

    def _look(self) -> None:
        """Lose the session when its time is up, however the renewal that is under way ends."""
        assert self._loop is not None
        if self._watch is not None:
            self._watch.cancel()
        held = self._held
        if held is None:
            return
        left = held.until - self._clock()
        if left <= 0:
            self._lose()
        else:
            self._watch = self._loop.call_later(left, self._look)

    def _lose(self) -> None:
        lost, self._held = self._held, None
        if lost is None or self._main is None:
            return
        self._main.call_soon_threadsafe(self._on_lost, lost.session_id)
        _log_lost(lost.session_id)

    def _take_lost(self) -> UUID | None:
        held = self._held
        if held is None or self._clock() < held.until:
            return None
        self._held = None
        return held.session_id

    def _drain(self) -> None:
        if not self._draining and self._main is not None:
            self._draining = True
            self._main.call_soon_threadsafe(self._on_drain)


def _log_lost(session_id: UUID) -> None:
    logger.warning("the lease has run out", extra={"session_id": str(session_id)})
