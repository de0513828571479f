"""Dramatiq's broker over RabbitMQ, as Stepwire uses it.

Dramatiq carries messages and runs their actors; it neither retries nor delays nor limits
time, since the state machine in Postgres decides all that. Its queues are classic durable
ones.
"""

from collections.abc import Sequence

import dramatiq
from dramatiq.brokers.rabbitmq import RabbitmqBroker
from dramatiq.brokers.stub import StubBroker


def open_broker(url: str) -> dramatiq.Broker:
    """Make Dramatiq's broker for `url`; an empty URL gives the broker inside this process.

    It connects when it is first used.
    """
    return _rabbitmq(url) if url else StubBroker(middleware=[])


def _rabbitmq(url: str) -> RabbitmqBroker:
    return RabbitmqBroker(url=url, middleware=[], confirm_delivery=True)


def declare_queues(url: str, names: Sequence[str]) -> None:
    """Declare Dramatiq queues, so that messages for them are kept before a worker comes.

    Blocks: call it in a thread.

    Raises:
        ConnectionError: RabbitMQ cannot be reached.
    """
    broker = _rabbitmq(url)
    try:
        for name in names:
            broker.declare_queue(name, ensure=True)
    finally:
        broker.close()


def encode_message(*, queue: str, actor: str, argument: object) -> bytes:
    """Return a Dramatiq message as it travels, for an actor of one argument."""
    message: dramatiq.Message[None] = dramatiq.Message(
        queue_name=queue, actor_name=actor, args=(argument,), kwargs={}, options={}
    )
    return message.encode()
