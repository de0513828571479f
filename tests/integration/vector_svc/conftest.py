"""A vector service on a fresh database."""

from collections.abc import AsyncIterator

import pytest
from vector_svc_harness import Client, serving


@pytest.fixture
async def client(database_url: str) -> AsyncIterator[Client]:
    async with serving(database_url) as made:
        yield made
