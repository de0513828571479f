"""Fixtures of the tests of schedules."""

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from executor_svc.schedules.store import PostgresScheduleStore
from stepwire.db import open_pool
from tests.integration.executor_svc.schedule_client import ScheduleMesh, running_schedules

LEASE = timedelta(seconds=10)


@pytest.fixture
async def fired(
    database_url: str, rabbitmq_url: str, mq_namespace: str
) -> AsyncIterator[ScheduleMesh]:
    """An executor of the test's own, without a worker: no task ends by itself."""
    async with running_schedules(database_url, rabbitmq_url, mq_namespace) as mesh:
        yield mesh


@pytest.fixture
async def store(database_url: str, fired: ScheduleMesh) -> AsyncIterator[PostgresScheduleStore]:
    """What another executor would see of the schedules."""
    async with open_pool(database_url, application_name="another") as pool:
        yield PostgresScheduleStore(pool)


async def let_go(fired: ScheduleMesh) -> None:
    """Have what is held by one who died be free."""
    await fired.mesh.fetch("UPDATE executor.schedules SET held_until = now() - interval '1 s'")
