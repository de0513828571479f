"""Heartbeats of attempts: each resets its attempt's clock, the newest details are kept."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any
from uuid import UUID

import orjson

from executor_svc.engine.ports import StepStore
from executor_svc.engine.records import Attempt, StepAddress
from stepwire.payload import NULL

logger = logging.getLogger(__name__)

FLUSH_SECONDS = 1.0


class Heartbeats:
    """Takes heartbeats from steps and writes them about once a second, all together."""

    def __init__(self, store: StepStore, session_id: Callable[[], UUID | None]) -> None:
        self._store = store
        self._session_id = session_id
        self._unwritten: dict[StepAddress, bytes] = {}

    def beat(
        self, attempt: Attempt, pulse: asyncio.Timeout | None, silence: float | None
    ) -> Callable[[Any], None]:
        """Return what takes the heartbeats of an attempt, from whatever thread.

        `pulse` is what ends the attempt when it is silent for longer than `silence` seconds.
        """
        loop = asyncio.get_running_loop()
        address = StepAddress(attempt.task.task_id, attempt.step_id)

        def take(data: bytes) -> None:
            if pulse is not None and silence is not None and not pulse.expired():
                pulse.reschedule(loop.time() + silence)
            if data != NULL:
                self._unwritten[address] = data

        def beat(details: Any) -> None:
            loop.call_soon_threadsafe(take, orjson.dumps(details))

        return beat

    async def run(self) -> None:
        """Write for ever; what cannot be written is replaced by what comes next."""
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            session_id, beats = self._session_id(), self._unwritten
            if not beats or session_id is None:
                continue
            self._unwritten = {}
            try:
                await self._store.heartbeat(session_id, list(beats.items()))
            except Exception as error:  # noqa: BLE001 - Postgres may be away; details are extra
                logger.warning("heartbeats were not kept", extra={"cause": repr(error)})
