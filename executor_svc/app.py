"""Wiring of the executor service."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import timedelta
from functools import partial

import asyncpg
from dramatiq.brokers.stub import StubBroker

from executor_svc.engine.ports import EventBus, Wakeups
from executor_svc.graphs.cache import GraphCache
from executor_svc.graphs.compile import GraphLimits
from executor_svc.metrics import ExecutorMetrics, RelayMetrics, SweepMetrics, TaskMetrics
from executor_svc.queues import app as queues_app
from executor_svc.queues.stats import start_stats
from executor_svc.queues.store import PostgresQueueStore
from executor_svc.retention import app as retention_app
from executor_svc.schedules import app as schedules_app
from executor_svc.servicer import Domain, ExecutorServicer
from executor_svc.settings import ExecutorSettings, WorkerSettings
from executor_svc.store import (
    PostgresLimitStore,
    PostgresReleaseStore,
    PostgresSweepStore,
    PostgresTaskStore,
    open_record,
)
from executor_svc.store.notices import PostgresNoticeStore
from executor_svc.subscriptions import app as subscriptions_app
from executor_svc.tasks.bulk import Bulk
from executor_svc.tasks.creator import Creator
from executor_svc.tasks.events import EventHub
from executor_svc.tasks.family import CHILD_NOTICES, PARENT_NOTICES, Family
from executor_svc.tasks.forking import Forks
from executor_svc.tasks.intake import Intake
from executor_svc.tasks.recent import RecentTasks
from executor_svc.tasks.starter import TaskStarter
from executor_svc.tasks.steering import Steering
from executor_svc.tasks.tally import Tally
from executor_svc.tasks.tasks import Tasks
from executor_svc.tasks.watching import Watches
from executor_svc.waking.announce import Announcer
from executor_svc.waking.expiry import Expiry
from executor_svc.waking.limits import Admitter
from executor_svc.waking.messaging import AmqpEventBus, AmqpWakeups, LocalEventBus, LocalWakeups
from executor_svc.waking.relay import Handler, Relay
from executor_svc.waking.releaser import Releaser
from executor_svc.waking.sweeper import Sweeper
from executor_svc.waking.window import Window
from executor_svc.worker import Worker, start_worker
from executor_svc.workflows import app as workflows_app
from stepwire import rpc
from stepwire.api.executor.v1.executor_service_pb2 import DESCRIPTOR
from stepwire.api.executor.v1.executor_service_pb2_grpc import (
    add_ExecutorServiceServicer_to_server,
)
from stepwire.db import migrate
from stepwire.mq import AmqpConnection, Topology, declare_queues, open_broker

SERVICE = DESCRIPTOR.services_by_name["ExecutorService"].full_name
LOCAL_DRAIN_SECONDS = 5.0


async def build(settings: ExecutorSettings, stack: AsyncExitStack) -> Sequence[rpc.Service]:
    """Open what the executor needs and return its services."""
    pool = await stack.enter_async_context(
        open_record(
            settings.postgres_url,
            application_name="stepwire executor",
            max_size=settings.pool_size,
            metrics_name="executor",
        )
    )
    await migrate(pool, package="executor_svc", schema="executor")
    await PostgresQueueStore(pool).add(settings.queues)
    await retention_app.start(pool, settings, stack)
    worker = None
    if settings.rabbitmq_url:
        wakeups, bus = await _amqp(settings, stack)
    else:
        wakeups, bus, worker = await _local(settings, stack)
    stats = await start_stats(PostgresQueueStore(pool), stack, every_seconds=settings.stats_seconds)
    announcer = Announcer(wakeups, bus, stats)
    announcer.listen(Tally(TaskMetrics()).heard)
    window = Window(wakeups, max_steps=settings.max_published_steps, max_bundle=settings.max_bundle)
    stack.callback(window.close)
    graphs = GraphCache()
    limits = GraphLimits(
        max_steps=settings.max_steps,
        max_bytes=settings.max_graph_bytes,
        queues=frozenset(settings.queues),
    )
    resolver, workflows = workflows_app.wire(pool, graphs, limits=limits)
    interest = await subscriptions_app.open_interest(pool, stack)
    store = PostgresTaskStore(
        pool,
        republish_after=settings.republish_after,
        inline_bytes=settings.inline_payload_bytes,
    )
    hub, recent = EventHub(), RecentTasks()
    await bus.subscribe(recent.deliver)
    await bus.subscribe(hub.deliver)
    intake = Intake(
        resolver, graphs, store, limits=limits, max_payload_bytes=settings.max_payload_bytes
    )
    domain = _domain(
        settings,
        store,
        announcer,
        intake=intake,
        graphs=graphs,
        hub=hub,
        recent=recent,
        has_subscriptions=interest.has,
        window=window,
        on_held=lambda: releaser.nudge(),  # noqa: PLW0108 - made below
    )
    releaser, admitter = await _wake(
        settings,
        pool,
        stack,
        graphs=graphs,
        wakeups=wakeups,
        bus=bus,
        announcer=announcer,
        window=window,
    )
    starter = TaskStarter(domain.intake, domain.creator, domain.steering)
    subscriptions = subscriptions_app.wire(pool, starter, domain.tasks, interest, settings=settings)
    family = Family(store, announcer)
    relay = _relay(
        settings,
        pool,
        {
            subscriptions_app.NOTICES: subscriptions.carry_out,
            PARENT_NOTICES: family.wake_parent,
            CHILD_NOTICES: family.cancel_child,
        },
        stack,
    )
    # Most tasks end in a worker.
    await bus.subscribe_notices(relay.nudge)

    async def drain() -> None:
        domain.watches.close()
        # What it carries out may create tasks.
        await relay.drain()
        await domain.creator.drain()
        await admitter.drain()
        if worker is not None:
            await worker.drain(timeout_seconds=LOCAL_DRAIN_SECONDS)
        await announcer.drain()

    servicer = ExecutorServicer(
        domain,
        max_payload_bytes=settings.max_payload_bytes,
        max_batch_tasks=settings.max_batch_tasks,
        max_wait=timedelta(seconds=settings.max_wait_seconds),
    )
    return [
        rpc.Service(
            name=SERVICE,
            add=partial(add_ExecutorServiceServicer_to_server, servicer),
            drain=drain,
        ),
        workflows,
        await schedules_app.wire(pool, starter, bus, settings=settings, stack=stack),
        subscriptions.service,
        queues_app.wire(pool, domain.steering, settings, stack),
    ]


def _domain(
    settings: ExecutorSettings,
    store: PostgresTaskStore,
    announcer: Announcer,
    *,
    intake: Intake,
    graphs: GraphCache,
    hub: EventHub,
    recent: RecentTasks,
    has_subscriptions: Callable[[str], bool],
    window: Window,
    on_held: Callable[[], None],
) -> Domain:
    """Put together what the calls of ExecutorService lead to."""
    metrics = ExecutorMetrics()
    tasks = Tasks(store, graphs)
    steering = Steering(tasks, store, announcer)
    forks = Forks(tasks, store, announcer, metrics, has_subscriptions=has_subscriptions)
    return Domain(
        intake=intake,
        creator=Creator(
            store,
            announcer,
            metrics,
            window,
            max_batch=settings.create_batch,
            max_waiting=settings.create_waiting,
            recent=recent,
            has_subscriptions=has_subscriptions,
            on_held=on_held,
        ),
        tasks=tasks,
        watches=Watches(
            tasks, store, hub, recent, recheck=timedelta(seconds=settings.recheck_seconds)
        ),
        steering=steering,
        forks=forks,
        bulk=Bulk(store, steering, forks),
    )


async def _wake(
    settings: ExecutorSettings,
    pool: asyncpg.Pool,
    stack: AsyncExitStack,
    *,
    graphs: GraphCache,
    wakeups: Wakeups,
    bus: EventBus,
    announcer: Announcer,
    window: Window,
) -> tuple[Releaser, Admitter]:
    """Wake, from now on, what waits in the record: for its turn, for the clock, by mischance."""
    limits = PostgresLimitStore(pool, republish_after=settings.republish_after)
    releases = PostgresReleaseStore(pool, republish_after=settings.republish_after)
    admitter = Admitter(limits, announcer)
    announcer.listen(lambda effects: admitter.admit(effects.released))
    releaser = Releaser(
        releases, wakeups, window, queues=settings.queues, every_seconds=settings.sweep_seconds
    )
    sweeps = PostgresSweepStore(pool, republish_after=settings.republish_after)
    sweeper = Sweeper(
        sweeps,
        announcer,
        SweepMetrics(),
        expiry=Expiry(sweeps, graphs, announcer),
        limits=limits,
        releases=releases,
        window=window,
        queues=settings.queues,
        every_seconds=settings.sweep_seconds,
    )
    await bus.subscribe(releaser.observe)
    await bus.subscribe(sweeper.observe)
    for name, running in (("releaser", releaser.run()), ("sweeper", sweeper.run())):
        stack.callback(asyncio.create_task(running, name=name).cancel)
    return releaser, admitter


def _relay(
    settings: ExecutorSettings,
    pool: asyncpg.Pool,
    handlers: Mapping[str, Handler],
    stack: AsyncExitStack,
) -> Relay:
    """Carry out notices from now on, until the relay is drained."""
    relay = Relay(
        PostgresNoticeStore(pool),
        handlers,
        RelayMetrics(),
        batch=settings.relay_batch,
        every_seconds=settings.relay_seconds,
    )

    running = asyncio.create_task(relay.run(), name="relay")
    stack.callback(running.cancel)
    return relay


async def _amqp(settings: ExecutorSettings, stack: AsyncExitStack) -> tuple[Wakeups, EventBus]:
    topology = Topology(settings.mq_namespace)
    amqp = await stack.enter_async_context(
        AmqpConnection(settings.rabbitmq_url, name="stepwire executor")
    )
    await asyncio.to_thread(
        declare_queues, settings.rabbitmq_url, [topology.queue(queue) for queue in settings.queues]
    )
    wakeups = AmqpWakeups(amqp, topology, max_bundle=settings.max_bundle)
    return wakeups, AmqpEventBus(amqp, topology)


async def _local(
    settings: ExecutorSettings, stack: AsyncExitStack
) -> tuple[Wakeups, EventBus, Worker]:
    """Run one worker in this process, over Dramatiq's broker inside it."""
    topology = Topology(settings.mq_namespace)
    broker = open_broker("")
    assert isinstance(broker, StubBroker)
    wakeups = LocalWakeups(broker, topology, max_bundle=settings.max_bundle)
    bus = LocalEventBus()
    # The rest of the worker's settings come from its own variables.
    shared = {name: getattr(settings, name) for name in ("postgres_url", "queues", "mq_namespace")}
    worker = await start_worker(
        WorkerSettings(**shared), stack, broker=broker, wakeups=wakeups, bus=bus
    )
    return wakeups, bus, worker


def run(settings: ExecutorSettings) -> None:
    """Run the executor until it is told to stop."""
    rpc.run("executor", settings, partial(build, settings))
