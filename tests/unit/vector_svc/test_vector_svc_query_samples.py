"""Some of what is searched for is taken, within bounds, and no search hears of it."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from vector_svc.engine.ports import CollectionGoneError
from vector_svc.engine.records import Collection, CollectionConfig, Metric
from vector_svc.metrics import VectorMetrics
from vector_svc.search import samples
from vector_svc.search.records import QuerySample
from vector_svc.search.samples import QuerySamples

NOW = datetime(2026, 1, 1, tzinfo=UTC)
CONFIG = CollectionConfig("things", 3, Metric.COSINE, query_samples=5)
THINGS = Collection(1, "t", CONFIG, 1, None, NOW, NOW)
VECTOR = np.ones((1, 3), "<f4")


class Store:
    """Remembers what was written by collection; fails as it is told."""

    def __init__(self) -> None:
        self.written: dict[int, list[int]] = {}
        self.failure: Exception | None = None

    async def keep(self, collection: Collection, queries: Sequence[QuerySample]) -> None:
        if self.failure is not None:
            raise self.failure
        wanted = [query.wanted for query in queries]
        self.written.setdefault(collection.id, []).extend(wanted)


@pytest.fixture
def store() -> Store:
    return Store()


def taking(store: Store, *, rate: float = 1.0) -> QuerySamples:
    return QuerySamples(store, VectorMetrics(), rate=rate, every_seconds=1)


async def offered(taken: QuerySamples, collection: Collection, *, times: int) -> None:
    for number in range(times):
        taken.offer(collection, VECTOR, number)
    await taken.write()


async def test_no_more_are_taken_between_two_batches_than_are_kept(store: Store) -> None:
    taken = taking(store)
    await offered(taken, THINGS, times=8)
    await offered(taken, THINGS, times=2)
    assert store.written == {1: [0, 1, 2, 3, 4, 0, 1]}


async def test_a_share_of_the_searches_is_taken(store: Store) -> None:
    draws = iter([0.0, 0.3, 0.29, 0.9])
    taken = QuerySamples(
        store, VectorMetrics(), rate=0.3, every_seconds=1, draw=lambda: next(draws)
    )
    await offered(taken, THINGS, times=4)
    assert store.written == {1: [0, 2]}
    await offered(taking(store, rate=0), replace(THINGS, id=2), times=100)
    none = replace(CONFIG, query_samples=0)
    await offered(taking(store), replace(THINGS, id=3, config=none), times=100)
    assert set(store.written) == {1}


async def test_what_waits_takes_bounded_memory(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(samples, "MAX_WAITING_BYTES", 7 * VECTOR.nbytes)
    taken = taking(store)
    for number in range(10):
        taken.offer(replace(THINGS, id=number % 4), VECTOR, number)
    await taken.write()
    assert store.written == {0: [0, 4], 1: [1, 5], 2: [2, 6], 3: [3]}
    # There is room again.
    await offered(taken, replace(THINGS, id=9), times=3)
    assert store.written[9] == [0, 1, 2]


@pytest.mark.parametrize("failure", [CollectionGoneError(), OSError("away")])
async def test_what_cannot_be_written_is_dropped(store: Store, failure: Exception) -> None:
    taken = taking(store)
    store.failure = failure
    await offered(taken, THINGS, times=3)
    store.failure = None
    await offered(taken, THINGS, times=1)
    assert store.written == {1: [0]}
