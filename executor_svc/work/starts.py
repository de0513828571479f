"""Recording that attempts have started, of those that are not over soon."""

import asyncio
import itertools
import logging
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from uuid import UUID

from executor_svc.engine.ports import Effects, StepStore
from executor_svc.waking.announce import Announcer
from executor_svc.work.held import Held
from executor_svc.work.patience import outlast

logger = logging.getLogger(__name__)

# An attempt that is over sooner has its start recorded together with its end.
ANNOUNCE_AFTER_SECONDS = 0.05


class Starts:
    """Records starts, each once.

    An attempt that ends while its start is being recorded waits for that: `on_end` is called
    with it then. `is_ours` says of a session whether it is alive.
    """

    def __init__(
        self,
        store: StepStore,
        announcer: Announcer,
        *,
        is_ours: Callable[[UUID], bool],
        on_end: Callable[[Held], None],
    ) -> None:
        self._store = store
        self._announcer = announcer
        self._is_ours = is_ours
        self._on_end = on_end
        self._loop = asyncio.get_running_loop()
        # Attempts whose start is not recorded yet, oldest first.
        self._fresh: deque[Held] = deque()
        self._recording: asyncio.Task[None] | None = None

    def add(self, held: Held) -> None:
        """Record the start of an attempt, unless it ends soon."""
        self._fresh.append(held)
        if self._recording is None:
            self._recording = asyncio.create_task(self._run(), name="starts")

    async def _run(self) -> None:
        try:
            while self._fresh:
                wait = self._fresh[0].begun + ANNOUNCE_AFTER_SECONDS - self._loop.time()
                await asyncio.sleep(max(wait, 0.0))
                await self._record(self._due())
        finally:
            self._recording = None

    def _due(self) -> Sequence[Held]:
        """Take the attempts that are no longer young, but for those that have ended."""
        due: list[Held] = []
        latest = self._loop.time() - ANNOUNCE_AFTER_SECONDS
        while self._fresh and self._fresh[0].begun <= latest:
            held = self._fresh.popleft()
            if held.runs and self._is_ours(held.session_id):
                due.append(held)
        return due

    async def _record(self, due: Sequence[Held]) -> None:
        if not due:
            return
        # There is one session at a time.
        session_id = due[0].session_id
        for held in due:
            held.announced = None
        tries = itertools.count()

        async def start() -> Effects:
            # A try whose answer was lost may have done it.
            attempts = [held.attempt for held in due]
            return await self._store.start(session_id, attempts, again=next(tries) > 0)

        recorded = False
        try:
            self._announcer.announce(
                await outlast(start, as_long_as=partial(self._is_ours, session_id))
            )
            recorded = True
        except Exception as error:  # noqa: BLE001 - it is recorded with the end then
            logger.warning("starts were not recorded", extra={"cause": repr(error)})
        for held in due:
            held.announced = recorded
            if held.ended is not None:
                self._on_end(held)
