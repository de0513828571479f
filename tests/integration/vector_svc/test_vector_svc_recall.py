"""Recall that is measured, beside the truth by numpy; and by which searches."""

import asyncio
import uuid
from collections.abc import Iterator
from typing import Any

import asyncpg
import numpy as np
import pytest
from vector_svc_harness import Client, containing, point

from stepwire.api.vector.v1.collection_pb2 import (
    ELEMENT_TYPE_BINARY,
    ELEMENT_TYPE_FLOAT16,
    INDEX_KIND_IVFFLAT,
    INDEX_STATE_READY,
    METRIC_COSINE,
    METRIC_HAMMING,
    Collection,
    IndexOptions,
)
from stepwire.api.vector.v1.collection_service_pb2 import (
    GetCollectionRequest,
    GetCollectionStatsRequest,
    UpdateCollectionRequest,
)
from stepwire.api.vector.v1.index_service_pb2 import BuildIndexRequest
from stepwire.api.vector.v1.search_pb2 import (
    RECALL_QUERIES_POINTS,
    RECALL_QUERIES_SEARCHES,
    RECALL_QUERIES_UNSPECIFIED,
    SEARCH_PLAN_INDEX,
    SEARCH_PLAN_ITERATIVE,
)
from stepwire.api.vector.v1.search_service_pb2 import (
    MeasureRecallRequest,
    MeasureRecallResponse,
)
from stepwire.call import call_context
from stepwire.testing.poll import eventually
from vector_svc.collections.store import PostgresCollections
from vector_svc.search import planner
from vector_svc.search.recall_store import PostgresQuerySamples
from vector_svc.search.records import QuerySample
from vector_svc.store.database import Database, open_connections

ROWS = 300
DIMENSION = 24
LISTS = 15
LIMIT = 10
# The same number in float32 and float64.
TARGET = 0.875


@pytest.fixture(scope="module", autouse=True)
def no_collection_is_small() -> Any:
    """So that few points are enough for walks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planner, "ALWAYS_EXACT_VALUES", 0)
        patch.setattr(planner, "ALWAYS_EXACT_LEAST", 20)
        yield


def cloud(seed: int, rows: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((rows, DIMENSION)).astype("<f4")


def nearest(points: np.ndarray, query: np.ndarray, limit: int) -> set[str]:
    """The ids of the nearest by the cosine."""
    scores = points @ query / np.linalg.norm(points, axis=1)
    return set(map(str, np.argsort(-scores)[:limit]))


async def measured(client: Client, **options: Any) -> MeasureRecallResponse:
    options = {"collection": "things", "samples": 1_000, "target_recall": TARGET, **options}
    return await client.searches.MeasureRecall(MeasureRecallRequest(**options))


async def build(client: Client) -> None:
    await client.indexes.BuildIndex(BuildIndexRequest(collection="things"))

    async def ready() -> bool:
        request = GetCollectionRequest(collection="things")
        made = (await client.collections.GetCollection(request)).collection
        return bool(made.index_state == INDEX_STATE_READY)

    assert await eventually(ready, 30)


Listed = tuple[Client, np.ndarray, MeasureRecallResponse]


@pytest.fixture(scope="module")
async def tenant_of_lists() -> str:
    return f"test-{uuid.uuid4().hex[:12]}"


@pytest.fixture(scope="module")
async def full_lists(service: Client, tenant_of_lists: str) -> Listed:
    """A collection in lists, and what was measured of it by all of its points."""
    points = cloud(3, ROWS)
    index = IndexOptions(kind=INDEX_KIND_IVFFLAT, lists=LISTS)
    with call_context(tenant_id=tenant_of_lists):
        await service.create("things", DIMENSION, index=index)
        rows = [point(str(n), each, {"half": n % 2}) for n, each in enumerate(points)]
        await service.upsert(rows)
        await build(service)
        report = (await service.find(points[0])).report
        assert (report.probes, report.ef_search, report.recall_estimate) == (4, 0, 0)
        return service, points, await measured(service)


@pytest.fixture
def lists(full_lists: Listed, tenant_of_lists: str) -> Iterator[Listed]:
    with call_context(tenant_id=tenant_of_lists):
        yield full_lists


async def found_of_neighbours(client: Client, points: np.ndarray, **options: Any) -> float:
    """The recall of searches for the neighbours of every point, which itself is none."""
    hits = 0
    for number, query in enumerate(points):
        found = {each.point.id for each in await client.search(query, limit=LIMIT + 1, **options)}
        hits += len(found & nearest(points, query, LIMIT + 1) - {str(number)})
    return hits / (len(points) * LIMIT)


async def test_recall_by_probes_is_what_searches_find(lists: Listed) -> None:
    client, points, result = lists
    assert (result.samples, result.limit, result.queries) == (ROWS, LIMIT, RECALL_QUERIES_POINTS)
    by_probes = {each.probes: each.recall for each in result.figures if each.limit == LIMIT}
    assert list(by_probes)[:5] == [1, 2, 3, 4, 6]
    assert not any(each.ef_search for each in result.figures)
    for probes in (1, 4):
        recall = await found_of_neighbours(client, points, probes=probes)
        assert recall == pytest.approx(by_probes[probes], abs=2 / (ROWS * LIMIT))
    # The fewest that reach the target are what searches take from now on.
    assert result.probes == min(probes for probes, recall in by_probes.items() if recall >= TARGET)
    report = (await client.find(points[0])).report
    assert (report.plan, report.probes) == (SEARCH_PLAN_INDEX, result.probes)
    assert report.recall_estimate == pytest.approx(by_probes[result.probes])
    assert report.points_compared == ROWS // LISTS * result.probes
    # A hundred are in more lists.
    of_more = {each.probes: each.recall for each in result.figures if each.limit == 100}
    assert of_more[4] < by_probes[4]
    report = (await client.find(points[0], limit=100)).report
    assert report.probes == min(probes for probes, recall in of_more.items() if recall >= TARGET)


async def test_a_filter_takes_the_lists_that_the_points_it_leaves_are_in(lists: Listed) -> None:
    client, points, result = lists
    queries, half = cloud(4, 60), points[1::2]
    # Ten of those that a half leaves are among the twenty nearest, or 33 by chance.
    of_more = {each.probes: each.recall for each in result.figures if each.limit == 100}
    probes = min(probes for probes, recall in of_more.items() if recall >= TARGET)
    assert probes >= result.probes
    hits = 0
    for query in queries:
        response = await client.find(query, limit=LIMIT, filter=containing(half=1))
        assert response.report.plan == SEARCH_PLAN_ITERATIVE
        assert response.report.probes == probes
        names = {str((int(each.point.id) - 1) // 2) for each in response.points}
        hits += len(names & nearest(half, query, LIMIT))
    assert hits / (LIMIT * len(queries)) >= TARGET - 0.05


async def test_what_was_measured_says_nothing_of_the_next_index(lists: Listed) -> None:
    client, points, _ = lists
    result = await measured(client, samples=10, target_recall=1)
    assert (await client.find(points[0])).report.recall_estimate > 0
    index = IndexOptions(kind=INDEX_KIND_IVFFLAT, lists=4)
    await client.collections.UpdateCollection(
        UpdateCollectionRequest(collection=Collection(name="things", index=index))
    )
    await client.indexes.BuildIndex(BuildIndexRequest(collection="things"))

    async def anew() -> bool:
        report = (await client.find(points[0])).report
        # The target stays: all of the nearest, and so all lists.
        return (report.probes, report.recall_estimate) == (4, 0)

    assert result.probes > 4
    assert await eventually(anew, 30)


async def test_nothing_is_measured_where_nothing_is(client: Client) -> None:
    await client.create("things", DIMENSION, index=IndexOptions(min_points=1))
    result = await measured(client)
    assert (result.samples, result.queries) == (0, RECALL_QUERIES_UNSPECIFIED)


async def kept(client: Client) -> int:
    request = GetCollectionStatsRequest(collection="things")
    return (await client.collections.GetCollectionStats(request)).stats.query_samples


async def test_searches_from_elsewhere_find_less_and_walks_go_farther(client: Client) -> None:
    """Points lie around centres, searches anywhere."""
    points = np.tile(cloud(5, 60), (10, 1)) + np.float32(0.3) * cloud(6, 600)
    index = IndexOptions(min_points=1, m=4, ef_construction=8)
    await client.create("things", DIMENSION, index=index, query_samples=80)
    await client.upsert([point(str(n), each) for n, each in enumerate(points)])
    by_points = await measured(client, target_recall=0.95, samples=100)
    assert by_points.queries == RECALL_QUERIES_POINTS
    queries = cloud(8, 80)
    for query in queries:
        await client.search(query, limit=LIMIT)

    async def all_kept() -> bool:
        return await kept(client) == len(queries)

    assert await eventually(all_kept)
    by_searches = await measured(client, target_recall=0.95)
    assert by_searches.queries == RECALL_QUERIES_SEARCHES
    assert (by_searches.samples, by_searches.limit) == (len(queries), LIMIT)
    assert by_searches.unreachable_share == 0
    hits = 0
    for query in queries:
        found = {each.point.id for each in await client.search(query, limit=LIMIT, ef_search=20)}
        hits += len(found & nearest(points, query, LIMIT))
    [first, *_] = by_searches.figures
    assert first.recall == pytest.approx(hits / (len(queries) * LIMIT), abs=2e-3)
    assert first.recall < by_points.figures[0].recall - 0.1
    assert by_searches.ef_search > by_points.ef_search
    assert (await client.find(queries[0])).report.ef_search == by_searches.ef_search
    assert (await measured(client, samples=1, use_points=True)).queries == RECALL_QUERIES_POINTS


@pytest.mark.parametrize(
    ("element", "metric", "vectors"),
    [
        (ELEMENT_TYPE_FLOAT16, METRIC_COSINE, cloud(9, 30)),
        (ELEMENT_TYPE_BINARY, METRIC_HAMMING, np.packbits(cloud(9, 30) > 0, axis=1)),
    ],
)
async def test_searches_are_repeated_whatever_vectors_are_stored_as(
    client: Client, element: Any, metric: Any, vectors: np.ndarray
) -> None:
    rows = [each.tobytes() for each in vectors]
    options = {"element_type": element, "index": IndexOptions(min_points=1), "query_samples": 5}
    await client.create("things", DIMENSION, metric, **options)
    await client.upsert([point(str(n), each) for n, each in enumerate(rows)])
    for row in rows[:5]:
        await client.search(row, limit=4, offset=2)
    assert await eventually(lambda: kept(client))
    result = await measured(client, samples=1)
    assert (result.queries, result.limit) == (RECALL_QUERIES_SEARCHES, 6)
    assert result.figures[-1].recall == 1


async def test_as_many_searches_are_kept_as_are_wanted_and_no_more(
    client: Client, service_url: str, tenant: str
) -> None:
    """Whichever instances write at once, and whatever they remember of the collection."""
    await client.create("things", 3, query_samples=20)
    pool = open_connections(service_url, application_name="test", max_size=4)
    async with pool as opened:
        database = Database(opened, acquire_seconds=30, statement_seconds=30)
        collection = await PostgresCollections(database).find(tenant, "things")
        assert collection is not None
        store = PostgresQuerySamples(database)

        def some(first: int) -> list[QuerySample]:
            return [QuerySample(np.ones((1, 3), "<f4"), first + n) for n in range(15)]

        await asyncio.gather(*(store.keep(collection, some(100 * n)) for n in range(4)))
        assert await kept(client) == 20
        await store.keep(collection, some(2_000))
        assert await kept(client) == 20
        left = await wanted_of(service_url, collection.id)
        assert left[-15:] == list(range(2_000, 2_015))
        for number, most in ((7, 7), (0, 0)):
            await client.collections.UpdateCollection(
                UpdateCollectionRequest(
                    collection=Collection(name="things", query_samples=number),
                    update_mask={"paths": ["query_samples"]},
                )
            )
            assert await kept(client) == most
            await store.keep(collection, some(3_000))
            assert await kept(client) == most
        await client.drop()
        assert await wanted_of(service_url, collection.id) == []
        await database.close()


async def wanted_of(url: str, collection_id: int) -> list[int]:
    connection = await asyncpg.connect(url)
    try:
        rows = await connection.fetch(
            "SELECT wanted FROM vector.query_samples WHERE collection_id = $1 ORDER BY sample_id",
            collection_id,
        )
        return [row[0] for row in rows]
    finally:
        await connection.close()
