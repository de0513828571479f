"""Carries out notices: what the end of one task means for something else.

A transition writes them in its own transaction (table `executor.notices`), so that they
are as durable as what they tell of. A notice is deleted when its handler has returned,
and comes again otherwise: after a failure, or when the process died in between. Handlers
must therefore bear being called twice. Every instance of the executor runs a relay;
notices that another one has in hand are passed over.
"""

import asyncio
import logging
import random
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol
from uuid import UUID

from executor_svc.metrics import RelayMetrics

logger = logging.getLogger(__name__)

FIRST_BACKOFF = timedelta(milliseconds=500)
LONGEST_BACKOFF = timedelta(minutes=1)
MAX_DOUBLINGS = 16
# A handler that takes longer has failed; the locks of its whole batch wait for it.
HANDLER_SECONDS = 30.0
# Between two looks that find nothing to do.
SHORTEST_SECONDS = 0.01
# Until the next look when another relay has in hand all that is due.
HELD_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class Notice:
    """What a transition has left to be done.

    Attributes:
        notice_id: position in the order of notices; it has gaps.
        kind: names the handler.
        tenant_id: whose task it tells of.
        task_id: the task it tells of.
        payload: what the kind needs to know.
        created_at: when the transition was committed.
        attempts: how often it has failed.
    """

    notice_id: int
    kind: str
    tenant_id: str
    task_id: UUID
    payload: Mapping[str, Any]
    created_at: datetime
    attempts: int = 0


@dataclass(frozen=True, slots=True)
class Postponed:
    """A notice that stays; `tried` says whether its handler was called."""

    notice: Notice
    by: timedelta
    tried: bool


Handler = Callable[[Notice], Awaitable[None]]
Work = Callable[[Sequence[Notice]], Awaitable[Sequence[Postponed]]]


class NoticeStore(Protocol):
    """Keeps notices."""

    async def carry_out(self, kinds: Sequence[str], *, limit: int, work: Work) -> int:
        """Take notices of these kinds that are due, in order, and have `work` done on them.

        They are kept from others until `work` returns. What it returns is postponed, the
        rest is deleted; when anything goes wrong all of them stay as they are.

        Returns:
            How many were taken.
        """

    async def until_due(self, kinds: Sequence[str]) -> timedelta | None:
        """After what time a notice of these kinds is due; None when there is none."""


class Relay:
    """Carries out notices until it is drained.

    Notices of one kind about one task are carried out one after the other, in order; one
    that fails keeps those behind it that were taken with it waiting as well. Notices of
    kinds without a handler are left alone: another version of the executor may know them.
    """

    def __init__(
        self,
        store: NoticeStore,
        handlers: Mapping[str, Handler],
        metrics: RelayMetrics,
        *,
        batch: int,
        every_seconds: float,
        rng: random.Random | None = None,
    ) -> None:
        self._store = store
        self._handlers = handlers
        self._kinds = sorted(handlers)
        self._metrics = metrics
        self._batch = batch
        self._every_seconds = every_seconds
        self._rng = rng or random.Random()  # noqa: S311 - spreads retries, keeps no secret
        self._nudged = asyncio.Event()
        self._stopping = False
        self._idle = asyncio.Event()
        self._idle.set()

    def nudge(self) -> None:
        """Look for notices now: a commit has left some."""
        self._nudged.set()

    async def run(self) -> None:
        """Carry out notices until `drain`; a turn that fails is repeated."""
        self._idle.clear()
        try:
            while not self._stopping:
                self._nudged.clear()
                wait = await self._turn()
                if wait:
                    with suppress(TimeoutError):
                        async with asyncio.timeout(wait):
                            await self._nudged.wait()
        finally:
            self._idle.set()

    async def drain(self) -> None:
        """Take nothing new, and wait until what was taken is carried out."""
        self._stopping = True
        self._nudged.set()
        await self._idle.wait()

    async def _turn(self) -> float:
        """Carry out what is due; return for how long to wait then, in seconds."""
        try:
            wait = await self._store.until_due(self._kinds)
            if wait is None:
                return self._every_seconds
            if wait > timedelta(0):
                return min(wait.total_seconds(), self._every_seconds)
            taken = await self._store.carry_out(self._kinds, limit=self._batch, work=self._work)
        except Exception as error:  # noqa: BLE001 - Postgres may be away; try again
            logger.warning("carrying out notices failed", extra={"cause": repr(error)})
            return self._every_seconds
        return 0 if taken else min(HELD_SECONDS, self._every_seconds)

    async def _work(self, notices: Sequence[Notice]) -> Sequence[Postponed]:
        lines: dict[tuple[str, UUID], list[Notice]] = defaultdict(list)
        for notice in notices:
            lines[notice.kind, notice.task_id].append(notice)
        postponed = await asyncio.gather(*(self._line(line) for line in lines.values()))
        return [each for line in postponed for each in line]

    async def _line(self, notices: Sequence[Notice]) -> Sequence[Postponed]:
        """Carry out notices one after the other; return those from the first failure on."""
        for place, notice in enumerate(notices):
            if await self._carry_out(notice):
                continue
            by = self._backoff(notice.attempts)
            return [
                Postponed(notice, by, tried=True),
                *(Postponed(behind, by, tried=False) for behind in notices[place + 1 :]),
            ]
        return ()

    async def _carry_out(self, notice: Notice) -> bool:
        try:
            async with asyncio.timeout(HANDLER_SECONDS):
                await self._handlers[notice.kind](notice)
        except Exception as error:  # noqa: BLE001 - it is tried again
            logger.warning(
                "a notice could not be carried out",
                extra={
                    "notice": notice.notice_id,
                    "kind": notice.kind,
                    "task_id": str(notice.task_id),
                    "attempts": notice.attempts + 1,
                    "cause": repr(error),
                },
            )
            self._metrics.postponed(notice.kind)
            return False
        self._metrics.carried_out(notice.kind, datetime.now(UTC) - notice.created_at)
        return True

    def _backoff(self, attempts: int) -> timedelta:
        # A notice may fail for ever.
        span: timedelta = min(FIRST_BACKOFF * 2 ** min(attempts, MAX_DOUBLINGS), LONGEST_BACKOFF)
        return span * self._rng.uniform(0.5, 1.0)
