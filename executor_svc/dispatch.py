"""A worker's main loop side: claim what messages name, run it, record what came of it.

An actor's thread hands the steps of a message over and returns, so that the message is
acknowledged; from there on the record knows who runs what. Claims that arrive together
share one statement, and so do settlements.
"""

import asyncio
import logging
import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Protocol
from uuid import UUID

from executor_svc.announce import Announcer
from executor_svc.graph import Graph
from executor_svc.metrics import WorkerMetrics
from executor_svc.patience import outlast
from executor_svc.ports import Effects, Settled, StepStore
from executor_svc.records import Attempt, EventBatch, StepRef
from executor_svc.slots import Slots
from executor_svc.state_machine import Outcome, Settlement, settle
from stepwire.batcher import Batcher
from stepwire.errors import StepwireError

logger = logging.getLogger(__name__)

Held = tuple[UUID, Attempt]
"""A session and an attempt that it runs."""


class Session(Protocol):
    """Which worker session is alive."""

    @property
    def session_id(self) -> UUID | None:
        """The session; None while there is none."""


class Memo(dict[str, bytes]):
    """Outputs by step name, as JSON, that the steps which follow need not read again."""


class Runner(Protocol):
    """Runs attempts."""

    async def run(self, attempt: Attempt, memo: Memo) -> Outcome:
        """Run an attempt; whatever goes wrong in it is an outcome."""

    async def graph(self, graph_hash: bytes) -> Graph:
        """Return the compiled graph of a task."""


class Dispatcher:
    """Runs the steps of one worker process."""

    def __init__(
        self,
        *,
        store: StepStore,
        runner: Runner,
        announcer: Announcer,
        session: Session,
        slots: Slots,
        metrics: WorkerMetrics,
        max_batch: int = 256,
    ) -> None:
        self._store = store
        self._runner = runner
        self._announcer = announcer
        self._session = session
        self._slots = slots
        self._metrics = metrics
        self._rng = random.Random()  # noqa: S311 - jitter
        self._draining = False
        self._workers: dict[asyncio.Task[None], Held | None] = {}
        self._claims: Batcher[StepRef, Held | None] = Batcher(
            "claim", self._claim, max_batch=max_batch
        )
        self._settlements: Batcher[tuple[UUID, Settlement], Settled] = Batcher(
            "settle", self._settle, max_batch=max_batch
        )

    def offer(self, refs: Sequence[StepRef]) -> None:
        """Take steps that a message named; each holds a slot already."""
        for ref in refs:
            worker = asyncio.create_task(self._work(ref), name=f"step:{ref.step_id}")
            self._workers[worker] = None
            worker.add_done_callback(self._done)

    def decline(self, refs: Sequence[StepRef]) -> None:
        """Send steps on that a message named, but that hold no slot."""
        self._announcer.announce(Effects(ready=refs))

    def cancelled(self, batches: Sequence[EventBatch]) -> None:
        """Stop the attempts of tasks that were cancelled; their results are refused anyway."""
        tasks = {batch.task_id for batch in batches}
        self._stop(lambda _, attempt: attempt.task.task_id in tasks)

    def session_lost(self, session_id: UUID) -> None:
        """Stop the session's attempts: their steps belong to others now."""
        logger.warning("attempts are stopped", extra={"session_id": str(session_id)})
        self._stop(lambda held_by, _: held_by == session_id)

    def _stop(self, which: Callable[[UUID, Attempt], bool]) -> None:
        for worker, held in list(self._workers.items()):
            if held is not None and which(*held):
                worker.cancel()

    async def drain(self, timeout_seconds: float) -> None:
        """Let running attempts finish, and continue with nothing; stop what is left."""
        self._draining = True
        if self._workers:
            await asyncio.wait(list(self._workers), timeout=timeout_seconds)
        for worker in list(self._workers):
            worker.cancel()
        await self._settlements.drain()

    async def reconcile(self, *, older_than: timedelta) -> None:
        """Give back what the record says this session runs, but it does not."""
        session_id = self._session.session_id
        if session_id is None:
            return
        known = [
            (attempt.task.task_id, attempt.step_id)
            for _, attempt in filter(None, self._workers.values())
        ]
        effects = await self._store.give_back_unknown(session_id, known, older_than=older_than)
        if effects.ready:
            logger.warning("steps were given back", extra={"steps": len(effects.ready)})
        self._announcer.announce(effects)

    def _done(self, worker: asyncio.Task[None]) -> None:
        self._workers.pop(worker, None)
        self._slots.free()
        if not worker.cancelled() and (error := worker.exception()) is not None:
            # The step stays recorded as running; `reconcile` gives it back.
            logger.error("a step was dropped", exc_info=error)

    async def _work(self, ref: StepRef) -> None:
        worker = asyncio.current_task()
        assert worker is not None
        held = await self._claims.submit(ref)
        memo = Memo()
        # What a lost session holds belongs to others.
        while held is not None and held[0] == self._session.session_id:
            self._workers[worker] = held
            session_id, attempt = held
            started = datetime.now(UTC)
            outcome = await self._runner.run(attempt, memo)
            graph = await self._runner.graph(attempt.task.graph_hash)
            self._metrics.finished(
                graph.steps[attempt.ordinal], outcome, datetime.now(UTC) - started
            )
            settlement = settle(
                graph,
                attempt,
                outcome,
                now=datetime.now(UTC),
                rng=self._rng,
                may_continue=not self._draining,
            )
            settled = await self._settlements.submit((session_id, settlement))
            if not settled.accepted:
                logger.warning(
                    "a result was refused: the step is no longer this attempt's",
                    extra={
                        "task_id": str(attempt.task.task_id),
                        "step_id": attempt.step_id,
                        "attempt": attempt.attempt,
                    },
                )
            held = None if settled.continued is None else (session_id, settled.continued)

    async def _claim(self, refs: Sequence[StepRef]) -> Sequence[Held | None]:
        session_id = self._session.session_id
        if self._draining:
            # Their message is gone by now: give another worker one.
            self.decline(refs)
            return [None] * len(refs)
        if session_id is None:
            # A message would come back here at once, and again; the sweeper has more time.
            return [None] * len(refs)
        attempts, effects = await self._store.claim(session_id, refs)
        self._metrics.claimed(refs, attempts)
        self._announcer.announce(effects)
        return [None if attempt is None else (session_id, attempt) for attempt in attempts]

    async def _settle(
        self, batch: Sequence[tuple[UUID, Settlement]]
    ) -> Sequence[Settled | BaseException]:
        by_session: dict[UUID, list[int]] = defaultdict(list)
        for place, (session_id, _) in enumerate(batch):
            by_session[session_id].append(place)
        results: list[Settled | BaseException] = [Settled(accepted=False)] * len(batch)
        for session_id, places in by_session.items():
            settled = await self._settle_of(session_id, [batch[place][1] for place in places])
            for place, each in zip(places, settled, strict=True):
                results[place] = each
        return results

    async def _settle_of(
        self, session_id: UUID, settlements: Sequence[Settlement]
    ) -> Sequence[Settled | BaseException]:
        try:
            settled, effects = await outlast(
                lambda: self._store.settle(session_id, settlements),
                as_long_as=lambda: self._session.session_id == session_id,
            )
        except StepwireError as error:
            return [error] * len(settlements)
        except Exception as error:  # noqa: BLE001 - handed to the callers
            if len(settlements) == 1:
                return [error]
            # One of them cannot be recorded; the others must not suffer for it.
            return [
                result
                for settlement in settlements
                for result in await self._settle_of(session_id, [settlement])
            ]
        self._announcer.announce(effects)
        return settled
