"""How often queues are counted."""

import asyncio
from datetime import UTC, datetime

import pytest

from executor_svc.queues.overview import FRESH_SECONDS, FRESH_TIMES, Overview
from executor_svc.queues.records import Snapshot


class Store:
    """Gives snapshots that take their time."""

    def __init__(self):
        self.now = 0.0
        self.takes = 0.0
        self.taken = 0

    async def snapshot(self):
        await asyncio.sleep(0)
        self.now += self.takes
        self.taken += 1
        return Snapshot(datetime.now(UTC), {}, {}, {}, ())


@pytest.fixture
def store():
    return Store()


@pytest.fixture
def overview(store):
    return Overview(store, clock=lambda: store.now)


async def test_all_who_ask_at_once_share_a_snapshot(store, overview):
    seen = await asyncio.gather(*(overview.look() for _ in range(10)))
    assert store.taken == 1
    assert all(each is seen[0] for each in seen)


async def test_a_snapshot_is_fresh_for_a_second(store, overview):
    await overview.look()
    store.now += FRESH_SECONDS - 0.01
    await overview.look()
    assert store.taken == 1
    store.now += 0.01
    await overview.look()
    assert store.taken == 2


async def test_a_snapshot_that_took_long_is_fresh_for_long(store, overview):
    store.takes = 2.0
    await overview.look()
    store.now += 2.0 * FRESH_TIMES - 0.01
    await overview.look()
    assert store.taken == 1
    store.now += 0.01
    await overview.look()
    assert store.taken == 2


async def test_a_change_outdates_it(store, overview):
    await overview.look()
    overview.outdate()
    await overview.look()
    assert store.taken == 2


async def test_a_change_outdates_the_snapshot_that_is_being_taken(store, overview):
    under_way = asyncio.create_task(overview.look())
    await asyncio.sleep(0)
    overview.outdate()
    await overview.look()
    assert store.taken == 2
    await under_way
