"""Postgres and RabbitMQ as parts."""

import asyncio
from functools import partial

from stepwire.stack import postgres, rabbitmq
from stepwire.stack.part import Part
from stepwire.stack.ports import DEFAULTS
from stepwire.stack.postgres import PostgresServer
from stepwire.stack.probes import port_open
from stepwire.stack.rabbitmq import RabbitServer


def postgres_part(server: PostgresServer, *, database_name: str) -> Part:
    """Returns Postgres as a part: ready when the database answers a query."""
    return Part(
        name="postgres",
        prepare=server.prepare,
        command=server.command,
        is_ready=partial(postgres.is_ready_with_database, server, database_name),
        ports={"postgres": server.port},
        port_variables={"postgres": DEFAULTS["postgres"].variable},
        stop_seconds=30.0,
    )


def rabbitmq_part(server: RabbitServer) -> Part:
    """Returns RabbitMQ as a part: ready when a login succeeds."""
    return Part(
        name="rabbitmq",
        prepare=server.prepare,
        command=server.command,
        is_ready=partial(_accepts_login, server),
        ports={"amqp": server.port},
        port_variables={"amqp": DEFAULTS["rabbitmq"].variable},
        start_seconds=120.0,
        stop_seconds=20.0,
    )


async def _accepts_login(server: RabbitServer) -> bool:
    if not await port_open(server.port):
        return False
    return await asyncio.to_thread(rabbitmq.is_ready, server.url)
