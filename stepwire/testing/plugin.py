"""The pytest plugin: fixtures for a real Postgres, a real RabbitMQ and a real Redis.

Every test process (every pytest-xdist worker) runs servers of its own, started when the
first test asks for them. What they keep lies in memory where the machine has plenty.
"""

import os
import uuid
from collections.abc import Iterator
from typing import NoReturn

import pytest

from stepwire.stack.postgres import PostgresServer
from stepwire.stack.rabbitmq import find_script
from stepwire.testing.postgres import fresh_database, postgres_server
from stepwire.testing.rabbitmq import rabbitmq_server
from stepwire.testing.redis import find_server, redis_server


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """Gives the server of this test process."""
    with postgres_server(in_memory=True) as server:
        yield server


@pytest.fixture(scope="session")
def postgres_url(postgres: PostgresServer) -> str:
    """Gives the URL of the server's database `postgres`, as superuser."""
    return postgres.url("postgres")


@pytest.fixture
def database_url(postgres: PostgresServer) -> Iterator[str]:
    """Gives the URL of a fresh database that has the extension pgvector."""
    with fresh_database(postgres) as url:
        yield url


@pytest.fixture(scope="session")
def rabbitmq_url() -> Iterator[str]:
    """Gives the URL of the RabbitMQ node of this test process.

    Without an installed rabbitmq-server the test is skipped, or fails where the
    environment variable CI is set.
    """
    script = find_script()
    if script is None:
        _do_without("rabbitmq-server is not installed (Debian: apt-get install rabbitmq-server)")
    with rabbitmq_server(script, in_memory=True) as server:
        yield server.url


@pytest.fixture
def mq_namespace() -> str:
    """Gives a prefix for queue and exchange names that no other test uses."""
    return f"test-{uuid.uuid4().hex[:12]}"


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """Gives the URL of the Redis or Valkey server of this test process.

    Without an installed one the test is skipped, or fails where the environment variable
    CI is set.
    """
    program = find_server()
    if program is None:
        _do_without("no Redis is installed (Debian: apt-get install valkey-server)")
    with redis_server(program) as server:
        yield server.url


def _do_without(reason: str) -> NoReturn:
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)
