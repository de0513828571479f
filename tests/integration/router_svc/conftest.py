from collections.abc import AsyncIterator

import pytest

from tests.integration.router_svc.chat_endpoint import ChatEndpoint, chat_endpoint
from tests.integration.router_svc.extract_service import ExtractService, extract_service


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
