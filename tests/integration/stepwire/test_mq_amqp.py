"""The AMQP connection against a real RabbitMQ."""

import asyncio

import pika
import pytest

from stepwire.errors import Reason, StepwireError
from stepwire.mq import AmqpConnection, Topology, declare_queues, encode_message, open_broker
from stepwire.testing.poll import eventually
from tests.integration.tcp_gate import gate_to


@pytest.fixture
async def amqp(rabbitmq_url):
    async with AmqpConnection(rabbitmq_url, name="test") as connection:
        yield connection


async def test_messages_reach_the_keys_that_they_have(amqp, mq_namespace):
    both, one = [], []
    await amqp.subscribe(mq_namespace, ["a", "b"], both.append)
    await amqp.subscribe(mq_namespace, ["b"], one.append)
    for key in ("a", "b", "c"):
        await amqp.publish(mq_namespace, key, key.encode(), durable=False)
    await eventually(lambda: len(both) == 2 and len(one) == 1)
    assert both == [b"a", b"b"]
    assert one == [b"b"]


async def test_a_callback_that_raises_does_not_end_the_subscription(amqp, mq_namespace, caplog):
    seen = []

    def take(body):
        seen.append(body)
        if body == b"bad":
            raise ValueError(body)

    await amqp.subscribe(mq_namespace, ["a"], take)
    for body in (b"good", b"bad", b"good again"):
        await amqp.publish(mq_namespace, "a", body, durable=False)
    await eventually(lambda: len(seen) == 3)
    assert "RabbitMQ went away" not in caplog.text


async def test_many_messages_wait_for_their_confirms_together(amqp, rabbitmq_url, mq_namespace):
    await asyncio.to_thread(declare_queues, rabbitmq_url, [mq_namespace])
    await asyncio.gather(*(amqp.publish("", mq_namespace, b"x", durable=True) for _ in range(1000)))
    assert await amqp.backlog(mq_namespace) == 1000
    assert not amqp._unconfirmed


async def test_asking_for_a_queue_that_is_not_there_does_no_harm(amqp, mq_namespace, caplog):
    """RabbitMQ closes the channel; the next call has a new one."""
    received = []
    await amqp.subscribe(mq_namespace, ["a"], received.append)
    missing = f"{mq_namespace}.missing"
    for _ in range(2):
        assert await asyncio.gather(*(amqp.backlog(missing) for _ in range(3))) == [0, 0, 0]
        await amqp.publish(mq_namespace, "a", b"x", durable=False)
    await eventually(lambda: len(received) == 2)
    assert "RabbitMQ went away" not in caplog.text


async def test_it_comes_back_after_the_connection_was_cut(rabbitmq_url, mq_namespace):
    received = []
    async with (
        gate_to(rabbitmq_url) as gate,
        AmqpConnection(gate.url, name="test") as amqp,
    ):
        await amqp.subscribe(mq_namespace, ["a"], received.append)
        for number in range(3):
            await gate.shut()
            publishing = asyncio.create_task(
                amqp.publish(mq_namespace, "a", b"%d" % number, durable=False)
            )
            await asyncio.wait([publishing], timeout=0)
            await gate.open()
            # What was on its way is refused or sent; what comes later is sent.
            await asyncio.wait([publishing])
            publishing.exception()
            await amqp.publish(mq_namespace, "a", b"after", durable=False)
            await eventually(lambda: received.count(b"after") == number + 1)  # noqa: B023


async def test_nothing_that_listens():
    with pytest.raises(StepwireError) as caught:
        async with AmqpConnection("amqp://127.0.0.1:1/", name="test"):
            pass
    assert caught.value.reason == Reason.DEPENDENCY_UNAVAILABLE


async def test_a_server_that_says_nothing():
    """It takes the connection and never speaks: no wait without end, nothing left behind."""
    closed = asyncio.Event()

    async def listen(reader, writer):
        await reader.read()
        closed.set()
        writer.close()

    server = await asyncio.start_server(listen, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        with pytest.raises(StepwireError) as caught:
            async with AmqpConnection(f"amqp://127.0.0.1:{port}/?socket_timeout=0.2", name="test"):
                pass
        assert caught.value.reason == Reason.DEPENDENCY_UNAVAILABLE
        await asyncio.wait_for(closed.wait(), 30)


def test_dramatiq_reads_what_we_encode(rabbitmq_url, mq_namespace):
    topology = Topology(mq_namespace)
    queue = topology.queue("default")
    declare_queues(rabbitmq_url, [queue])
    body = encode_message(queue=queue, actor=topology.actor("default"), argument=[["id", "a", 1]])
    connection = pika.BlockingConnection(pika.URLParameters(rabbitmq_url))
    connection.channel().basic_publish("", queue, body)
    connection.close()
    broker = open_broker(rabbitmq_url)
    broker.declare_queue(queue, ensure=True)
    consumer = broker.consume(queue, timeout=10_000)
    message = next(consumer)
    assert message.actor_name == f"{mq_namespace}.run_steps.default"
    assert list(message.args) == [[["id", "a", 1]]]
    consumer.ack(message)
    consumer.close()
    broker.close()
