from collections.abc import AsyncIterator

import pytest

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
