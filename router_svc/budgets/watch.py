"""What budgets do in the background: learn of changes, live, charge for the dead."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Final
from uuid import UUID

from router_svc.budgets.knowledge import Knowledge
from router_svc.budgets.metrics import BudgetMetrics
from router_svc.budgets.ports import BudgetStore, Vault
from router_svc.budgets.records import Alarm
from stepwire.errors import StepwireError
from stepwire.ids import uuid7

_logger = logging.getLogger(__name__)

LEARN_SECONDS: Final = 1.0
"""How often changes of budgets are read: they hold here within twice that time."""
EXPIRED_AT_ONCE: Final = 1_000
PURGE_SECONDS: Final = 600.0
_RENEWALS: Final = 3


class BudgetWatch:
    """Keeps this process's part of the budgets up to date.

    Args:
        store: Has the budgets.
        vault: Has what is held.
        knowledge: What is known here.
        metrics: Tells of alarms and losses.
        lease: For how long this process is taken to be alive after its last sign of life.
    """

    def __init__(
        self,
        store: BudgetStore,
        vault: Vault,
        knowledge: Knowledge,
        metrics: BudgetMetrics,
        *,
        lease: timedelta,
    ) -> None:
        self._store = store
        self._vault = vault
        self._knowledge = knowledge
        self._metrics = metrics
        self._lease = lease
        self.session_id: UUID = uuid7()

    async def begin(self) -> None:
        """Takes part from now on.

        Raises:
            StepwireError: DEPENDENCY_UNAVAILABLE.
        """
        await self._vault.renew(self.session_id, lease=self._lease)
        await self.learn()

    async def end(self) -> None:
        """Takes no part any more."""
        try:
            await self._vault.end(self.session_id)
        except StepwireError as error:
            _logger.warning("the session ends by itself", extra={"why": str(error)})

    async def learn(self) -> None:
        """Reads what has changed."""
        self._knowledge.learn(await self._store.changes(after=self._knowledge.version))

    async def live(self) -> None:
        """Gives a sign of life, and charges what is held for those that give none."""
        await self._vault.renew(self.session_id, lease=self._lease)
        while True:
            count, alarms = await self._vault.expire(limit=EXPIRED_AT_ONCE)
            self.alarmed(alarms)
            if count:
                self._metrics.lost(count)
            if count < EXPIRED_AT_ONCE:
                return

    def alarmed(self, alarms: Sequence[Alarm]) -> None:
        """Tells of alarms."""
        for alarm in alarms:
            self._metrics.alarmed(alarm, self._knowledge.find((alarm.budget_id, alarm.key)))

    async def run(self) -> None:
        """Does all of that again and again."""
        async with asyncio.TaskGroup() as group:
            group.create_task(_repeat(self.learn, LEARN_SECONDS))
            group.create_task(_repeat(self.live, self._lease.total_seconds() / _RENEWALS))
            group.create_task(_repeat(self._vault.purge, PURGE_SECONDS))


async def _repeat(work: Callable[[], Awaitable[None]], every_seconds: float) -> None:
    failing = False
    while True:
        await asyncio.sleep(every_seconds)
        try:
            await work()
        except Exception:
            # Told once, not every second of an outage.
            if not failing:
                _logger.exception("budgets are not up to date")
            failing = True
        else:
            failing = False
