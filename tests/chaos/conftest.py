"""The servers of the chaos runs, one pair for all of them."""

import os
from collections.abc import AsyncIterator

import pytest

from stepwire.stack.rabbitmq import find_script
from tests.chaos.servers import Servers, running_servers


@pytest.fixture(scope="session")
async def servers() -> AsyncIterator[Servers]:
    if find_script() is None:
        reason = "rabbitmq-server is not installed (Debian: apt-get install rabbitmq-server)"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    async with running_servers() as running:
        yield running
