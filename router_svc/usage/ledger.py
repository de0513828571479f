"""Charges and writes down what was used, behind the calls: in batches, and until it is done.

It waits a moment for company, unless somebody waits for it: more is held meanwhile than is
needed, never less. While the database is away everything waits, up to a bound.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final
from uuid import UUID

from router_svc.budgets.records import Alarm
from router_svc.generate.records import Caller, UsageEntry
from router_svc.usage.metrics import UsageMetrics
from router_svc.usage.ports import UsageStore
from router_svc.usage.records import Charge
from stepwire.batcher import Batcher, Linger
from stepwire.errors import StepwireError
from stepwire.ids import uuid7

_logger = logging.getLogger(__name__)

MAX_BATCH: Final = 256
MAX_WAITING: Final = 50_000
"""Tries that wait to be written down; what comes on top is lost, and said so."""
LINGER_SECONDS: Final = 0.05
RETRY_SECONDS: Final = 1.0
DRAIN_SECONDS: Final = 5.0


class Ledger:
    """See `Book` and `UsageRecorder`.

    Args:
        store: Keeps it.
        metrics: Counts what was lost.
        alarmed: Told which shares of budgets were reached.
    """

    def __init__(
        self,
        store: UsageStore,
        metrics: UsageMetrics,
        alarmed: Callable[[Sequence[Alarm]], None],
    ) -> None:
        self._store = store
        self._metrics = metrics
        self._alarmed = alarmed
        self._last: asyncio.Future[None] | None = None
        self._charges: Batcher[Charge, None] = Batcher(
            "usage",
            self._write,
            max_batch=MAX_BATCH,
            max_waiting=MAX_WAITING,
            # What was never called, and a mere hurry.
            linger=Linger(LINGER_SECONDS, lambda charge: charge.entry is None),
        )

    def charge(self, reservation_id: UUID | None, entry: UsageEntry) -> None:
        """See `Book`."""
        self._put(Charge(uuid7(), reservation_id, entry))

    def release(self, reservation_id: UUID) -> None:
        """See `Book`."""
        self._put(Charge(reservation_id, reservation_id, None))

    def record(self, entry: UsageEntry) -> None:
        """See `UsageRecorder`."""
        self.charge(None, entry)

    @property
    def charging(self) -> bool:
        """See `Book`."""
        return self._last is not None and not self._last.done()

    async def charged(self) -> None:
        """See `Book`."""
        if self._last is not None and not self._last.done():
            self._put(Charge(uuid7(), None, None))
            await asyncio.wait([self._last])

    async def drain(self) -> None:
        """Waits until all is written; not for ever, when the database is away."""
        try:
            async with asyncio.timeout(DRAIN_SECONDS):
                await self._charges.drain()
        except TimeoutError:
            self._lose(self._charges.waiting, "the database is away")

    def _put(self, charge: Charge) -> None:
        try:
            future = self._charges.put(charge)
        except StepwireError as error:
            self._lose(1, str(error))
            return
        if charge.reservation_id is not None:
            self._last = future

    async def _write(self, charges: Sequence[Charge]) -> list[None]:
        try:
            await self._keep_writing(charges)
        except Exception:
            _logger.exception("usage cannot be written together")
            for charge in charges:
                await self._write_alone(charge)
        return [None] * len(charges)

    async def _keep_writing(self, charges: Sequence[Charge]) -> None:
        """Writes, again and again while the database is away."""
        failing = False
        while True:
            try:
                self._alarmed(await self._store.write(charges))
            except StepwireError as error:
                if not failing:
                    _logger.warning("usage is written later", extra={"why": str(error)})
                failing = True
                await asyncio.sleep(RETRY_SECONDS)
            else:
                return

    async def _write_alone(self, charge: Charge) -> None:
        """Writes one that may be what kept others from being written; if it is, its cost alone."""
        entry = charge.entry
        anonymous = None if entry is None else replace(entry, caller=Caller(entry.caller.tenant_id))
        for each in (charge, replace(charge, entry=anonymous)):
            try:
                await self._keep_writing([each])
            except Exception as error:  # noqa: BLE001  (whatever it is, the next one is written)
                self._lose(1, str(error))
            else:
                return

    def _lose(self, count: int, why: str) -> None:
        self._metrics.lost(count)
        _logger.error("usage is lost", extra={"tries": count, "why": why})
