from collections.abc import AsyncIterator

import pytest

from stepwire.api_keys import key_text, new_key_id, new_secret
from stepwire.sdk.client import Client
from stepwire.stack.postgres import PostgresServer
from stepwire.testing.postgres import fresh_database
from tests.integration.gateway.gateway_mesh import Mesh, running_mesh


@pytest.fixture(scope="session")
async def whole_mesh(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Mesh]:
    async with running_mesh(tmp_path_factory.mktemp("gateway")) as running:
        yield running


@pytest.fixture
def mesh(whole_mesh: Mesh) -> Mesh:
    """Give the mesh as if no test had used it before."""
    whole_mesh.executor.calls.clear()
    whole_mesh.executor.metadata.clear()
    return whole_mesh


@pytest.fixture(scope="session")
def first_key() -> str:
    """Give the text of the key with which `guarded` has begun."""
    return key_text(new_key_id(), new_secret())


@pytest.fixture(scope="session")
async def guarded(
    tmp_path_factory: pytest.TempPathFactory, postgres: PostgresServer, first_key: str
) -> AsyncIterator[Mesh]:
    """Run a mesh that asks for keys, and looks each of them up anew."""
    with fresh_database(postgres) as url:
        companions = {"postgres_url": url, "first_key": first_key, "key_cache_seconds": 0}
        folder = tmp_path_factory.mktemp("guarded")
        async with running_mesh(folder, companions=companions, authentication="keys") as running:
            yield running


@pytest.fixture
def guarded_targets(guarded: Mesh) -> dict[str, str]:
    """Give where the companion of `guarded` listens, as settings of another gateway."""
    names = ("companion_target", "companion_http_target")
    return {name: guarded.targets[name] for name in names}


@pytest.fixture
async def operator(guarded: Mesh, first_key: str) -> AsyncIterator[Client]:
    """Give a client that has every scope."""
    async with Client(guarded.envoy.target, api_key=first_key) as client:
        yield client
