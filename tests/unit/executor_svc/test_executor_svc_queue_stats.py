"""Counting what happens in queues."""

import asyncio
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

from executor_svc.queues import stats as module
from executor_svc.queues.records import Traffic
from executor_svc.queues.stats import QueueStats
from stepwire.testing.poll import eventually
from tests.unit.stepwire.durations_read import histograms


class Store:
    """Keeps traffic, or refuses them."""

    def __init__(self):
        self.traffic: dict[str, Traffic] = {}
        self.calls = 0
        self.away = False

    async def add_traffic(self, traffic):
        self.calls += 1
        if self.away:
            raise ConnectionError
        for queue, each in traffic.items():
            self.traffic[queue] = self.traffic.get(queue, Traffic()) + each

    async def forget_traffic(self, older_than):
        raise AssertionError("nothing is forgotten here")


def count(stats):
    stats.arrived("a", 3)
    stats.started("a", 2, 0.5)
    stats.finished("a", 1, 0.25, failed=1)
    stats.arrived("b")


async def test_counts_are_added_once():
    stats, store = QueueStats(), Store()
    count(stats)
    await stats.flush(store)
    await stats.flush(store)
    assert store.calls == 1
    assert store.traffic == {"a": Traffic(3, 2, 1, 1, 0.5, 0.25), "b": Traffic(arrived=1)}


async def test_counts_that_were_refused_are_added_later():
    stats, store = QueueStats(), Store()
    store.away = True
    count(stats)
    await stats.flush(store)
    count(stats)
    store.away = False
    await stats.flush(store)
    assert store.traffic == {"a": Traffic(6, 4, 2, 2, 1.0, 0.5), "b": Traffic(arrived=2)}


def test_the_wait_of_each_step_is_measured_by_queue(monkeypatch):
    made = histograms(monkeypatch, module)
    stats, now = QueueStats(), datetime.now(UTC)
    waited = SimpleNamespace(queue="a", ready_at=now - timedelta(seconds=2))
    stats.claimed([waited, SimpleNamespace(queue="b", ready_at=None)], now)
    stats.continued([waited])
    ((_, of_a), (_, of_b)) = made["stepwire.worker.step.wait"].cells()
    assert (sum(of_a.counts), of_a.total_seconds) == (2, 2.0)
    assert (sum(of_b.counts), of_b.total_seconds) == (1, 0.0)


async def test_counts_are_added_again_and_again():
    stats, store = QueueStats(), Store()
    store.away = True
    running = asyncio.create_task(stats.run(store, every_seconds=0.001))
    count(stats)
    await eventually(lambda: store.calls > 1)
    store.away = False
    await eventually(lambda: "b" in store.traffic)
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running
