"""Fixtures of the executor's tests."""

import uuid
from collections.abc import AsyncIterator, Iterator

import pytest

from gateway.testing import free_ports
from stepwire.db import migrate, open_pool
from stepwire.stack.postgres import PostgresServer
from stepwire.testing.postgres import TEMPLATE, fresh_database
from tests.integration.executor_svc.executor_mesh import Client, Mesh, running_mesh


@pytest.fixture(scope="session")
async def executor_template(postgres: PostgresServer) -> str:
    """A database with the executor's tables, to be copied; each folder of tests has its own."""
    name = f"executor_template_{uuid.uuid4().hex[:12]}"
    postgres.run_sql(f"CREATE DATABASE {name} TEMPLATE {TEMPLATE}")
    async with open_pool(postgres.url(name), application_name="test") as pool:
        await migrate(pool, package="executor_svc", schema="executor")
    return name


@pytest.fixture
def database_url(postgres: PostgresServer, executor_template: str) -> Iterator[str]:
    """The URL of a database of the test's own, in which the executor's tables are empty."""
    with fresh_database(postgres, template=executor_template) as url:
        yield url


@pytest.fixture(scope="session")
async def shared_mesh(postgres: PostgresServer, rabbitmq_url: str) -> AsyncIterator[Mesh]:
    """An executor with one worker for all tests that only look at their own tasks."""
    namespace = f"test-{uuid.uuid4().hex[:12]}"
    with fresh_database(postgres) as url:
        async with running_mesh(url, rabbitmq_url, namespace) as mesh:
            (mesh.router_port,) = free_ports(1)
            async with mesh.worker(router_target=f"127.0.0.1:{mesh.router_port}"):
                yield mesh


@pytest.fixture
def client(shared_mesh: Mesh) -> Client:
    """A client of the shared executor, as a tenant of the test's own."""
    return shared_mesh.client.of(f"tenant-{uuid.uuid4().hex[:12]}")


@pytest.fixture
async def mesh(database_url: str, rabbitmq_url: str, mq_namespace: str) -> AsyncIterator[Mesh]:
    """An executor of the test's own, with a database of its own and no worker yet."""
    async with running_mesh(database_url, rabbitmq_url, mq_namespace) as running:
        yield running
