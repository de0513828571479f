"""A worker: takes messages from RabbitMQ, runs steps, records what came of them.

It runs as a process of its own (`python -m executor_svc.worker`), or, where there is no
RabbitMQ, inside the executor's process.
"""

import asyncio
import logging
import os
import signal
import socket
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path

import asyncpg
import dramatiq

from executor_svc.engine.ports import EventBus, SessionStore, Wakeups, WorkerProfile
from executor_svc.graphs.cache import ACCEPTED, GraphCache
from executor_svc.metrics import ExecutorMetrics, TaskMetrics, WorkerMetrics
from executor_svc.queues.stats import start_stats
from executor_svc.queues.store import PostgresQueueStore
from executor_svc.settings import WorkerSettings
from executor_svc.steps.subtask import Subtasks
from executor_svc.store import (
    PostgresLimitStore,
    PostgresSessionStore,
    PostgresStepStore,
    PostgresTaskStore,
    open_record,
)
from executor_svc.subscriptions.app import open_interest
from executor_svc.subscriptions.store import PostgresSubscriptionStore
from executor_svc.tasks.creator import Creator
from executor_svc.tasks.intake import Intake
from executor_svc.tasks.tally import Tally
from executor_svc.tasks.tasks import Tasks
from executor_svc.waking.announce import Announcer
from executor_svc.waking.limits import Admitter
from executor_svc.waking.messaging import AmqpEventBus, AmqpWakeups
from executor_svc.waking.window import Window
from executor_svc.work.actors import Actors
from executor_svc.work.dispatch import Dispatcher
from executor_svc.work.heartbeats import Heartbeats
from executor_svc.work.lease import Lease
from executor_svc.work.runner import RunLimits, StepRunner
from executor_svc.work.slots import Slots
from executor_svc.work.step_kinds import open_kinds
from executor_svc.work.subtasks import RecordSubtasks
from executor_svc.workflows.resolver import Resolver
from executor_svc.workflows.store import PostgresWorkflowStore
from stepwire.db import check_migrated
from stepwire.environment import read_settings
from stepwire.lifecycle import StartError, Stopping, run_process
from stepwire.mq import AmqpConnection, Topology, open_broker
from stepwire.sdk.functions import default_registry
from stepwire.starting import start
from stepwire.version import installed_version

logger = logging.getLogger(__name__)

STOP_ACTORS_SECONDS = 2.0
# Most subtasks that share one commit.
SUBTASK_BATCH = 256


class Worker:
    """A worker that runs; `drain` lets it finish what it has."""

    def __init__(
        self,
        actors: Actors,
        dispatcher: Dispatcher,
        admitter: Admitter,
        announcer: Announcer,
        lease: Lease,
        *,
        slots: Slots,
    ) -> None:
        self._actors = actors
        self._dispatcher = dispatcher
        self._admitter = admitter
        self._announcer = announcer
        self._lease = lease
        self._slots = slots
        self._retiring: asyncio.Task[None] | None = None

    def retire(self) -> None:
        """Take nothing new from here on; what runs goes on, and the process stays."""
        if self._retiring is None:
            logger.info("worker takes nothing new")
            self._dispatcher.retire()
            self._retiring = asyncio.create_task(
                self._actors.stop(timeout_seconds=STOP_ACTORS_SECONDS), name="retire"
            )

    def check_lease(self) -> None:
        """Stop what runs if the lease has run out; see `Lease.check`."""
        self._lease.check()

    async def until_idle(self, seconds: float) -> None:
        """Wait until nothing has been in flight for so long, from now on."""
        left = seconds
        while left > 0:
            await asyncio.sleep(left)
            left = seconds - self._slots.idle_seconds

    async def drain(self, *, timeout_seconds: float) -> None:
        """Take nothing new, let running attempts finish, and stop those that do not."""
        end = time.monotonic() + timeout_seconds
        self.retire()
        assert self._retiring is not None
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_seconds / 2):
                await asyncio.shield(self._retiring)
        await self._dispatcher.drain(max(0.0, end - time.monotonic()))
        await self._admitter.drain()
        await self._announcer.drain()


async def start_worker(
    settings: WorkerSettings,
    stack: AsyncExitStack,
    *,
    broker: dramatiq.Broker,
    wakeups: Wakeups,
    bus: EventBus,
) -> Worker:
    """Start a worker; what it opens is closed by `stack`.

    Raises:
        StartError: a module of step functions cannot be imported.
        StepwireError: DEPENDENCY_UNAVAILABLE, when Postgres cannot be reached, or no executor
            has brought the record up to date yet.
    """
    try:
        default_registry.load(settings.step_modules)
    except ImportError as error:
        raise StartError(
            f"STEPWIRE_WORKER_STEP_MODULES: {error}; modules are looked for in the folder in "
            f"which the process was started, {Path.cwd()}, and on PYTHONPATH"
        ) from error
    # Functions that are not coroutines run in the loop's default executor.
    asyncio.get_running_loop().set_default_executor(
        ThreadPoolExecutor(settings.python_threads, thread_name_prefix="step")
    )
    name = settings.name or f"{socket.gethostname()}:{os.getpid()}"
    pool = await stack.enter_async_context(
        open_record(
            settings.postgres_url,
            application_name=f"stepwire worker {name}",
            max_size=settings.pool_size,
            metrics_name="worker",
        )
    )
    await check_migrated(pool, package="executor_svc", schema="executor")
    store = PostgresStepStore(
        pool,
        republish_after=settings.republish_after,
        inline_bytes=settings.inline_payload_bytes,
    )
    limits = PostgresLimitStore(pool, republish_after=settings.republish_after)
    slots = Slots(settings.slots)
    stats = await start_stats(PostgresQueueStore(pool), stack, every_seconds=settings.stats_seconds)
    announcer = Announcer(wakeups, bus, stats)
    announcer.listen(Tally(TaskMetrics()).heard)
    admitter = Admitter(limits, announcer)
    announcer.listen(lambda effects: admitter.admit(effects.released))
    window = Window(wakeups, max_steps=settings.max_published_steps, max_bundle=settings.max_bundle)
    stack.callback(window.close)
    subtasks = await _open_subtasks(settings, pool, announcer, window, stack)
    kinds = await open_kinds(
        settings, stack, targets=PostgresSubscriptionStore(pool), subtasks=subtasks
    )
    heartbeats = Heartbeats(store, lambda: lease.session_id)
    runner = StepRunner(
        store,
        kinds,
        heartbeats,
        limits=RunLimits(
            max_output_bytes=settings.max_payload_bytes,
            max_items=settings.max_items,
            max_losses=settings.max_losses,
            function_wait_seconds=settings.function_wait_seconds,
        ),
    )

    @asynccontextmanager
    async def open_sessions() -> AsyncIterator[SessionStore]:
        url, lease_name = settings.postgres_url, f"stepwire lease {name}"
        async with open_record(url, application_name=lease_name, max_size=1) as own:
            yield PostgresSessionStore(own)

    lease = Lease(
        open_sessions,
        WorkerProfile(name, settings.queues, settings.slots, installed_version()),
        lease=timedelta(seconds=settings.lease_seconds),
        margin=timedelta(seconds=settings.lease_seconds * settings.lease_margin_share),
        renew_every=timedelta(seconds=settings.renew_seconds),
        busy=lambda: slots.used,
        on_lost=lambda session_id: dispatcher.session_lost(session_id),  # noqa: PLW0108 - made below
        on_drain=lambda: worker.retire(),  # noqa: PLW0108 - made below
    )
    metrics = WorkerMetrics(used_slots=lambda: slots.used, slots=slots.capacity)
    dispatcher = Dispatcher(
        store=store,
        limits=limits,
        runner=runner,
        announcer=announcer,
        session=lease,
        slots=slots,
        window=window,
        metrics=metrics,
        stats=stats,
    )
    stack.push_async_callback(lease.stop)
    await lease.start()
    await bus.subscribe_cancelled(dispatcher.cancelled)
    reconciling = asyncio.create_task(
        _reconcile(
            dispatcher,
            every_seconds=settings.reconcile_seconds,
            older_than=timedelta(seconds=settings.reconcile_age_seconds),
        ),
        name="reconcile",
    )
    stack.callback(reconciling.cancel)
    beating = asyncio.create_task(heartbeats.run(), name="heartbeats")
    stack.callback(beating.cancel)
    actors = Actors(
        broker,
        Topology(settings.mq_namespace),
        settings.queues,
        slots=slots,
        offer=dispatcher.offer,
        decline=dispatcher.decline,
    )
    worker = Worker(actors, dispatcher, admitter, announcer, lease, slots=slots)
    await actors.start()
    return worker


async def _open_subtasks(
    settings: WorkerSettings,
    pool: asyncpg.Pool,
    announcer: Announcer,
    window: Window,
    stack: AsyncExitStack,
) -> Subtasks:
    """Open what subtask steps need: the ways by which tasks are accepted and read."""
    store = PostgresTaskStore(
        pool,
        republish_after=settings.republish_after,
        inline_bytes=settings.inline_payload_bytes,
    )
    graphs = GraphCache()
    interest = await open_interest(pool, stack)
    creator = Creator(
        store,
        announcer,
        ExecutorMetrics(),
        window,
        max_batch=SUBTASK_BATCH,
        max_waiting=settings.slots,
        has_subscriptions=interest.has,
    )
    intake = Intake(
        Resolver(PostgresWorkflowStore(pool), graphs),
        graphs,
        store,
        # The graph of a subtask was checked with the one that it stands in.
        limits=ACCEPTED,
        max_payload_bytes=settings.max_payload_bytes,
    )
    return RecordSubtasks(intake, creator, Tasks(store, graphs))


async def _reconcile(
    dispatcher: Dispatcher, *, every_seconds: float, older_than: timedelta
) -> None:
    while True:
        await asyncio.sleep(every_seconds)
        try:
            await dispatcher.reconcile(older_than=older_than)
        except Exception as error:  # noqa: BLE001 - Postgres may be away; try again
            logger.warning("reconciling failed", extra={"cause": repr(error)})


async def _leave_when_idle(worker: Worker, stopping: Stopping, *, after_seconds: float) -> None:
    await worker.until_idle(after_seconds)
    logger.info("worker has nothing to do and ends")
    stopping.set()


def run(settings: WorkerSettings) -> None:
    """Run a worker process until it is told to stop, or has been idle for as long as is set."""

    async def build(stack: AsyncExitStack) -> Worker:
        if not settings.rabbitmq_url:
            raise StartError(
                "STEPWIRE_WORKER_RABBITMQ_URL is empty: a worker process needs RabbitMQ"
            )
        topology = Topology(settings.mq_namespace)
        amqp = await stack.enter_async_context(
            AmqpConnection(settings.rabbitmq_url, name="stepwire worker")
        )
        return await start_worker(
            settings,
            stack,
            broker=open_broker(settings.rabbitmq_url),
            wakeups=AmqpWakeups(amqp, topology, max_bundle=settings.max_bundle),
            bus=AmqpEventBus(amqp, topology),
        )

    async def main(stack: AsyncExitStack, stopping: Stopping) -> None:
        worker = await start(build, stack, stopping, within_seconds=settings.start_seconds)
        if worker is None:
            return
        # The first thing that happens when the process goes on after it was stopped.
        signal.signal(signal.SIGCONT, lambda *_: worker.check_lease())
        logger.info("worker is ready", extra={"queues": list(settings.queues)})
        if settings.exit_when_idle_seconds:
            leaving = asyncio.create_task(
                _leave_when_idle(worker, stopping, after_seconds=settings.exit_when_idle_seconds),
                name="leave",
            )
            stack.callback(leaving.cancel)
        await stopping.wait()
        await worker.drain(timeout_seconds=stopping.drain_seconds_left())

    run_process("worker", settings, main)


if __name__ == "__main__":
    run(read_settings(WorkerSettings))
