"""RabbitMQ: the connection, the names of what stands in it, and Dramatiq's broker over it.

Messages only wake: Postgres is the record, and a lost or doubled message is harmless.
"""

from stepwire.mq.amqp import AmqpConnection
from stepwire.mq.broker import declare_queues, encode_message, open_broker
from stepwire.mq.topology import Topology

__all__ = ["AmqpConnection", "Topology", "declare_queues", "encode_message", "open_broker"]
