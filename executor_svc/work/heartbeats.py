"""Heartbeats of attempts: each resets its attempt's clock, the newest details are kept."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any
from uuid import UUID

import orjson

from executor_svc.engine.ports import StepStore
from executor_svc.engine.records import Attempt, StepRef
from stepwire.payload import NULL

logger = logging.getLogger(__name__)

FLUSH_SECONDS = 1.0


class Heartbeats:
    """Takes heartbeats from steps and writes them about once a second, all together."""

    def __init__(self, store: StepStore, session_id: Callable[[], UUID | None]) -> None:
        self._store = store
        self._session_id = session_id
        # By attempt: a function in a thread may outlive its own.
        self._unwritten: dict[StepRef, bytes] = {}
        # So that what is newer is written last.
        self._writing = asyncio.Lock()

    def beat(
        self, attempt: Attempt, pulse: asyncio.Timeout | None, silence: float | None
    ) -> Callable[[Any], None]:
        """Return what takes the heartbeats of an attempt, from whatever thread.

        `pulse` is what ends the attempt when it is silent for longer than `silence` seconds.
        """
        loop = asyncio.get_running_loop()
        ref = _ref(attempt)

        def take(data: bytes) -> None:
            if pulse is not None and silence is not None and not pulse.expired():
                pulse.reschedule(loop.time() + silence)
            if data != NULL:
                self._unwritten[ref] = data

        def beat(details: Any) -> None:
            loop.call_soon_threadsafe(take, orjson.dumps(details))

        return beat

    async def keep(self, attempt: Attempt) -> None:
        """Write what an attempt that has failed has reported last, for the next one."""
        # What it has reported just now is taken first.
        await asyncio.sleep(0)
        async with self._writing:
            data = self._unwritten.pop(_ref(attempt), None)
            if data is not None:
                await self._write({_ref(attempt): data})

    async def run(self) -> None:
        """Write for ever; what cannot be written is replaced by what comes next."""
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            async with self._writing:
                beats, self._unwritten = self._unwritten, {}
                if beats:
                    await self._write(beats)

    async def _write(self, beats: Mapping[StepRef, bytes]) -> None:
        session_id = self._session_id()
        if session_id is None:
            return
        try:
            await self._store.heartbeat(session_id, list(beats.items()))
        except Exception as error:  # noqa: BLE001 - Postgres may be away; details are extra
            logger.warning("heartbeats were not kept", extra={"cause": repr(error)})


def _ref(attempt: Attempt) -> StepRef:
    return StepRef(attempt.task.task_id, attempt.step_id, attempt.attempt, attempt.queue)
