"""Fixtures of the executor's tests."""

import uuid
from collections.abc import AsyncIterator

import pytest

from stepwire.stack.postgres import PostgresServer
from stepwire.testing.postgres import fresh_database
from tests.integration.executor_svc.executor_mesh import Client, Mesh, running_mesh


@pytest.fixture(scope="session")
async def shared_mesh(postgres: PostgresServer, rabbitmq_url: str) -> AsyncIterator[Mesh]:
    """An executor with one worker for all tests that only look at their own tasks."""
    namespace = f"test-{uuid.uuid4().hex[:12]}"
    with fresh_database(postgres) as url:
        async with running_mesh(url, rabbitmq_url, namespace) as mesh, mesh.worker():
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
