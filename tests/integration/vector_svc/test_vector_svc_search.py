"""Searches: right scores, enough points, high recall, by whichever way."""

from typing import Any

import asyncpg
import numpy as np
import pytest
from google.protobuf.struct_pb2 import Struct
from vector_svc_harness import Client, point, raw, refused, serving

from stepwire.api.vector.v1.collection_pb2 import (
    METRIC_COSINE,
    METRIC_DOT,
    METRIC_EUCLIDEAN,
    Metric,
)
from stepwire.api.vector.v1.point_pb2 import Point
from stepwire.api.vector.v1.search_service_pb2 import SearchPointsRequest
from stepwire.errors import Reason
from vector_svc.engine import records
from vector_svc.store.codecs import encode_vectors, set_codecs
from vector_svc.store.statements import search_statement

ROWS = 3_000
DIMENSION = 48
QUERIES = 40


def struct(**fields: Any) -> Struct:
    made = Struct()
    made.update(fields)
    return made


class Clusters:
    """Clustered vectors with payloads, and the truth about them by numpy."""

    def __init__(self, metric: "Metric.ValueType") -> None:
        random = np.random.default_rng(7)
        centres = random.standard_normal((60, DIMENSION))
        self.metric = metric
        self.cluster = random.integers(0, 60, ROWS)
        noise = 0.6 * random.standard_normal((ROWS, DIMENSION))
        self.vectors = (centres[self.cluster] + noise).astype("<f4")
        picked = random.integers(0, 60, QUERIES)
        noise = 0.6 * random.standard_normal((QUERIES, DIMENSION))
        self.queries = (centres[picked] + noise).astype("<f4")

    def payload(self, row: int) -> dict[str, Any]:
        return {
            "half": row % 2,
            "tenth": row % 10,
            "hundredth": row % 100,
            "thousandth": row % 1_000,
            "cluster": int(self.cluster[row]),
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


async def filled(client: Client, metric: "Metric.ValueType" = METRIC_COSINE) -> Clusters:
    clusters = Clusters(metric)
    await client.create("things", DIMENSION, metric)
    await client.upsert(clusters.points())
    return clusters


async def recall(
    client: Client, clusters: Clusters, among: np.ndarray, limit: int = 10, **options: Any
) -> float:
    hits = wanted = 0
    for query in clusters.queries:
        truth = clusters.nearest(query, limit, among)
        found = [match.point.id for match in await client.search(query, limit=limit, **options)]
        assert len(found) == len(set(found)) == len(truth)
        hits += len(truth & set(found))
        wanted += len(truth)
    return hits / wanted


@pytest.mark.parametrize(
    ("metric", "scores"),
    [
        (METRIC_COSINE, {"same": 1.0, "across": 0.0, "against": -1.0}),
        (METRIC_DOT, {"same": 6.0, "across": 0.0, "against": -4.0}),
        (METRIC_EUCLIDEAN, {"same": -1.0, "across": -(5.0**0.5), "against": -4.0}),
    ],
)
@pytest.mark.parametrize("exact", [False, True])
async def test_scores_are_by_the_metric(
    client: Client, metric: "Metric.ValueType", scores: dict[str, float], *, exact: bool
) -> None:
    await client.create("things", 2, metric)
    await client.upsert([point("against", [-2, 0]), point("same", [3, 0]), point("across", [0, 1])])
    found = await client.search([2, 0], exact=exact)
    assert {match.point.id: match.score for match in found} == pytest.approx(scores, abs=1e-6)
    assert [match.point.id for match in found] == ["same", "across", "against"]


async def test_points_come_with_payloads_and_on_demand_with_vectors(client: Client) -> None:
    await client.create()
    stored = point("a", [1, 2, 3], {"n": 1})
    await client.upsert([stored])
    [match] = await client.search([1, 2, 3], include_vectors=True)
    assert match.point == stored
    [match] = await client.search([1, 2, 3])
    assert match.point.vector == b""
    assert match.point.payload == stored.payload


async def test_an_empty_collection_has_nothing_to_find(client: Client) -> None:
    await client.create()
    assert await client.search([1, 2, 3]) == []
    assert await client.search([1, 2, 3], filter={"a": 1}, exact=True) == []


@pytest.mark.parametrize("metric", [METRIC_COSINE, METRIC_DOT, METRIC_EUCLIDEAN])
async def test_the_index_finds_nearly_what_exact_search_finds(
    client: Client, metric: "Metric.ValueType"
) -> None:
    clusters = await filled(client, metric)
    everything = np.ones(ROWS, dtype=bool)
    assert await recall(client, clusters, everything, exact=True) == 1.0
    assert await recall(client, clusters, everything) >= 0.95


async def test_the_odd_ones_among_many_near_duplicates_are_found(client: Client) -> None:
    """The edges that lead to them are given up for shorter ones, so that no walk arrives."""
    random = np.random.default_rng(5)
    odd, same = random.standard_normal((20, 384)), random.standard_normal((4, 384))
    like = same[np.arange(1_500) % 4] + 0.01 * random.standard_normal((1_500, 384))
    await client.create("things", 384)
    await client.upsert([point(f"odd-{n}", vector) for n, vector in enumerate(odd)])
    await client.upsert([point(f"like-{n}", vector) for n, vector in enumerate(like)])
    for n, vector in enumerate(odd):
        found = await client.search(vector + 0.3 * random.standard_normal(384))
        assert found[0].point.id == f"odd-{n}"


@pytest.mark.parametrize("limit", [1, 100, 1_000])
async def test_as_many_as_wanted_are_found(client: Client, limit: int) -> None:
    clusters = await filled(client)
    everything = np.ones(ROWS, dtype=bool)
    assert await recall(client, clusters, everything, limit) >= 0.95


@pytest.mark.parametrize("share", ["half", "tenth", "hundredth", "thousandth"])
async def test_a_filter_leaves_enough_and_the_nearest(client: Client, share: str) -> None:
    clusters = await filled(client)
    among = np.array([clusters.payload(n)[share] == 1 for n in range(ROWS)])
    assert await recall(client, clusters, among, filter={share: 1}) >= 0.95
    assert await recall(client, clusters, among, filter={share: 1}, exact=True) == 1.0


async def test_a_walk_that_gives_up_is_made_up_for(database_url: str) -> None:
    """The nearest points are of one cluster, the filter is of the others."""
    async with serving(database_url, hnsw_ef_search=1, hnsw_max_scan_tuples=1) as client:
        clusters = await filled(client)
        among = np.arange(ROWS) % 2 == 1
        # Without the second search next to nothing would be found. A walk that finds
        # enough is not repeated, and need not find the very nearest.
        assert await recall(client, clusters, among, filter={"half": 1}) >= 0.9


async def test_deleted_points_leave_no_gap(client: Client) -> None:
    """More of the nearest points are deleted than a search keeps candidates."""
    clusters = await filled(client)
    query = clusters.queries[0]
    everything = np.ones(ROWS, dtype=bool)
    doomed = clusters.nearest(query, 500, everything)
    assert await client.delete(doomed) == 500
    left = np.array([str(n) not in doomed for n in range(ROWS)])
    found = {match.point.id for match in await client.search(query, limit=10)}
    assert len(found & clusters.nearest(query, 10, left)) >= 9
    assert len(found) == 10


async def test_filters_go_into_depth(client: Client) -> None:
    await client.create()
    await client.upsert(
        [
            point("a", [1, 2, 3], {"user": {"id": "u1", "tags": ["x", "y"]}, "n": 1}),
            point("b", [1, 2, 3], {"user": {"id": "u2", "tags": ["x"]}, "n": 1.5}),
            point("c", [1, 2, 3]),
        ]
    )

    async def ids(**filter_: Any) -> set[str]:
        found = await client.search([1, 2, 3], filter=filter_)
        assert found == await client.search([1, 2, 3], filter=filter_, exact=True)
        return {match.point.id for match in found}

    assert await ids() == {"a", "b", "c"}
    assert await ids(user={"id": "u1"}) == {"a"}
    assert await ids(user={"tags": ["x"]}) == {"a", "b"}
    assert await ids(user={"tags": ["y", "x"]}) == {"a"}
    assert await ids(user={}) == {"a", "b"}
    assert await ids(n=1) == {"a"}
    assert await ids(n=1.5) == {"b"}
    assert await ids(n="1") == set()


@pytest.mark.parametrize(
    ("request_", "reason", "field"),
    [
        (SearchPointsRequest(limit=1_001), Reason.FIELD_INVALID, "limit"),
        (SearchPointsRequest(limit=-1), Reason.FIELD_INVALID, "limit"),
        (SearchPointsRequest(vector=b""), Reason.FIELD_INVALID, "vector"),
        (SearchPointsRequest(vector=b"123"), Reason.FIELD_INVALID, "vector"),
        (SearchPointsRequest(vector=raw([0, 0, 0])), Reason.FIELD_INVALID, "vector"),
        (SearchPointsRequest(vector=raw([1, np.nan, 0])), Reason.FIELD_INVALID, "vector"),
        (SearchPointsRequest(vector=raw([1])), Reason.VECTOR_DIMENSION_MISMATCH, "vector"),
        (SearchPointsRequest(filter=struct(a=np.nan)), Reason.FIELD_INVALID, "filter"),
        (SearchPointsRequest(filter=struct(a="\0")), Reason.FIELD_INVALID, "filter"),
        (
            SearchPointsRequest(filter=struct(a="x" * 262_144)),
            Reason.PAYLOAD_TOO_LARGE,
            "filter",
        ),
    ],
)
async def test_bad_searches_are_refused(
    client: Client, request_: SearchPointsRequest, reason: Reason, field: str
) -> None:
    await client.create()
    request = SearchPointsRequest(collection="things", vector=raw([1, 2, 3]))
    if field == "vector":
        request.ClearField("vector")
    request.MergeFrom(request_)
    async with refused() as error:
        await client.searches.SearchPoints(request)
    assert error().reason is reason
    assert error().metadata["field"] == field


async def test_statements_take_the_way_they_are_named_after(
    client: Client, database_url: str
) -> None:
    clusters = await filled(client)
    connection = await asyncpg.connect(database_url)
    try:
        await set_codecs(connection)
        number = await connection.fetchval("SELECT collection_id FROM vector.collections")
        [vector] = encode_vectors(clusters.queries[:1])

        async def plan(name: str, *arguments: Any) -> str:
            statement = search_statement(name, number, records.Metric.COSINE)
            rows = await connection.fetch(
                f"EXPLAIN (COSTS OFF) {statement}", vector, 10, False, *arguments
            )
            return "\n".join(row[0] for row in rows)

        walk = f"Index Scan using points_{number}_embedding"
        payloads = f"Bitmap Index Scan on points_{number}_payload"
        for statistics in ("SELECT 'none yet'", "VACUUM ANALYZE"):
            await connection.execute(statistics)
            assert walk in await plan("search_index", "64", "20000")
            assert walk in await plan("search_iterative", "64", "20000", b'{"half":1}')
            assert "Seq Scan" in await plan("search_exact")
            assert payloads in await plan("search_exact_filtered", b'{"thousandth":1}')
    finally:
        await connection.close()


async def test_settings_of_a_walk_reach_it_and_end_with_it(
    client: Client, database_url: str
) -> None:
    clusters = await filled(client)
    connection = await asyncpg.connect(database_url)
    try:
        await set_codecs(connection)
        number = await connection.fetchval("SELECT collection_id FROM vector.collections")
        statement = search_statement("search_iterative", number, records.Metric.COSINE)
        [vector] = encode_vectors(clusters.queries[:1])
        nowhere = b'{"half":2}'

        async def looked_at(most: int) -> int:
            rows = await connection.fetch(
                f"EXPLAIN (ANALYZE, TIMING OFF, COSTS OFF, SUMMARY OFF) {statement}",
                vector, 10, False, "1", str(most), nowhere,
            )  # fmt: skip
            [removed] = [row[0] for row in rows if "Rows Removed by Filter" in row[0]]
            return int(removed.split(":")[1])

        few, many = await looked_at(1), await looked_at(100_000)
        assert few < ROWS / 10
        assert many > ROWS * 9 / 10
        assert await connection.fetchval("SHOW hnsw.ef_search") == "40"
        assert await connection.fetchval("SHOW hnsw.iterative_scan") == "off"
    finally:
        await connection.close()
