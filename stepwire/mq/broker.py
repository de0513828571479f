"""Dramatiq's broker over RabbitMQ, as Stepwire uses it.

Dramatiq carries messages and runs their actors; it neither retries nor delays nor limits
time, since the state machine in Postgres decides all that. Its queues are classic durable
ones.
"""

import time
from collections.abc import Sequence
from typing import Any

import dramatiq
import orjson
from dramatiq.broker import Consumer
from dramatiq.brokers.rabbitmq import RabbitmqBroker
from dramatiq.brokers.stub import StubBroker
from dramatiq.errors import BrokerConnectionError
from pika.exceptions import AMQPError

from stepwire.ids import uuid7
from stepwire.mq.amqp import rabbitmq_unavailable
from stepwire.mq.consumer import QueueConsumer


def open_broker(url: str) -> dramatiq.Broker:
    """Make Dramatiq's broker for `url`; an empty URL gives the broker inside this process.

    It connects when it is first used.
    """
    return _rabbitmq(url) if url else StubBroker(middleware=[])


class _Broker(RabbitmqBroker):
    """Dramatiq's, with consumers of ours, and none for the queues of delayed messages."""

    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 5000) -> Consumer:
        self.declare_queue(queue_name, ensure=True)
        return QueueConsumer(
            self.parameters,
            queue_name,
            prefetch=prefetch,
            look_seconds=timeout / 1000,
            on_missing=lambda: self.queues_pending.add(queue_name),
        )

    def emit_after(self, signal: str, *args: Any, **kwargs: Any) -> None:
        # Upon it, Dramatiq's worker would start a thread with a connection for the queue.
        if signal != "declare_delay_queue":
            super().emit_after(signal, *args, **kwargs)


def _rabbitmq(url: str) -> RabbitmqBroker:
    return _Broker(url=url, middleware=[], confirm_delivery=True)


def declare_queues(url: str, names: Sequence[str]) -> None:
    """Declare Dramatiq queues, so that messages for them are kept before a worker comes.

    Blocks: call it in a thread.

    Raises:
        StepwireError: DEPENDENCY_UNAVAILABLE, when RabbitMQ cannot be reached.
    """
    broker = _rabbitmq(url)
    try:
        for name in names:
            broker.declare_queue(name, ensure=True)
    except (BrokerConnectionError, AMQPError) as error:
        raise rabbitmq_unavailable(error) from error
    finally:
        broker.close()


def encode_message(*, queue: str, actor: str, argument: object) -> bytes:
    """Return a Dramatiq message as it travels, for an actor of one argument."""
    return orjson.dumps(
        {
            "queue_name": queue,
            "actor_name": actor,
            "args": [argument],
            "kwargs": {},
            "options": {},
            "message_id": str(uuid7()),
            "message_timestamp": time.time_ns() // 1_000_000,
        }
    )
