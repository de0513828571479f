"""A vector service that the tests of a process share; each test is a tenant of its own."""

import uuid
from collections.abc import AsyncIterator, Iterator
from typing import Final

import pytest
import pytest_asyncio
from vector_svc_harness import Client, serving, serving_models

from stepwire.rpc import call_context
from stepwire.stack.postgres import PostgresServer
from stepwire.testing.postgres import fresh_database

# Collections that want query samples have all of their searches kept, and at once.
SAMPLING: Final = {"query_sample_rate": 1.0, "query_sample_seconds": 0.05}


@pytest.fixture(scope="session")
def service_url(postgres: PostgresServer) -> Iterator[str]:
    """Gives the URL of the shared service's database."""
    with fresh_database(postgres) as url:
        yield url


@pytest_asyncio.fixture(scope="session")
async def service(service_url: str) -> AsyncIterator[Client]:
    async with serving(service_url, **SAMPLING) as made:
        yield made


@pytest.fixture
def tenant() -> Iterator[str]:
    """Makes the calls of a test those of a new tenant, and gives its id."""
    name = f"test-{uuid.uuid4().hex[:12]}"
    with call_context(tenant_id=name):
        yield name


@pytest.fixture
def client(service: Client, tenant: str) -> Client:
    """Gives the shared service, empty for the test's tenant."""
    return service


@pytest.fixture(scope="module")
def own_url(postgres: PostgresServer) -> Iterator[str]:
    """Gives the URL of a database that the tests of a module have for themselves."""
    with fresh_database(postgres) as url:
        yield url


@pytest_asyncio.fixture(scope="module")
async def own_service(own_url: str) -> AsyncIterator[Client]:
    async with serving(own_url) as made:
        yield made


@pytest.fixture
def alone(own_service: Client, tenant: str) -> Client:
    """As `client`, a service of the module's own, in whose database tests may do harm."""
    return own_service


@pytest_asyncio.fixture(scope="session")
async def reading_service(
    service_url: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Client]:
    folder = tmp_path_factory.mktemp("models")
    async with (
        serving_models(folder) as address,
        serving(service_url, model_target=address, **SAMPLING) as made,
    ):
        yield made


@pytest.fixture
def reader(reading_service: Client, tenant: str) -> Client:
    """As `client`, a service that understands texts: a model service is behind it."""
    return reading_service
