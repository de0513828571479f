from collections.abc import AsyncIterator

import pytest

from tests.integration.router_svc.chat_endpoint import ChatEndpoint, chat_endpoint
from tests.integration.router_svc.extract_service import ExtractService, extract_service
from tests.integration.router_svc.house import House, running_house


@pytest.fixture
async def endpoint() -> AsyncIterator[ChatEndpoint]:
    async with chat_endpoint() as running:
        yield running


@pytest.fixture
async def second_endpoint() -> AsyncIterator[ChatEndpoint]:
    async with chat_endpoint() as running:
        yield running


@pytest.fixture
async def extractor() -> AsyncIterator[ExtractService]:
    async with extract_service() as running:
        yield running


@pytest.fixture(scope="session")
async def whole_house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    async with running_house(tmp_path_factory.mktemp("house")) as running:
        yield running


@pytest.fixture
def house(whole_house: House) -> House:
    whole_house.tidy()
    return whole_house
