"""Giving the places that become free under limits to those that wait for them.

Whatever frees a place names its limit in the effects of its commit (`Effects.released`).
What is forgotten because a process died in between, the sweep finds.
"""

import asyncio
import logging
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Protocol

from executor_svc.engine.ports import Effects, LimitStore
from executor_svc.waking.announce import Announcer
from stepwire.api.executor.v1.task_pb2 import TaskEventType

logger = logging.getLogger(__name__)

# Most limits that are looked at in one transaction, which holds the locks of all of them.
MAX_LIMITS = 100

LimitKey = tuple[str, str]
"""A tenant and the key of one of its limits."""


class WaitingLimits(Protocol):
    """Finds limits under which a turn was missed, or comes by the clock."""

    async def due(self) -> Sequence[LimitKey]:
        """Return limits under which somebody may get a turn by now."""

    async def waiting(self, after: LimitKey) -> Sequence[LimitKey]:
        """Return limits behind another one, in order, under which somebody waits."""

    async def next_due(self) -> datetime | None:
        """When the next turn by the clock is due."""

    async def tidy(self) -> Effects:
        """Free places that nobody needs any more, and forget limits that nobody uses."""


class Admitter:
    """Gives places in the background.

    Limits that are named while others are being looked at share the next transaction.
    """

    def __init__(self, store: LimitStore, announcer: Announcer) -> None:
        self._store = store
        self._announcer = announcer
        self._named: dict[LimitKey, None] = {}
        self._worker: asyncio.Task[None] | None = None

    def admit(self, limits: Iterable[LimitKey]) -> None:
        """Look whether somebody who waits under one of `limits` gets a place."""
        self._named |= dict.fromkeys(limits)
        if self._named and self._worker is None:
            self._worker = asyncio.create_task(self._run(), name="admitter")

    async def drain(self) -> None:
        """Wait until everything that was named has been looked at."""
        while self._worker is not None:
            await asyncio.wait([self._worker])

    async def _run(self) -> None:
        try:
            while self._named:
                limits = list(self._named)[:MAX_LIMITS]
                for limit in limits:
                    del self._named[limit]
                # A place may be given by cancelling whoever has it. What becomes free by this
                # is named again.
                self._announcer.announce_ends(
                    await self._store.admit(limits), TaskEventType.TASK_EVENT_TYPE_TASK_CANCELLED
                )
        except Exception as error:  # noqa: BLE001 - Postgres may be away; the sweep goes on
            logger.warning("places were not given", extra={"cause": repr(error)})
            self._named.clear()
        finally:
            self._worker = None
