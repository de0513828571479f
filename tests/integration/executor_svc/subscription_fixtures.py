"""Fixtures of the tests of subscriptions."""

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from executor_svc.subscriptions import deliveries
from tests.integration.executor_svc.executor_mesh import Client, Mesh
from tests.integration.executor_svc.subscription_client import (
    Receiver,
    SubscriptionClient,
    receiving,
    subscription_client,
)


@pytest.fixture
async def subscriptions(shared_mesh: Mesh, client: Client) -> AsyncIterator[SubscriptionClient]:
    """Subscriptions in the shared executor, of a tenant of the test's own."""
    async with subscription_client(shared_mesh.server.address, client) as made:
        yield made


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    """A receiver of webhooks."""
    async with receiving() as running:
        yield running


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Deliveries are repeated at once."""
    monkeypatch.setattr(deliveries, "FIRST_BACKOFF", timedelta(milliseconds=1))
    monkeypatch.setattr(deliveries, "LONGEST_BACKOFF", timedelta(milliseconds=5))
