"""How messages are taken and acknowledged, against a real RabbitMQ."""

import contextlib

import pika
import pytest
from dramatiq.errors import ConnectionClosed

from stepwire.mq import encode_message, open_broker
from stepwire.testing.poll import eventually_blocking

PREFETCH = 4
LOOK_MILLISECONDS = 200


class Queue:
    """A queue, and what another connection sees of it."""

    def __init__(self, url, name):
        self.name = name
        self._connection = pika.BlockingConnection(pika.URLParameters(url))
        self._channel = self._connection.channel()

    def send(self, *arguments):
        for argument in arguments:
            self.send_body(encode_message(queue=self.name, actor="a", argument=argument))

    def send_body(self, body):
        self._channel.basic_publish("", self.name, body)

    def waiting(self, suffix=""):
        """How many messages wait, those that a consumer holds not counted."""
        declared = self._channel.queue_declare(self.name + suffix, passive=True)
        return declared.method.message_count

    def delete(self):
        self._channel.queue_delete(self.name)

    def close(self):
        self._connection.close()


@pytest.fixture
def broker(rabbitmq_url):
    broker = open_broker(rabbitmq_url)
    yield broker
    broker.close()


@pytest.fixture
def queue(broker, rabbitmq_url, mq_namespace):
    broker.declare_queue(mq_namespace, ensure=True)
    queue = Queue(rabbitmq_url, mq_namespace)
    yield queue
    queue.close()


@contextlib.contextmanager
def consuming(broker, queue):
    consumer = broker.consume(queue.name, prefetch=PREFETCH, timeout=LOOK_MILLISECONDS)
    try:
        yield consumer
    finally:
        consumer.close()


def take(consumer, count):
    """Take messages, without waiting for more than there are."""
    taken = []
    while len(taken) < count:
        message = next(consumer)
        if message is not None:
            taken.append(message)
    return taken


def arguments(messages):
    return [message.args[0] for message in messages]


def test_what_is_handled_is_gone_when_the_consumer_closes(broker, queue):
    queue.send(1, 2)
    with consuming(broker, queue) as consumer:
        for message in take(consumer, 2):
            consumer.ack(message)
    assert queue.waiting() == 0


def test_what_is_not_handled_goes_back(broker, queue):
    queue.send(1, 2, 3)
    with consuming(broker, queue) as consumer:
        first, _, third = take(consumer, 3)
        consumer.ack(third)
        consumer.ack(first)
    # The third is handled, but only what has nothing open before it is acknowledged.
    assert queue.waiting() == 2
    with consuming(broker, queue) as consumer:
        assert arguments(take(consumer, 2)) == [2, 3]


def test_a_consumer_goes_on_when_all_that_it_may_hold_is_handled_while_it_waits(broker, queue):
    queue.send(*range(3 * PREFETCH))
    with consuming(broker, queue) as consumer:
        got = []
        while len(got) < 3 * PREFETCH:
            message = next(consumer)
            assert message is not None, "it waited for what RabbitMQ held back"
            got += arguments([message])
            consumer.ack(message)
    assert got == list(range(3 * PREFETCH))
    assert queue.waiting() == 0


def test_messages_handled_late_and_out_of_order_make_room_for_others(broker, queue):
    queue.send(*range(2 * PREFETCH))
    with consuming(broker, queue) as consumer:
        held = take(consumer, PREFETCH)
        assert next(consumer) is None
        for message in reversed(held):
            consumer.ack(message)
        assert arguments(take(consumer, PREFETCH)) == list(range(PREFETCH, 2 * PREFETCH))


def test_a_refused_message_is_dead_and_the_others_are_not(broker, queue):
    queue.send(1, 2, 3)
    with consuming(broker, queue) as consumer:
        first, second, third = take(consumer, 3)
        consumer.ack(first)
        consumer.nack(second)
        consumer.ack(third)
    assert queue.waiting() == 0
    eventually_blocking(lambda: queue.waiting(".XQ") == 1, 10)


@pytest.mark.parametrize("body", [b"", b"\xff", b"{}", b"[1]", b"null"])
def test_what_is_no_message_is_put_aside(broker, queue, body):
    queue.send_body(body)
    queue.send(1)
    with consuming(broker, queue) as consumer:
        (message,) = take(consumer, 1)
        consumer.ack(message)
        assert arguments([message]) == [1]
    eventually_blocking(lambda: queue.waiting(".XQ") == 1, 10)
    assert queue.waiting() == 0


def test_a_message_of_a_lost_connection_is_not_taken_for_another_ones(broker, queue):
    queue.send(1)
    with consuming(broker, queue) as before:
        (stale,) = take(before, 1)
    with consuming(broker, queue) as consumer:
        (again,) = take(consumer, 1)
        consumer.ack(stale)
        assert again.tag == stale.tag
    assert queue.waiting() == 1


def test_a_queue_that_is_gone_is_declared_again(broker, queue):
    with consuming(broker, queue) as consumer:
        assert next(consumer) is None
    queue.delete()
    consumer = broker.consume(queue.name, prefetch=PREFETCH, timeout=LOOK_MILLISECONDS)
    with pytest.raises(ConnectionClosed):
        next(consumer)
    consumer.close()
    with consuming(broker, queue) as consumer:
        queue.send(1)
        assert arguments(take(consumer, 1)) == [1]


def test_nothing_that_listens():
    broker = open_broker("amqp://127.0.0.1:1/")
    broker.queues.add("q")
    with pytest.raises(ConnectionClosed):
        broker.consume("q")
