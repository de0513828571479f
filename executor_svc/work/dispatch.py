"""A worker's main loop side: claim what messages name, run it, record what came of it.

An actor's thread hands the steps of a message over and returns, so that the message is
acknowledged; from there on the record knows who runs what. Claims that arrive together
share one statement, and so do settlements; what follows a settlement in the same session
comes back with it and goes on here.
"""

import asyncio
import logging
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Protocol
from uuid import UUID

from executor_svc.engine.outcomes import Waits
from executor_svc.engine.ports import Effects, LimitStore, Settled, StepStore, Want
from executor_svc.engine.records import Attempt, EventBatch, Phase, StepAddress, StepRef
from executor_svc.engine.scope import Memo
from executor_svc.engine.state_machine import (
    MAX_CLAIMS,
    Settlement,
    settle,
    settle_undo,
    settle_wait,
)
from executor_svc.metrics import WorkerMetrics
from executor_svc.queues.stats import QueueStats
from executor_svc.waking.announce import Announcer
from executor_svc.waking.window import Window
from executor_svc.work.flow import Flow
from executor_svc.work.held import Held
from executor_svc.work.patience import outlast
from executor_svc.work.runner import Acquire, Ended
from executor_svc.work.slots import Slots
from executor_svc.work.starts import Starts
from stepwire.api.executor.v1.task_pb2 import TaskEventType
from stepwire.batcher import Batcher
from stepwire.errors import StepwireError
from stepwire.failpoints import failpoint
from stepwire.telemetry import sampled_trace_id

logger = logging.getLogger(__name__)

# How the event begins that says so.
CANCELLED = f'[{TaskEventType.TASK_EVENT_TYPE_TASK_CANCELLED},"",'

# So many steps that become ready together are published whatever waits in their queue.
FEW_STEPS = 64
# A worker that runs so many attempts has much to do.
BUSY_ATTEMPTS = 64


class Session(Protocol):
    """Which worker session is alive."""

    @property
    def session_id(self) -> UUID | None:
        """The session; None while there is none."""


class Runner(Protocol):
    """Runs attempts."""

    def run_now(self, attempt: Attempt, memo: Memo) -> Ended | None:
        """Run an attempt that needs no I/O; None for one that does."""

    async def run(self, attempt: Attempt, memo: Memo, acquire: Acquire) -> Ended | None:
        """Run an attempt; whatever goes wrong in it is an outcome.

        None when its step waits for a place under its limit.
        """


class Dispatcher:
    """Runs the steps of one worker process."""

    def __init__(
        self,
        *,
        store: StepStore,
        limits: LimitStore,
        runner: Runner,
        announcer: Announcer,
        session: Session,
        slots: Slots,
        window: Window,
        metrics: WorkerMetrics,
        stats: QueueStats,
        max_batch: int = 256,
    ) -> None:
        self._store = store
        self._limits = limits
        self._runner = runner
        self._announcer = announcer
        self._session = session
        self._slots = slots
        self._window = window
        self._metrics = metrics
        self._stats = stats
        self._rng = random.Random()  # noqa: S311 - jitter
        self._draining = False
        self._loop = asyncio.get_running_loop()
        self._held: set[Held] = set()
        # Steps whose claim is under way.
        self._claiming: frozenset[StepAddress] = frozenset()
        # Of those held, the ones that asked for a place under a limit.
        self._limited: dict[StepAddress, Held] = {}
        self._idle = asyncio.Event()
        self._idle.set()
        self._starts = Starts(store, announcer, is_ours=self._is_ours, on_end=self._end_late)
        # Looks into the record that are under way.
        self._looks: set[asyncio.Task[None]] = set()
        self._claims: Flow[StepRef] = Flow("claim", self._claim, max_batch=max_batch)
        self._settlements: Flow[tuple[Held, Settlement]] = Flow(
            "settle", self._settle, max_batch=max_batch
        )
        self._wants: Batcher[tuple[UUID, Want], bool] = Batcher(
            "limit", self._acquire, max_batch=max_batch
        )

    def offer(self, refs: Sequence[StepRef]) -> None:
        """Take steps that a message named; each holds a slot already."""
        self._claims.put(refs)

    def decline(self, refs: Sequence[StepRef]) -> None:
        """Send steps on that a message named, but that hold no slot."""
        self._announcer.announce(Effects(ready=refs), again=True)

    def cancelled(self, batches: Sequence[EventBatch]) -> None:
        """Stop the attempts that tasks have ended without; their results are refused anyway.

        That a task was cancelled is final. One that has failed may have been retried since:
        only the record knows which of its attempts are over.
        """
        final = {batch.task_id for batch in batches if CANCELLED in batch.events}
        self._stop(lambda held: held.attempt.task.task_id in final)
        failed = {batch.task_id for batch in batches} - final
        doubtful = [held for held in self._held if held.attempt.task.task_id in failed]
        if doubtful:
            look = asyncio.create_task(self._stop_lost(doubtful), name="look")
            self._looks.add(look)
            look.add_done_callback(self._looks.discard)

    def session_lost(self, session_id: UUID) -> None:
        """Stop the session's attempts: their steps belong to others now.

        A signal handler may call it: hence no logging.
        """
        self._stop(lambda held: held.session_id == session_id)

    def _stop(self, which: Callable[[Held], bool]) -> None:
        for held in [each for each in self._held if which(each)]:
            if held.task is not None:
                held.task.cancel()

    def retire(self) -> None:
        """Start nothing new from here on, and continue with nothing."""
        self._draining = True

    async def drain(self, timeout_seconds: float) -> None:
        """Let running attempts finish, and continue with nothing; stop what is left."""
        self.retire()
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._claims.drain()
                await self._idle.wait()
        except TimeoutError:
            self._stop(lambda _: True)
        await self._settlements.drain()

    async def reconcile(self, *, older_than: timedelta) -> None:
        """Give back what the record says this session runs, but it does not; stop the reverse."""
        session_id = self._session.session_id
        if session_id is None:
            return
        latest = self._loop.time() - older_than.total_seconds()
        await self._stop_lost([held for held in self._held if held.begun <= latest])
        effects = await self._store.give_back_unknown(
            session_id,
            lambda: self._claiming.union(held.address for held in self._held),
            older_than=older_than,
        )
        if effects.ready:
            logger.warning("steps were given back", extra={"steps": len(effects.ready)})
        self._announcer.announce(effects)

    async def _stop_lost(self, which: Sequence[Held]) -> None:
        """Stop those of some attempts that are not the session's any more, by the record.

        A step may be cancelled, or lose its attempt, without a word to its worker.
        """
        session_id = self._session.session_id
        asked = [held for held in which if held.runs and held.session_id == session_id]
        if session_id is None or not asked:
            return
        try:
            ours = await self._store.still_runs(session_id, [held.attempt for held in asked])
        except StepwireError as error:
            logger.warning("attempts were not looked for", extra={"cause": str(error)})
            return
        lost = {held for held, runs in zip(asked, ours, strict=True) if not runs}
        self._stop(lambda held: held in lost)

    async def _claim(self, refs: Sequence[StepRef]) -> None:
        claimed = 0
        try:
            session_id = self._session.session_id
            if self._draining:
                # Their message is gone by now: give another worker one.
                self.decline(refs)
            elif session_id is not None:
                # Without a session a message would come back here at once, and again; the
                # sweeper has more time.
                await failpoint("claim.before")
                self._claiming = frozenset(StepAddress(ref.task_id, ref.step_id) for ref in refs)
                attempts = await self._store.claim(session_id, refs)
                claimed = len(attempts)
                self._metrics.claimed(len(refs), claimed)
                self._stats.claimed(attempts, datetime.now(UTC))
                for attempt in attempts:
                    self._begin(session_id, attempt, Memo())
        except StepwireError as error:
            # The steps stay READY in the record, and the sweeper publishes them again.
            logger.warning(
                "steps were not claimed", extra={"steps": len(refs), "cause": str(error)}
            )
        finally:
            self._claiming = frozenset()
            self._slots.free(len(refs) - claimed)

    def _begin(self, session_id: UUID, attempt: Attempt, memo: Memo) -> None:
        """Run an attempt that holds a slot."""
        if session_id != self._session.session_id:
            # What a lost session holds belongs to others.
            self._slots.free(1)
            return
        if attempt.phase is Phase.PLACED:
            self._withdraw(StepAddress(attempt.task.task_id, attempt.step_id))
        held = Held(session_id, attempt, memo, self._loop.time())
        self._held.add(held)
        self._idle.clear()
        ended = self._runner.run_now(attempt, memo)
        if ended is not None:
            self._end(held, ended)
            return
        if attempt.phase <= Phase.PLACED:
            # What comes back from a wait has started before.
            self._starts.add(held)
        held.task = asyncio.create_task(self._run(held), name=f"step:{attempt.step_id}")

    def _withdraw(self, address: StepAddress) -> None:
        """Stop who asked for a place for a step that has waited for it since.

        He may not know: where the answer was lost he asks again, and finds that the step runs
        and has its place.
        """
        held = self._limited.get(address)
        if held is not None and held.task is not None:
            held.task.cancel()

    async def _ask(self, held: Held, want: Want) -> bool:
        self._limited[held.address] = held
        return await self._wants.submit((held.session_id, want))

    async def _run(self, held: Held) -> None:
        ended = None
        try:
            ended = await self._runner.run(held.attempt, held.memo, partial(self._ask, held))
        except Exception:
            # The step stays recorded as running; `reconcile` gives it back.
            logger.exception("a step was dropped")
        finally:
            if ended is None:
                self._let_go(held)
        if ended is not None:
            self._end(held, ended)

    def _end_late(self, held: Held) -> None:
        """Go on with the end of an attempt that had to wait for its start."""
        assert held.ended is not None
        self._end(held, held.ended)

    def _end(self, held: Held, ended: Ended) -> None:
        if held.announced is None:
            # Its start is being recorded; its end comes behind it.
            held.ended = ended
            return
        self._metrics.finished(
            ended.kind,
            ended.result,
            self._loop.time() - held.begun,
            trace_id=sampled_trace_id(held.attempt.task.traceparent),
        )
        held.attempt = ended.attempt
        try:
            settlement = self._settlement(held, ended)
        except Exception:
            # The step stays recorded as running; `reconcile` gives it back.
            logger.exception("a step was dropped")
            self._let_go(held)
            return
        self._settlements.put([(held, settlement)])

    def _settlement(self, held: Held, ended: Ended) -> Settlement:
        # A worker that has little to do leaves a fork to others as well; one that has much
        # would only send messages to workers that have as much.
        claims = MAX_CLAIMS if len(self._held) >= BUSY_ATTEMPTS else 1
        if self._draining:
            claims = 0
        attempt, outcome = ended.attempt, ended.outcome
        if ended.graph is None:
            assert isinstance(outcome, Waits)
            return settle_wait(attempt, outcome)
        if attempt.ordinal < 0:
            return settle_undo(attempt, outcome, rng=self._rng, claims=claims)
        return settle(
            ended.graph,
            attempt,
            outcome,
            now=datetime.now(UTC),
            rng=self._rng,
            claims=claims,
            announced=bool(held.announced),
        )

    def _let_go(self, held: Held) -> None:
        """Forget an attempt and free its slot."""
        if held in self._held:
            self._held.discard(held)
            if self._limited and self._limited.get(held.address) is held:
                del self._limited[held.address]
            self._slots.free(1)
            if not self._held:
                self._idle.set()

    async def _settle(self, batch: Sequence[tuple[Held, Settlement]]) -> None:
        by_session: dict[UUID, list[tuple[Held, Settlement]]] = defaultdict(list)
        for held, settlement in batch:
            by_session[held.session_id].append((held, settlement))
        for session_id, each in by_session.items():
            await self._settle_of(session_id, each)

    async def _settle_of(self, session_id: UUID, batch: Sequence[tuple[Held, Settlement]]) -> None:
        await failpoint("settle.before")
        settlements = [settlement for _, settlement in batch]
        publish = self._may_publish(settlements)
        try:
            settled, effects = await outlast(
                lambda: self._store.settle(session_id, settlements, publish=publish),
                as_long_as=partial(self._is_ours, session_id),
            )
        except StepwireError as error:
            logger.warning("results were not recorded", extra={"cause": str(error)})
            for held, _ in batch:
                self._let_go(held)
            return
        except Exception as error:
            if len(batch) == 1:
                # The step stays recorded as running; `reconcile` gives it back.
                logger.exception("a result cannot be recorded", exc_info=error)
                self._let_go(batch[0][0])
                return
            # One of them cannot be recorded; the others must not suffer for it.
            for each in batch:
                await self._settle_of(session_id, [each])
            return
        held_back = () if publish else {ref.queue for ref in effects.ready}
        self._announcer.announce(effects, held=held_back)
        self._go_on(session_id, batch, settled)

    def _is_ours(self, session_id: UUID) -> bool:
        return self._session.session_id == session_id

    def _may_publish(self, settlements: Sequence[Settlement]) -> bool:
        """Say whether what becomes ready may be published at once: a fan-out may have to wait."""
        counts = Counter(
            step.queue
            for settlement in settlements
            for step in settlement.next
            if not step.claim and not step.open
        )
        return all(
            count <= FEW_STEPS or self._window.allows(queue, count)
            for queue, count in counts.items()
        )

    def _go_on(
        self, session_id: UUID, batch: Sequence[tuple[Held, Settlement]], settled: Settled
    ) -> None:
        """Let go of what has ended, and begin what follows it here."""
        memos: dict[UUID, Memo] = {}
        for (held, settlement), accepted in zip(batch, settled.accepted, strict=True):
            if not accepted:
                _warn_refused(settlement.attempt)
                continue
            _remember(held.memo, settlement)
            memos[held.attempt.task.task_id] = held.memo
        self._slots.add(len(settled.started))
        self._stats.continued(settled.started)
        now = self._loop.time()
        for held, settlement in batch:
            self._stats.finished(
                held.attempt.queue,
                busy_seconds=now - held.begun,
                failed=settlement.failure is not None,
            )
            self._let_go(held)
        for attempt in settled.started:
            self._begin(session_id, attempt, memos[attempt.task.task_id])

    async def _acquire(self, batch: Sequence[tuple[UUID, Want]]) -> Sequence[bool | BaseException]:
        granted: list[bool | BaseException] = [False] * len(batch)
        by_session: dict[UUID, list[int]] = defaultdict(list)
        for place, (session_id, _) in enumerate(batch):
            by_session[session_id].append(place)
        for session_id, places in by_session.items():
            wants = [batch[place][1] for place in places]
            try:
                given, effects = await outlast(
                    partial(self._limits.acquire, session_id, wants),
                    as_long_as=partial(self._is_ours, session_id),
                )
            except StepwireError as error:
                # What a session was denied that is over is no concern of the next one.
                for place in places:
                    granted[place] = error
                continue
            self._announcer.announce(effects)
            for place, each in zip(places, given, strict=True):
                granted[place] = each
        return granted


def _remember(memo: Memo, settlement: Settlement) -> None:
    attempt, output = settlement.attempt, settlement.output
    if output is not None and attempt.item is None:
        memo[attempt.step_id] = output.data


def _warn_refused(attempt: Attempt) -> None:
    logger.warning(
        "a result was refused: the step is no longer this attempt's",
        extra={
            "task_id": str(attempt.task.task_id),
            "step_id": attempt.step_id,
            "attempt": attempt.attempt,
        },
    )
