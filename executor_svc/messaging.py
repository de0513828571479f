"""Wakeups and events over RabbitMQ, or inside one process when there is no RabbitMQ.

A wakeup is a Dramatiq message with a bundle of [task_id, step_id, attempt]; an event
message is a list of [task_id, last_cursor, recorded time, events].
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from uuid import UUID

import dramatiq
import orjson
from dramatiq.brokers.stub import StubBroker

from executor_svc.records import EventBatch, StepRef
from stepwire.errors import StepwireError
from stepwire.mq import AmqpConnection, Topology, encode_message

logger = logging.getLogger(__name__)

CANCELLED = "cancelled"
PROGRESS = "progress"
MAX_ATTEMPT = 2**31 - 1
OnEvents = Callable[[Sequence[EventBatch]], None]


def bundles(
    refs: Sequence[StepRef], *, max_bundle: int
) -> Iterator[tuple[str, list[tuple[str, str, int]]]]:
    """Split steps into the contents of messages: (queue, bundle).

    A few steps travel alone, so that several workers can take them; a burst travels in
    bundles of at most `max_bundle`, so that it shares the cost of its messages.
    """
    by_queue: dict[str, list[tuple[str, str, int]]] = defaultdict(list)
    for ref in refs:
        by_queue[ref.queue].append((str(ref.task_id), ref.step_id, ref.attempt))
    for queue, steps in by_queue.items():
        # The square root balances the number of messages against their size.
        size = min(max_bundle, max(1, int(len(steps) ** 0.5)))
        for start in range(0, len(steps), size):
            yield queue, steps[start : start + size]


def read_bundle(bundle: object, *, queue: str) -> list[StepRef]:
    """Read the content of a message from `queue`.

    Raises:
        ValueError: it is not a bundle.
    """
    if not isinstance(bundle, list | tuple):
        raise ValueError(f"a bundle is a list, not {type(bundle).__name__}")  # noqa: TRY004 - one kind of fault
    return [_read_ref(entry, queue) for entry in bundle]


def _read_ref(entry: object, queue: str) -> StepRef:
    match entry:
        case [str(task_id), str(step_id), int(attempt)]:
            if 1 <= attempt <= MAX_ATTEMPT and step_id.isprintable():
                return StepRef(UUID(task_id), step_id, attempt, queue)
    raise ValueError(f"{entry!r} does not name an attempt")


def encode_events(batches: Sequence[EventBatch]) -> bytes:
    """Return the body of an event message."""
    return orjson.dumps(
        [
            [str(batch.task_id), batch.last_cursor, batch.recorded_at.timestamp(), batch.events]
            for batch in batches
        ]
    )


def decode_events(body: bytes) -> Sequence[EventBatch]:
    """Read the body of an event message."""
    return [
        EventBatch(UUID(task_id), cursor, datetime.fromtimestamp(recorded, UTC), events)
        for task_id, cursor, recorded, events in orjson.loads(body)
    ]


class AmqpWakeups:
    """See `executor_svc.ports.Wakeups`."""

    def __init__(self, amqp: AmqpConnection, topology: Topology, *, max_bundle: int) -> None:
        self._amqp = amqp
        self._topology = topology
        self._max_bundle = max_bundle

    async def publish(self, refs: Sequence[StepRef]) -> None:
        await asyncio.gather(
            *(
                self._send(queue, bundle)
                for queue, bundle in bundles(refs, max_bundle=self._max_bundle)
            )
        )

    async def _send(self, queue: str, bundle: list[tuple[str, str, int]]) -> None:
        name = self._topology.queue(queue)
        body = encode_message(queue=name, actor=self._topology.actor(queue), argument=bundle)
        try:
            await self._amqp.publish("", name, body, durable=True)
        except StepwireError as error:
            # The steps stay READY in the record, and the sweeper publishes them again.
            logger.warning(
                "a wakeup was not confirmed; the sweeper will repeat it",
                extra={"queue": queue, "steps": len(bundle), "cause": str(error)},
            )

    async def backlog(self, queue: str) -> int:
        return await self._amqp.backlog(self._topology.queue(queue))


class AmqpEventBus:
    """See `executor_svc.ports.EventBus`."""

    def __init__(self, amqp: AmqpConnection, topology: Topology) -> None:
        self._amqp = amqp
        self._topology = topology

    async def publish(self, batches: Sequence[EventBatch], *, key: str = PROGRESS) -> None:
        if not batches:
            return
        try:
            await self._amqp.publish(
                self._topology.events, key, encode_events(batches), durable=False
            )
        except StepwireError as error:
            logger.warning(
                "events were not confirmed; watchers will read them from the record",
                extra={"tasks": len(batches), "cause": str(error)},
            )

    async def publish_cancelled(self, batches: Sequence[EventBatch]) -> None:
        await self.publish(batches, key=CANCELLED)

    async def subscribe(self, callback: OnEvents) -> None:
        await self._bind([CANCELLED, PROGRESS], callback)

    async def subscribe_cancelled(self, callback: OnEvents) -> None:
        await self._bind([CANCELLED], callback)

    async def _bind(self, keys: Sequence[str], callback: OnEvents) -> None:
        await self._amqp.subscribe(
            self._topology.events, keys, lambda body: callback(decode_events(body))
        )


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
