"""Shares the slots of models between all instances, by leases from the record.

What is held is used without asking anybody, while the lease lasts by this process's own
monotonic clock. In the background it is renewed, all of it by one statement; more is asked
for when calls wait, and what others want is given up.

A call that is under way when the lease ends may go on for as long as a try may take. Others
get its slot only after that, since a process that is stopped cannot end its calls, and the
provider goes on with them.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import Final

from router_svc.catalogue.holder import Snapshot
from router_svc.catalogue.models import Model
from router_svc.generate.failures import FailureKind, ProviderFailure
from router_svc.limits.deaths import Deaths
from router_svc.limits.limiter import LOOK_AGAIN_SECONDS
from router_svc.limits.metrics import LimitMetrics
from router_svc.limits.ports import Claim, Grant, SlotStore
from router_svc.limits.slots import TURN_SECONDS, HeldSlot, ModelSlots
from stepwire.errors import StepwireError
from stepwire.ids import uuid7

_logger = logging.getLogger(__name__)

CONCURRENCY: Final = "concurrency"
MARGIN_SECONDS: Final = 1.0
"""How much later than a process ends its calls others count on it: two clocks that run at
different speeds, and what is late in a process that has much to do."""
ANSWER_SECONDS: Final = 2.0
"""Longest wait for the record."""
_RENEWALS: Final = 4


class SharedSlots:
    """The slots of all models, as far as this process holds them.

    Args:
        store: The record.
        metrics: Counts refusals.
        clock: Monotonic seconds, that go on while the process is stopped.
        lease_seconds: For how long calls may begin after the last sign of life.
    """

    def __init__(
        self,
        store: SlotStore,
        metrics: LimitMetrics,
        clock: Callable[[], float],
        *,
        lease_seconds: float,
    ) -> None:
        self._store = store
        self._metrics = metrics
        self._clock = clock
        self._lease_seconds = lease_seconds
        self._every_seconds = lease_seconds / _RENEWALS
        self._session_id = uuid7()
        self._beat = 0
        self._models: dict[str, ModelSlots] = {}
        # By the catalogue in use; a call may have begun with an earlier one.
        self._most: dict[str, int] = {}
        self._recorded = False
        self._needed = asyncio.Event()
        self._renewed_at = 0.0
        self._deaths = Deaths()
        self._away = False
        self._asking: asyncio.Future[Mapping[str, Grant]] | None = None

    async def slot(self, model: Model) -> HeldSlot:
        """See `Limits`."""
        slots = self._models.get(model.name) or self._open(model)
        return await slots.slot(model.timeout_seconds)

    def use(self, snapshot: Snapshot) -> None:
        """Goes over to another catalogue."""
        limited = {each.name: each.limits.concurrency for each in snapshot.catalogue.models}
        self._most = {name: most for name, most in limited.items() if most is not None}
        for name, most in self._most.items():
            slots = self._models.get(name)
            if slots is not None and slots.most != most:
                slots.most = most
                self._needed.set()

    def told(self, notice: str) -> None:
        """Takes what another instance tells: that it wants slots, or that some are free."""
        what, session, model = notice.split(" ", 2)
        slots = self._models.get(model)
        if slots is None or session == str(self._session_id):
            return
        if what == "want":
            slots.is_asked()
        if slots.held or slots.wanted:
            self._needed.set()

    def standing(self) -> Iterable[tuple[str, int, int]]:
        """Returns the models of which slots are held: how many, and how many are in use."""
        return [(each.model, each.held, each.in_use) for each in self._models.values()]

    async def run(self) -> None:
        """Renews what is held, and gets what is wanted, again and again."""
        while True:
            await self._until_needed()
            await self.exchange()

    async def watch(self) -> None:
        """Looks again and again who has died."""
        while True:
            await asyncio.sleep(self._every_seconds)
            try:
                await self.look()
            except StepwireError:
                # That it is away is told where slots are held.
                continue
            except Exception:
                _logger.exception("the slots of the dead are not freed")

    async def close(self) -> None:
        """Gives up all that is not in use."""
        await self.exchange(everything=True)

    async def exchange(self, *, everything: bool = False) -> None:
        """Tells the record what is held and wanted, and takes what it gives."""
        self._needed.clear()
        asked = self._clock()
        if asked - self._renewed_at >= self._every_seconds:
            self._pass_time()
            self._renewed_at = asked
        keeps = self._lease_seconds + MARGIN_SECONDS
        claims = [
            each.claim(lease_seconds=keeps, everything=everything) for each in self._models.values()
        ]
        claims = [each for each in claims if each.held or each.wanted]
        if not claims and not self._recorded:
            return
        self._recorded = True
        try:
            grants = await self._ask(claims)
        except StepwireError as error:
            self._miss(str(error))
            return
        except TimeoutError:
            self._miss("the record does not answer")
            return
        except Exception as error:
            _logger.exception("slots are not renewed")
            self._miss(repr(error))
            return
        self._recorded, self._away = bool(claims), False
        now = self._clock()
        for claim in claims:
            slots = self._models[claim.model]
            # From when it was asked for, which is not later than when it was given.
            until = asked + self._lease_seconds
            slots.put(grants[claim.model], until=until, kept_seconds=claim.keeps_seconds - keeps)
            if slots.held < claim.held:
                # Others have taken this process for dead, and it counted on what it had.
                self._needed.set()
            elif slots.wanted:
                slots.ask_again_at = now + LOOK_AGAIN_SECONDS

    async def look(self) -> None:
        """Frees what is held by those that have died."""
        silences = self._deaths.silences(self._clock())
        if silences:
            freed = await self._store.free(silences)
            if freed:
                _logger.warning(
                    "slots of instances that have died are free again", extra={"slots": dict(freed)}
                )
                self._needed.set()
        signs = await self._store.others(self._session_id)
        self._deaths.see(signs, self._clock())

    async def _ask(self, claims: Sequence[Claim]) -> Mapping[str, Grant]:
        """Has the record asked, and waits no longer for it than those who wait here can.

        What comes later is left alone: a cancelled statement may take as long to be given up
        as to be answered.

        Raises:
            TimeoutError: It has not answered in time, or not yet to what it was asked before.
            StepwireError: DEPENDENCY_UNAVAILABLE.
        """
        if self._asking is not None and not self._asking.done():
            await asyncio.wait([self._asking], timeout=ANSWER_SECONDS)
            raise TimeoutError
        self._beat += 1
        asking = asyncio.ensure_future(self._store.hold(self._session_id, self._beat, claims))
        asking.add_done_callback(_look_at)
        self._asking = asking
        await asyncio.wait([asking], timeout=ANSWER_SECONDS)
        if not asking.done():
            raise TimeoutError
        return asking.result()

    def _open(self, model: Model) -> ModelSlots:
        most = self._most.get(model.name) or model.limits.concurrency
        assert most is not None, f"{model.name} has no limit"
        slots = ModelSlots(model.name, most, self._clock, self._lack)
        self._models[model.name] = slots
        return slots

    def _lack(self, slots: ModelSlots) -> None:
        now = self._clock()
        if slots.is_sought or slots.is_lapsed or (slots.wanted and now >= slots.ask_again_at):
            self._needed.set()

    async def _until_needed(self) -> None:
        pause = self._renewed_at + self._every_seconds - self._clock()
        if self._away:
            pause = min(pause, self._every_seconds / _RENEWALS)
        if any(each.wanted or (each.waiting and each.is_lapsed) for each in self._models.values()):
            pause = min(pause, LOOK_AGAIN_SECONDS)
        elif any(each.is_sought for each in self._models.values()):
            pause = min(pause, TURN_SECONDS)
        try:
            async with asyncio.timeout(max(0.0, pause)):
                await self._needed.wait()
        except TimeoutError:
            return

    def _pass_time(self) -> None:
        idle = [name for name, each in self._models.items() if each.is_idle]
        for name in idle:
            del self._models[name]
        for each in self._models.values():
            each.pass_time()

    def _miss(self, why: str) -> None:
        """Refuses who waits for what only the record could give."""
        if not self._away:
            _logger.warning("slots are not renewed", extra={"why": why})
        self._away = True
        for each in self._models.values():
            if each.waiting and (each.is_lapsed or not each.held):
                for _ in range(each.waiting):
                    self._metrics.refused(each.model, CONCURRENCY)
                each.refuse(partial(_unknown, each))


def _look_at(asked: "asyncio.Future[Mapping[str, Grant]]") -> None:
    """Sees to it that nobody misses the failure of what nobody waits for any more."""
    if not asked.cancelled():
        asked.exception()


def _unknown(slots: ModelSlots) -> ProviderFailure:
    return ProviderFailure(
        FailureKind.RATE_LIMITED,
        f"whether it is at its limit of {slots.most} calls at once cannot be found out",
        retry_after=timedelta(seconds=LOOK_AGAIN_SECONDS),
        called=False,
    )
