"""The servers that the stack and the tests run: Postgres with pgvector, RabbitMQ."""

import asyncpg
import pika

from stepwire.stack.postgres import is_ready as postgres_is_ready
from stepwire.stack.rabbitmq import is_ready as rabbitmq_is_ready


async def test_a_fresh_database_has_pgvector_and_nothing_of_another_test(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    await connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
    assert await connection.fetchval("SELECT '[1,2]'::vector <-> '[1,4]'::vector") == 2.0
    assert await connection.fetchval("SELECT count(*) FROM pg_stat_user_tables") == 0
    await connection.close()


async def test_postgres_is_durable_and_local(postgres_url: str) -> None:
    connection = await asyncpg.connect(postgres_url)
    for setting, value in [("fsync", "on"), ("listen_addresses", "127.0.0.1")]:
        assert await connection.fetchval(f"SHOW {setting}") == value
    assert (await connection.fetchval("SHOW server_version")).startswith("18.")
    await connection.close()
    assert await postgres_is_ready(postgres_url)


def test_rabbitmq_passes_a_message(rabbitmq_url: str, mq_namespace: str) -> None:
    assert rabbitmq_is_ready(rabbitmq_url)
    connection = pika.BlockingConnection(pika.URLParameters(rabbitmq_url))
    channel = connection.channel()
    channel.queue_declare(mq_namespace, durable=True)
    channel.confirm_delivery()
    channel.basic_publish("", mq_namespace, b"hello")
    assert channel.basic_get(mq_namespace, auto_ack=True)[2] == b"hello"
    connection.close()
