"""Wakeups and events over RabbitMQ, or inside one process when there is no RabbitMQ.

What is published while the last messages are not confirmed waits, and shares the next
ones: alone, a step or the end of a task leaves at once; under load, messages grow instead
of becoming more.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Coroutine, Iterable, Sequence
from contextlib import suppress
from itertools import chain
from typing import Any

import dramatiq
from dramatiq.brokers.stub import StubBroker

from executor_svc.engine.records import EventBatch, StepRef
from executor_svc.waking.wire import bundles, decode_events, encode_events, ends_task
from stepwire.batcher import Batcher, Linger
from stepwire.errors import StepwireError
from stepwire.mq import AmqpConnection, Topology, encode_message
from stepwire.pace import Pace

logger = logging.getLogger(__name__)

CANCELLED = "cancelled"
PROGRESS = "progress"
NOTICES = "notices"
# Transitions whose wakeups or events may wait while RabbitMQ is away or slow.
MAX_WAITING = 20_000
# Tasks whose events travel in one message.
MAX_TASKS = 1000
# Up to so many wakeups a second, or in a burst, steps that are ready together are spread over
# several messages; beyond it, one message after the other does that.
SPREAD_PER_SECOND = 40
SPREAD_BURST = 20
# How long events wait for the end of a task, to go with it.
LINGER_SECONDS = 0.01
OnEvents = Callable[[Sequence[EventBatch]], None]


class AmqpWakeups:
    """See `executor_svc.engine.ports.Wakeups`."""

    def __init__(self, amqp: AmqpConnection, topology: Topology, *, max_bundle: int) -> None:
        self._amqp = amqp
        self._topology = topology
        self._max_bundle = max_bundle
        self._outlets: dict[str, _Outlet] = {}

    async def publish(self, refs: Sequence[StepRef]) -> None:
        by_queue: dict[str, list[StepRef]] = defaultdict(list)
        for ref in refs:
            by_queue[ref.queue].append(ref)
        await _all(self._publish(queue, each) for queue, each in by_queue.items())

    async def _publish(self, queue: str, refs: Sequence[StepRef]) -> None:
        outlet = self._outlets.get(queue)
        if outlet is None:
            outlet = self._outlets[queue] = _Outlet(
                self._amqp,
                queue=self._topology.queue(queue),
                actor=self._topology.actor(queue),
                max_bundle=self._max_bundle,
            )
        try:
            await outlet.publish(refs)
        except StepwireError as error:
            # The steps stay READY in the record, and the sweeper publishes them again.
            logger.warning(
                "wakeups were not confirmed; the sweeper will repeat them",
                extra={"queue": queue, "steps": len(refs), "cause": str(error)},
            )

    async def backlog(self, queue: str) -> int:
        return await self._amqp.backlog(self._topology.queue(queue))


class _Outlet:
    """What goes to one queue."""

    def __init__(self, amqp: AmqpConnection, *, queue: str, actor: str, max_bundle: int) -> None:
        self._amqp = amqp
        self._queue = queue
        self._actor = actor
        self._max_bundle = max_bundle
        self._pace = Pace(per_second=SPREAD_PER_SECOND, burst=SPREAD_BURST)
        self._batcher: Batcher[Sequence[StepRef], None] = Batcher(
            f"wakeups of {queue}", self._send, max_batch=MAX_WAITING, max_waiting=MAX_WAITING
        )

    async def publish(self, refs: Sequence[StepRef]) -> None:
        """Send messages for steps; return once the broker has them.

        Raises:
            StepwireError: DEPENDENCY_UNAVAILABLE or OVERLOADED; they may have been sent.
        """
        await self._batcher.submit(refs)

    async def _send(self, waiting: Sequence[Sequence[StepRef]]) -> Sequence[BaseException | None]:
        refs = list(chain.from_iterable(waiting))
        spread = self._pace.is_rare()
        messages = [
            encode_message(queue=self._queue, actor=self._actor, argument=bundle)
            for _, bundle in bundles(refs, max_bundle=self._max_bundle, spread=spread)
        ]
        await _all(self._amqp.publish("", self._queue, body, durable=False) for body in messages)
        return [None] * len(waiting)


class AmqpEventBus:
    """See `executor_svc.engine.ports.EventBus`."""

    def __init__(self, amqp: AmqpConnection, topology: Topology) -> None:
        self._amqp = amqp
        self._topology = topology
        self._batchers = {key: self._batcher(key) for key in (CANCELLED, PROGRESS)}
        # By the keys that a subscription binds: all callbacks share its messages.
        self._callbacks: dict[tuple[str, ...], list[OnEvents]] = {}

    async def publish(self, batches: Sequence[EventBatch]) -> None:
        await self._publish(PROGRESS, batches)

    async def publish_cancelled(self, batches: Sequence[EventBatch]) -> None:
        await self._publish(CANCELLED, batches)

    async def subscribe(self, callback: OnEvents) -> None:
        await self._bind((CANCELLED, PROGRESS), callback)

    async def subscribe_cancelled(self, callback: OnEvents) -> None:
        await self._bind((CANCELLED,), callback)

    async def publish_notices(self) -> None:
        with suppress(StepwireError):
            # Whoever carries them out looks by itself before long.
            await self._send(NOTICES, ())

    async def subscribe_notices(self, callback: Callable[[], None]) -> None:
        await self._bind((NOTICES,), lambda _: callback())

    async def _publish(self, key: str, batches: Sequence[EventBatch]) -> None:
        if not batches:
            return
        try:
            await self._batchers[key].submit(batches)
        except StepwireError as error:
            logger.warning(
                "events were not confirmed; watchers will read them from the record",
                extra={"tasks": len(batches), "cause": str(error)},
            )

    def _batcher(self, key: str) -> Batcher[Sequence[EventBatch], None]:
        async def send(waiting: Sequence[Sequence[EventBatch]]) -> Sequence[BaseException | None]:
            batches = list(chain.from_iterable(waiting))
            await _all(
                self._send(key, batches[start : start + MAX_TASKS])
                for start in range(0, len(batches), MAX_TASKS)
            )
            return [None] * len(waiting)

        return Batcher(
            f"{key} events",
            send,
            max_batch=MAX_WAITING,
            max_waiting=MAX_WAITING,
            linger=Linger(LINGER_SECONDS, lambda batches: any(map(ends_task, batches))),
        )

    async def _send(self, key: str, batches: Sequence[EventBatch]) -> None:
        await self._amqp.publish(self._topology.events, key, encode_events(batches), durable=False)

    async def _bind(self, keys: tuple[str, ...], callback: OnEvents) -> None:
        callbacks = self._callbacks.get(keys)
        if callbacks is not None:
            callbacks.append(callback)
            return
        callbacks = self._callbacks[keys] = [callback]

        def deliver(body: bytes) -> None:
            batches = decode_events(body)
            for each in callbacks:
                each(batches)

        await self._amqp.subscribe(self._topology.events, keys, deliver)


class LocalWakeups:
    """Wakeups through Dramatiq's broker inside this process."""

    def __init__(self, broker: StubBroker, topology: Topology, *, max_bundle: int) -> None:
        self._broker = broker
        self._topology = topology
        self._max_bundle = max_bundle

    async def publish(self, refs: Sequence[StepRef]) -> None:
        for queue, bundle in bundles(refs, max_bundle=self._max_bundle):
            self._broker.enqueue(
                dramatiq.Message(
                    queue_name=self._topology.queue(queue),
                    actor_name=self._topology.actor(queue),
                    args=(bundle,),
                    kwargs={},
                    options={},
                )
            )

    async def backlog(self, queue: str) -> int:
        return int(self._broker.queues[self._topology.queue(queue)].qsize())


class LocalEventBus:
    """Events inside this process."""

    def __init__(self) -> None:
        self._all: list[OnEvents] = []
        self._cancelled: list[OnEvents] = []
        self._notices: list[Callable[[], None]] = []

    async def publish(self, batches: Sequence[EventBatch]) -> None:
        for callback in self._all:
            callback(batches)

    async def publish_cancelled(self, batches: Sequence[EventBatch]) -> None:
        for callback in (*self._all, *self._cancelled):
            callback(batches)

    async def subscribe(self, callback: OnEvents) -> None:
        self._all.append(callback)

    async def subscribe_cancelled(self, callback: OnEvents) -> None:
        self._cancelled.append(callback)

    async def publish_notices(self) -> None:
        for callback in self._notices:
            callback()

    async def subscribe_notices(self, callback: Callable[[], None]) -> None:
        self._notices.append(callback)


async def _all(sendings: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Wait for all; a single one, which is the rule, needs no task of its own."""
    first, *others = sendings
    if others:
        await asyncio.gather(first, *others)
    else:
        await first
