"""Which tenants have subscriptions: asked for every new task, so it costs a look into a set."""

import asyncio
import logging
import time
from collections.abc import Callable, Collection
from datetime import timedelta

from executor_svc.subscriptions.ports import SubscriptionStore

logger = logging.getLogger(__name__)

REFRESH = timedelta(seconds=1)
# What was read longer ago is not relied on.
TRUST = timedelta(seconds=1.5)


class Interest:
    """Knows the tenants that have subscriptions, from a look into the record each second.

    When the last look is too long ago, everybody counts as interested: a notice that
    nobody wants does no harm. A subscription is therefore effective, in every executor,
    within `TRUST` and the time of one call.
    """

    def __init__(
        self, store: SubscriptionStore, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._store = store
        self._clock = clock
        self._tenants: Collection[str] = frozenset()
        self._trusted_until = clock()

    def has(self, tenant_id: str) -> bool:
        """Tell whether the events of a tenant's new task may be wanted."""
        return tenant_id in self._tenants or self._clock() >= self._trusted_until

    async def refresh(self) -> None:
        """Look into the record."""
        # What is committed after the look began may not be in what it finds.
        began = self._clock()
        self._tenants = frozenset(await self._store.tenants())
        self._trusted_until = began + TRUST.total_seconds()

    async def run(self) -> None:
        """Refresh for ever."""
        while True:
            try:
                await self.refresh()
            except Exception as error:  # noqa: BLE001 - Postgres may be away; try again
                logger.warning("reading subscriptions failed", extra={"cause": repr(error)})
            await asyncio.sleep(REFRESH.total_seconds())
