"""The lease by which a worker process owns its steps.

It is kept by a thread with an event loop and a connection of its own, so that a blocked
main loop does not lose it. When the lease has run out all the same (the process was
stopped, Postgres was away), the session is over: its steps belong to others, and a new
session is opened.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from uuid import UUID

from executor_svc.ports import SessionStore
from stepwire.ids import uuid7

logger = logging.getLogger(__name__)

OpenStore = Callable[[], AbstractAsyncContextManager[SessionStore]]


class Lease:
    """Keeps a worker session alive. Start it, and stop it, from the main loop."""

    def __init__(
        self,
        open_store: OpenStore,
        *,
        worker: str,
        lease: timedelta,
        renew_every: timedelta,
        on_lost: Callable[[UUID], None],
    ) -> None:
        """Keep a lease for `worker`; call `on_lost` in the main loop with a lost session."""
        self._open_store = open_store
        self._worker = worker
        self._lease = lease
        self._renew_every = renew_every.total_seconds()
        self._on_lost = on_lost
        self._session_id: UUID | None = None
        self._main: asyncio.AbstractEventLoop | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._opened = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="lease", daemon=True)

    @property
    def session_id(self) -> UUID | None:
        """The session that is alive; None while there is none."""
        return self._session_id

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
            renewed = time.monotonic()
            while not await self._stopped(self._stop):
                try:
                    await self._renew(store)
                except Exception as error:  # noqa: BLE001 - whatever it is, time decides
                    logger.warning("the lease was not renewed", extra={"cause": repr(error)})
                    if time.monotonic() - renewed > self._lease.total_seconds():
                        # Others may own the steps by now, and nobody can be asked.
                        self._lose()
                    continue
                renewed = time.monotonic()
            if self._session_id is not None:
                async with asyncio.timeout(self._renew_every):
                    await store.close(self._session_id)

    async def _stopped(self, stop: asyncio.Event) -> bool:
        try:
            async with asyncio.timeout(self._renew_every):
                return await stop.wait()
        except TimeoutError:
            return False

    async def _open(self, store: SessionStore) -> None:
        session_id = uuid7()
        await store.open(session_id, worker=self._worker, lease=self._lease)
        self._session_id = session_id
        self._opened.set()

    async def _renew(self, store: SessionStore) -> None:
        """Renew the lease; where it has run out, open a new session."""
        async with asyncio.timeout(self._renew_every):
            if self._session_id is not None:
                if await store.renew(self._session_id, lease=self._lease):
                    return
                self._lose()
            await self._open(store)

    def _lose(self) -> None:
        lost, self._session_id = self._session_id, None
        if lost is None or self._main is None:
            return
        logger.warning("the lease has run out", extra={"session_id": str(lost)})
        self._main.call_soon_threadsafe(self._on_lost, lost)
