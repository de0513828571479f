"""Walks through indexes: enough points, high recall, measured."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import asyncpg
import numpy as np
import pytest
from vector_svc_harness import Client, containing, point, raw, refused, serving

from stepwire.api.vector.v1.collection_pb2 import (
    METRIC_COSINE,
    METRIC_DOT,
    METRIC_EUCLIDEAN,
    QUANTIZATION_BINARY,
    QUANTIZATION_HALF,
    IndexOptions,
    Metric,
    TextOptions,
)
from stepwire.api.vector.v1.filter_pb2 import Condition, FieldCondition, Filter
from stepwire.api.vector.v1.point_pb2 import Point
from stepwire.api.vector.v1.search_pb2 import (
    SEARCH_PLAN_EXACT,
    SEARCH_PLAN_FILTER_FIRST,
    SEARCH_PLAN_INDEX,
    SEARCH_PLAN_ITERATIVE,
    WordQuery,
)
from stepwire.api.vector.v1.search_service_pb2 import (
    BatchSearchPointsRequest,
    MeasureRecallRequest,
)
from stepwire.errors import Reason
from stepwire.stack.postgres import PostgresServer
from stepwire.testing.postgres import fresh_database
from vector_svc.engine import records
from vector_svc.engine.records import Collection, CollectionConfig
from vector_svc.filters.records import AnyOf, Contains
from vector_svc.search import planner
from vector_svc.search.ports import Order
from vector_svc.search.records import Plan
from vector_svc.search.store import PostgresSearches, arguments_of
from vector_svc.store.database import open_connections

ROWS = 1_500
DIMENSION = 48
QUERIES = 20
WORDS = ["boat", "bread", "stone", "tide", "harbour", "night", "fee", "euro", "mooring", "oven"]
INDEXED = IndexOptions(min_points=1)


class Clusters:
    """Clustered vectors with payloads, and the truth about them by numpy."""

    def __init__(self, metric: "Metric.ValueType") -> None:
        random = np.random.default_rng(7)
        centres = random.standard_normal((60, DIMENSION))
        self.metric = metric
        self.cluster = random.integers(0, 60, ROWS)
        noise = 0.6 * random.standard_normal((ROWS, DIMENSION))
        self.vectors = (centres[self.cluster] + noise).astype("<f4")
        share = np.arange(len(WORDS), 0, -1) ** 2.0
        self.texts = [
            " ".join(random.choice(WORDS, random.integers(1, 20), p=share / share.sum()))
            for _ in range(ROWS)
        ]
        picked = random.integers(0, 60, QUERIES)
        noise = 0.6 * random.standard_normal((QUERIES, DIMENSION))
        self.queries = (centres[picked] + noise).astype("<f4")

    def payload(self, row: int) -> dict[str, Any]:
        return {
            "most": int(row % 10 > 0),
            "half": row % 2,
            "tenth": row % 10,
            "hundredth": row % 100,
            "thousandth": row % 1_000,
            "text": self.texts[row],
        }

    def points(self) -> list[Point]:
        return [point(str(n), self.vectors[n], self.payload(n)) for n in range(ROWS)]

    def scores(self, query: np.ndarray) -> Any:
        if self.metric == METRIC_EUCLIDEAN:
            return -np.linalg.norm(self.vectors - query, axis=1)
        dots = self.vectors @ query
        if self.metric == METRIC_DOT:
            return dots
        return dots / np.linalg.norm(self.vectors, axis=1) / np.linalg.norm(query)

    def nearest(self, query: np.ndarray, limit: int, among: np.ndarray) -> set[str]:
        scores = np.where(among, self.scores(query), -np.inf)
        best = np.argsort(-scores)[: min(limit, int(among.sum()))]
        return {str(n) for n in best}


@pytest.fixture(scope="module", autouse=True)
def no_collection_is_small() -> Any:
    """So that few points are enough for walks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planner, "ALWAYS_EXACT_VALUES", 0)
        patch.setattr(planner, "ALWAYS_EXACT_LEAST", 100)
        yield


Full = tuple[Client, Clusters, str]


@pytest.fixture(scope="module")
async def full(postgres: PostgresServer) -> AsyncIterator[Full]:
    """A service with one full collection; tests leave it as it is."""
    with fresh_database(postgres) as url:
        async with serving(url) as client:
            clusters = Clusters(METRIC_COSINE)
            text = TextOptions(field="text")
            await client.create("things", DIMENSION, index=INDEXED, text=text)
            await client.upsert(clusters.points())
            await analyze(url)
            yield client, clusters, url


@pytest.fixture(scope="module")
async def spare(full: Full) -> tuple[Client, Clusters]:
    """Another full collection, "spare", which tests measure and take points from."""
    client, clusters, _ = full
    await client.create("spare", DIMENSION, index=INDEXED)
    await client.upsert(clusters.points(), "spare")
    return client, clusters


async def analyze(url: str) -> None:
    """Let Postgres know how few rows there are: it would rather scan them, if it might."""
    connection = await asyncpg.connect(url)
    await connection.execute("ANALYZE")
    await connection.close()


async def filled(
    client: Client, metric: "Metric.ValueType" = METRIC_COSINE, **options: Any
) -> Clusters:
    clusters = Clusters(metric)
    await client.create("things", DIMENSION, metric, **{"index": INDEXED, **options})
    await client.upsert(clusters.points())
    return clusters


async def recall(
    client: Client,
    clusters: Clusters,
    among: np.ndarray,
    limit: int = 10,
    *,
    plan: Any = SEARCH_PLAN_INDEX,
    **options: Any,
) -> float:
    hits = wanted = 0
    for query in clusters.queries:
        truth = clusters.nearest(query, limit, among)
        response = await client.find(query, limit=limit, **options)
        assert response.report.plan == plan
        found = [match.point.id for match in response.points]
        assert len(found) == len(set(found)) == len(truth)
        hits += len(truth & set(found))
        wanted += len(truth)
    return hits / wanted


EVERYTHING = np.ones(ROWS, dtype=bool)


@pytest.mark.parametrize("metric", [METRIC_DOT, METRIC_EUCLIDEAN])
async def test_the_index_finds_nearly_what_exact_search_finds(
    client: Client, metric: "Metric.ValueType"
) -> None:
    clusters = await filled(client, metric)
    exactly = await recall(client, clusters, EVERYTHING, exact=True, plan=SEARCH_PLAN_EXACT)
    assert exactly == 1.0
    assert await recall(client, clusters, EVERYTHING) >= 0.95


@pytest.mark.parametrize("quantization", [QUANTIZATION_HALF, QUANTIZATION_BINARY])
async def test_what_a_shortened_index_finds_is_ranked_by_whole_vectors(
    client: Client, quantization: Any
) -> None:
    index = IndexOptions(min_points=1, quantization=quantization)
    clusters = await filled(client, index=index)
    assert await recall(client, clusters, EVERYTHING, oversampling=16) >= 0.95
    query = clusters.queries[0]
    found = {each.point.id: each.score for each in await client.search(query, oversampling=16)}
    scores = clusters.scores(query)
    assert found == pytest.approx({name: scores[int(name)] for name in found}, abs=1e-5)


@pytest.mark.parametrize("limit", [1, 100, 1_000])
async def test_as_many_as_wanted_are_found(full: Full, limit: int) -> None:
    client, clusters, _ = full
    assert await recall(client, clusters, EVERYTHING, limit) >= 0.95


async def test_walks_of_a_batch_go_together(full: Full, monkeypatch: pytest.MonkeyPatch) -> None:
    _, clusters, url = full
    sizes: list[int] = []
    together = PostgresSearches.search_together

    async def counted(
        self: PostgresSearches, collection: Collection, order: Order, vectors: Any
    ) -> Any:
        sizes.append(len(vectors))
        return await together(self, collection, order, vectors)

    options: list[dict[str, Any]] = [{}] * 9 + [{"limit": 3}, {"exact": True}, {"limit": 3}]
    options += [{"filter": containing(most=1)}] * 6 + [{"words": WordQuery(words="oven")}]
    queries = [raw(query) for query in clusters.queries[: len(options)]]
    request = BatchSearchPointsRequest(collection="things")
    for query, option in zip(queries, options, strict=True):
        request.searches.add(vector=query, **option)
    # What they are planned by is known then, so that none waits for more.
    async with serving(url, estimate_cache_seconds=3600) as client:
        alone = [
            await client.find(query, **option)
            for query, option in zip(queries, options, strict=True)
        ]
        monkeypatch.setattr(PostgresSearches, "search_together", counted)
        batch = await client.searches.BatchSearchPoints(request)
        assert list(batch.results) == alone
        assert sorted(sizes) == [2, 2, 2, 3, 3, 3]
        request.searches.add(vector=raw([1.0]))
        async with refused() as error:
            await client.searches.BatchSearchPoints(request)
        assert error().reason is Reason.VECTOR_DIMENSION_MISMATCH
        assert error().metadata["field"] == f"searches[{len(options)}].vector"


async def test_searches_that_only_look_alike_are_kept_apart(full: Full) -> None:
    _, clusters, url = full
    request = BatchSearchPointsRequest(collection="things")
    for number, query in enumerate(clusters.queries[:8]):
        filter_ = Filter(must=[Condition(field=FieldCondition(path="most"))])
        equals = filter_.must[0].field.equals
        if number % 2:
            equals.bool_value = True
        else:
            equals.number_value = 1
        request.searches.add(vector=raw(query), filter=filter_)
    async with serving(url, estimate_cache_seconds=3600) as client:
        for _ in range(5):  # as soon as all is known that they are planned by, they go together
            await client.find(clusters.queries[0], filter=request.searches[0].filter)
            batch = await client.searches.BatchSearchPoints(request)
            assert [len(each.points) for each in batch.results] == [10, 0] * 4


@pytest.mark.parametrize(
    ("share", "plan"),
    [
        ("most", SEARCH_PLAN_ITERATIVE),
        ("half", SEARCH_PLAN_ITERATIVE),
        ("tenth", SEARCH_PLAN_FILTER_FIRST),
        ("hundredth", SEARCH_PLAN_FILTER_FIRST),
        ("thousandth", SEARCH_PLAN_FILTER_FIRST),
    ],
)
async def test_a_filter_leaves_enough_and_the_nearest(full: Full, share: str, plan: Any) -> None:
    client, clusters, _ = full
    among = np.array([clusters.payload(n)[share] == 1 for n in range(ROWS)])
    filter_ = containing(**{share: 1})
    assert await recall(client, clusters, among, filter=filter_, plan=plan) >= 0.95
    exactly = await recall(
        client, clusters, among, filter=filter_, exact=True, plan=SEARCH_PLAN_FILTER_FIRST
    )
    assert exactly == 1.0


async def test_a_walk_that_gives_up_is_made_up_for(full: Full) -> None:
    """One does once all that it comes by is refused, far points on its way there included.

    How many those are, and which, differs from graph to graph, as these are made with chance.
    """
    _, clusters, url = full
    query = clusters.queries[0]
    async with serving(url, hnsw_ef_search=1, hnsw_max_scan_tuples=1) as client:
        come_by: set[str] = set()
        while True:
            others = Filter(must_not=[Condition(ids={"ids": come_by or {"none"}})])
            response = await client.find(query, filter=others)
            if response.report.plan != SEARCH_PLAN_ITERATIVE:
                break
            assert not response.report.walk_given_up
            assert len(response.points) == 10
            come_by |= {each.point.id for each in response.points}
    assert len(come_by) < ROWS / 2  # with fewer left, no walk would have been tried
    assert response.report.plan == SEARCH_PLAN_FILTER_FIRST
    assert response.report.walk_given_up
    left = np.array([str(n) not in come_by for n in range(ROWS)])
    assert {each.point.id for each in response.points} == clusters.nearest(query, 10, left)


async def test_recall_is_measured_kept_and_used(spare: tuple[Client, Clusters]) -> None:
    client, clusters = spare
    request = MeasureRecallRequest(collection="spare", samples=30, target_recall=0.9)
    measured = await client.searches.MeasureRecall(request)
    by_rise = [figure.ef_search for figure in measured.figures]
    assert by_rise == sorted(by_rise)
    assert measured.samples == 30
    chosen = next(each for each in measured.figures if each.ef_search == measured.ef_search)
    assert chosen.recall >= 0.9
    assert all(each.recall < 0.9 for each in measured.figures if each.ef_search < chosen.ef_search)
    report = (await client.find(clusters.queries[0], "spare")).report
    assert (report.plan, report.ef_search) == (SEARCH_PLAN_INDEX, chosen.ef_search)
    assert report.recall_estimate == pytest.approx(chosen.recall)
    request.samples = 1_001
    async with refused() as error:
        await client.searches.MeasureRecall(request)
    assert error().metadata["field"] == "samples"


async def test_deleted_points_leave_no_gap(spare: tuple[Client, Clusters]) -> None:
    """More of the nearest points are deleted than a search keeps candidates."""
    client, clusters = spare
    query = clusters.queries[0]
    doomed = clusters.nearest(query, 500, EVERYTHING)
    assert await client.delete(doomed, "spare") == 500
    left = np.array([str(n) not in doomed for n in range(ROWS)])
    found = {match.point.id for match in await client.search(query, "spare", limit=10)}
    assert len(found & clusters.nearest(query, 10, left)) >= 9
    assert len(found) == 10


async def test_settings_of_a_walk_reach_it_and_end_with_it(full: Full) -> None:
    _, clusters, url = full
    pool = open_connections(url, application_name="test")
    async with pool as opened, opened.acquire() as connection:
        await held_against_postgres(connection, clusters)


async def held_against_postgres(connection: Any, clusters: Clusters) -> None:
    number = await connection.fetchval(
        "SELECT collection_id FROM vector.collections WHERE name = 'things'"
    )
    config = CollectionConfig("things", DIMENSION, records.Metric.COSINE)
    now = datetime.now(UTC)
    collection = Collection(number, "t", config, 1, config.index, now, now)
    nowhere = Order(
        plan=Plan.ITERATIVE,
        wanted=10,
        offset=0,
        filter=AnyOf(("half",), (2,)),
        words=None,
        effort=1,
        candidates=10,
        depth=10,
        max_distance=None,
        payloads=True,
        vectors=False,
    )

    async def explained(order: Order, most: int) -> list[str]:
        nothing: Any = None
        searches = PostgresSearches(nothing, walks=nothing, hnsw_max_scan_tuples=most)
        prepared = searches.prepare(collection, order)
        rows = await connection.fetch(
            f"EXPLAIN (ANALYZE, TIMING OFF, COSTS OFF, SUMMARY OFF) {prepared.statement}",
            *arguments_of(prepared, clusters.queries[:1]),
        )
        return [row[0] for row in rows]

    async def looked_at(most: int) -> int:
        lines = await explained(nowhere, most)
        assert any("Index Scan using points_1_embedding" in line for line in lines)
        [removed] = [line for line in lines if "Rows Removed by Filter" in line]
        return int(removed.split(":")[1])

    few, many = await looked_at(1), await looked_at(100_000)
    assert few < ROWS / 2
    assert many > ROWS * 9 / 10
    assert await connection.fetchval("SHOW hnsw.ef_search") == "40"
    assert await connection.fetchval("SHOW hnsw.iterative_scan") == "off"
    some = replace(nowhere, plan=Plan.FILTER_FIRST, filter=Contains(b'{"thousandth":1}'))
    assert any("Bitmap Index Scan on points_1_payload" in line
               for line in await explained(some, 1))  # fmt: skip
    large = replace(nowhere, plan=Plan.INDEX, filter=None, wanted=1_000, effort=1_000)
    assert any("Index Scan using points_1_embedding" in line
               for line in await explained(large, 20_000))  # fmt: skip


# Of 120 graphs each lost at least four; one that loses fewer than this is made anew.
LOST_AT_LEAST = 3
MOST_GRAPHS = 10
# Some thousand searches; without a deadline, a call may take less.
MEASURING_SECONDS = 100.0


async def lost(client: Client, odd: np.ndarray) -> int:
    firsts = [await client.search(vector, limit=1) for vector in odd]
    return sum(first[0].point.id != f"odd-{n}" for n, first in enumerate(firsts))


async def losing(client: Client, odd: np.ndarray, like: np.ndarray) -> int:
    """Fill collections until one's graph loses some points; return how many.

    Which, and how many, differs from graph to graph, as these are made with chance.
    """
    for _ in range(MOST_GRAPHS):
        await client.create("things", DIMENSION, index=INDEXED)
        await client.upsert([point(f"odd-{n}", vector) for n, vector in enumerate(odd)])
        await client.upsert([point(f"like-{n}", vector) for n, vector in enumerate(like)])
        count = await lost(client, odd)
        if count >= LOST_AT_LEAST:
            return count
        await client.drop()
    pytest.fail(f"none of {MOST_GRAPHS} graphs has lost {LOST_AT_LEAST} points")


async def test_what_walks_lose_is_measured_and_found_from_then_on(client: Client) -> None:
    """Among many near-duplicates the edges that lead to other points are given up."""
    random = np.random.default_rng(5)
    odd, same = random.standard_normal((100, DIMENSION)), random.standard_normal((1, DIMENSION))
    like = same + 0.01 * random.standard_normal((700, DIMENSION))
    before = await losing(client, odd, like)
    # All of them: few are lost, and a part may hold none of those.
    request = MeasureRecallRequest(collection="things", samples=1_000, target_recall=1)
    measured = await client.searches.MeasureRecall(request, timeout=MEASURING_SECONDS)
    assert measured.figures[0].recall < 1
    assert measured.ef_search == 0 or measured.ef_search > 64
    assert await lost(client, odd) < before
