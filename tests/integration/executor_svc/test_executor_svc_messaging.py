"""How many messages wakeups and events become, over a real RabbitMQ."""

import asyncio
from collections import Counter
from datetime import UTC, datetime

import orjson
import pika
import pytest

from executor_svc.engine.records import EventBatch, StepRef
from executor_svc.waking import messaging
from executor_svc.waking.messaging import AmqpEventBus, AmqpWakeups
from executor_svc.waking.wire import decode_events, read_bundle
from stepwire.api.executor.v1.task_pb2 import TaskEventType
from stepwire.ids import uuid7
from stepwire.mq import AmqpConnection, Topology, declare_queues
from stepwire.testing.poll import eventually

MAX_BUNDLE = 64
STARTED = TaskEventType.TASK_EVENT_TYPE_STEP_STARTED


@pytest.fixture
async def amqp(rabbitmq_url):
    async with AmqpConnection(rabbitmq_url, name="test") as connection:
        yield connection


@pytest.fixture
async def topology(rabbitmq_url, mq_namespace):
    topology = Topology(mq_namespace)
    queues = [topology.queue(queue) for queue in ("default", "llm")]
    await asyncio.to_thread(declare_queues, rabbitmq_url, queues)
    return topology


@pytest.fixture
def wakeups(amqp, topology):
    return AmqpWakeups(amqp, topology, max_bundle=MAX_BUNDLE)


def some_refs(count, *, queue="default"):
    return [StepRef(uuid7(), f"s{place}", 1, queue) for place in range(count)]


def bundles_of(url, topology, queue):
    """Take all messages of a queue; return the steps of each."""
    connection = pika.BlockingConnection(pika.URLParameters(url))
    channel = connection.channel()
    found = []
    while True:
        method, _, body = channel.basic_get(topology.queue(queue), auto_ack=True)
        if method is None:
            break
        (bundle,) = orjson.loads(body)["args"]
        found.append(read_bundle(bundle, queue=queue))
    connection.close()
    return found


async def taken(rabbitmq_url, topology, queue="default"):
    return await asyncio.to_thread(bundles_of, rabbitmq_url, topology, queue)


async def test_a_lone_step_is_a_message(wakeups, rabbitmq_url, topology):
    refs = some_refs(3)
    for ref in refs:
        await wakeups.publish([ref])
    assert await taken(rabbitmq_url, topology) == [[ref] for ref in refs]


async def test_what_many_publish_at_a_time_shares_messages(wakeups, rabbitmq_url, topology):
    refs = some_refs(400)
    await asyncio.gather(*(wakeups.publish([ref]) for ref in refs))
    bundles = await taken(rabbitmq_url, topology)
    assert len(bundles) <= 10
    assert max(map(len, bundles)) <= MAX_BUNDLE
    assert [ref for bundle in bundles for ref in bundle] == refs


async def test_steps_that_are_ready_together_are_spread_unless_messages_are_many(
    wakeups, rabbitmq_url, topology, monkeypatch
):
    monkeypatch.setattr(messaging, "SPREAD_PER_SECOND", 0.001)
    monkeypatch.setattr(messaging, "SPREAD_BURST", 2)
    for _ in range(4):
        await wakeups.publish(some_refs(9))
    sizes = [len(bundle) for bundle in await taken(rabbitmq_url, topology)]
    assert sizes == [3, 3, 3, 3, 3, 3, 9, 9]


async def test_each_queue_gets_its_own(wakeups, rabbitmq_url, topology):
    ours, theirs = some_refs(5), some_refs(5, queue="llm")
    mixed = [ref for pair in zip(ours, theirs, strict=True) for ref in pair]
    await wakeups.publish(mixed)
    for queue, refs in (("default", ours), ("llm", theirs)):
        found = await taken(rabbitmq_url, topology, queue)
        assert [ref for bundle in found for ref in bundle] == refs


def some_events(cursor, *, ends=False):
    kind = TaskEventType.TASK_EVENT_TYPE_TASK_SUCCEEDED if ends else STARTED
    return EventBatch(uuid7(), cursor, datetime.now(UTC), f'[[{kind},"s{cursor}",1]]')


async def test_events_of_many_commits_share_messages_and_keep_their_order(amqp, topology):
    bus, messages, received = AmqpEventBus(amqp, topology), [], []
    await amqp.subscribe(topology.events, ["progress"], messages.append)
    await bus.subscribe(received.extend)
    batches = [some_events(cursor, ends=cursor % 2 == 0) for cursor in range(1, 301)]
    await asyncio.gather(*(bus.publish([batch]) for batch in batches))
    await eventually(lambda: len(received) == len(batches))
    assert received == batches
    assert len(messages) <= 3
    assert [batch for body in messages for batch in decode_events(body)] == batches


async def test_events_wait_for_the_end_of_a_task(amqp, topology, monkeypatch):
    monkeypatch.setattr(messaging, "LINGER_SECONDS", 3600)
    bus, messages = AmqpEventBus(amqp, topology), []
    await amqp.subscribe(topology.events, ["progress"], messages.append)
    started, ended = some_events(1), some_events(2, ends=True)
    publishing = asyncio.create_task(bus.publish([started]))
    await asyncio.wait([publishing], timeout=0.05)
    assert not publishing.done()
    await bus.publish([ended])
    await publishing
    await eventually(lambda: messages)
    assert [decode_events(body) for body in messages] == [[started, ended]]


async def test_all_who_listen_get_every_event_once(amqp, topology):
    bus, first, second, cancelled = AmqpEventBus(amqp, topology), [], [], []
    await bus.subscribe(first.extend)
    await bus.subscribe(second.extend)
    await bus.subscribe_cancelled(cancelled.extend)
    progress, cancel = (
        EventBatch(uuid7(), 1, datetime.now(UTC), "[]"),
        EventBatch(uuid7(), 2, datetime.now(UTC), "[]"),
    )
    await bus.publish([progress])
    await bus.publish_cancelled([cancel])
    await eventually(lambda: len(first) == len(second) == 2 and cancelled == [cancel])
    for received in (first, second):
        assert Counter(batch.task_id for batch in received) == {
            progress.task_id: 1,
            cancel.task_id: 1,
        }
