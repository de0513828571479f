"""Searches: right scores, what is asked of points, and what they carry."""

from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from google.protobuf.duration_pb2 import Duration
from vector_svc_harness import Client, containing, point, raw, refused

from stepwire.api.vector.v1.collection_pb2 import (
    ELEMENT_TYPE_BINARY,
    METRIC_COSINE,
    METRIC_DOT,
    METRIC_EUCLIDEAN,
    METRIC_HAMMING,
    METRIC_MANHATTAN,
    IndexOptions,
    Metric,
)
from stepwire.api.vector.v1.filter_pb2 import Filter
from stepwire.api.vector.v1.search_pb2 import (
    SEARCH_PLAN_EXACT,
    SEARCH_PLAN_FILTER_FIRST,
    Diversity,
    Examples,
    PayloadSelection,
    Recency,
    WordQuery,
)
from stepwire.api.vector.v1.search_service_pb2 import (
    BatchSearchPointsRequest,
    SearchGroupsRequest,
    SearchPointsRequest,
)
from stepwire.errors import Reason


def ids(points: Any) -> list[str]:
    return [each.point.id for each in points]


@pytest.mark.parametrize(
    ("metric", "scores"),
    [
        (METRIC_COSINE, {"same": 1.0, "across": 0.0, "against": -1.0}),
        (METRIC_DOT, {"same": 6.0, "across": 0.0, "against": -4.0}),
        (METRIC_MANHATTAN, {"same": -1.0, "across": -3.0, "against": -4.0}),
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
    assert await client.search([1, 2, 3], filter=containing(a=1), exact=True) == []


async def test_the_odd_ones_among_many_near_duplicates_are_found(client: Client) -> None:
    """The edges that lead to them are given up for shorter ones, so that no walk arrives."""
    random = np.random.default_rng(5)
    odd, same = random.standard_normal((20, 48)), random.standard_normal((4, 48))
    like = same[np.arange(600) % 4] + 0.01 * random.standard_normal((600, 48))
    await client.create("things", 48, index=IndexOptions(min_points=1))
    await client.upsert([point(f"odd-{n}", vector) for n, vector in enumerate(odd)])
    await client.upsert([point(f"like-{n}", vector) for n, vector in enumerate(like)])
    for n, vector in enumerate(odd):
        found = await client.find(vector + 0.3 * random.standard_normal(48))
        assert found.points[0].point.id == f"odd-{n}"
        assert found.report.plan == SEARCH_PLAN_EXACT
        assert found.report.points_compared == 620
        assert found.report.recall_estimate == 1


async def test_filters_go_into_depth(client: Client) -> None:
    await client.create()
    await client.upsert(
        [
            point("a", [1, 2, 3], {"user": {"id": "u1", "tags": ["x", "y"]}, "n": 1}),
            point("b", [1, 2, 3], {"user": {"id": "u2", "tags": ["x"]}, "n": 1.5}),
            point("c", [1, 2, 3]),
        ]
    )

    async def found_ids(**filter_: Any) -> set[str]:
        found = await client.search([1, 2, 3], filter=containing(**filter_))
        assert found == await client.search([1, 2, 3], filter=containing(**filter_), exact=True)
        return {match.point.id for match in found}

    assert await found_ids() == {"a", "b", "c"}
    assert await found_ids(user={"id": "u1"}) == {"a"}
    assert await found_ids(user={"tags": ["x"]}) == {"a", "b"}
    assert await found_ids(user={"tags": ["y", "x"]}) == {"a"}
    assert await found_ids(user={}) == {"a", "b"}
    assert await found_ids(n=1) == {"a"}
    assert await found_ids(n=1.5) == {"b"}
    assert await found_ids(n="1") == set()

    should = [*containing(n=1).must, *containing(user={"tags": ["x"]}).must]
    for least, wanted in ((0, {"a", "b"}), (1, {"a", "b"}), (2, {"a"})):
        filter_ = Filter(should=should, min_should=least)
        assert {each.point.id for each in await client.search([1, 2, 3], filter=filter_)} == wanted


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
        (
            SearchPointsRequest(filter=containing(a=np.nan)),
            Reason.FIELD_INVALID,
            "filter.must[0].contains",
        ),
        (
            SearchPointsRequest(filter=containing(a="\0")),
            Reason.FIELD_INVALID,
            "filter.must[0].contains",
        ),
        (
            SearchPointsRequest(filter=containing(a="x" * 262_144)),
            Reason.PAYLOAD_TOO_LARGE,
            "filter",
        ),
        (SearchPointsRequest(offset=-1), Reason.FIELD_INVALID, "offset"),
        (SearchPointsRequest(offset=9_991), Reason.FIELD_INVALID, "offset"),
        (SearchPointsRequest(values=[1, 2, 3]), Reason.FIELD_INVALID, "values"),
        (SearchPointsRequest(text="x"), Reason.FIELD_INVALID, "text"),
        (SearchPointsRequest(score_threshold=np.nan), Reason.FIELD_INVALID, "score_threshold"),
        (SearchPointsRequest(target_recall=1.1), Reason.FIELD_INVALID, "target_recall"),
        (SearchPointsRequest(ef_search=1_001), Reason.FIELD_INVALID, "ef_search"),
        (SearchPointsRequest(probes=32_769), Reason.FIELD_INVALID, "probes"),
        (SearchPointsRequest(oversampling=0.5), Reason.FIELD_INVALID, "oversampling"),
        (
            SearchPointsRequest(diversity=Diversity(strength=2)),
            Reason.FIELD_INVALID,
            "diversity.strength",
        ),
        (SearchPointsRequest(recency=Recency()), Reason.FIELD_INVALID, "recency.half_life"),
        (SearchPointsRequest(words=WordQuery()), Reason.FIELD_INVALID, "words.words"),
        (SearchPointsRequest(words=WordQuery(words="x")), Reason.FIELD_INVALID, "words"),
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


async def three(client: Client) -> None:
    await client.create()
    await client.upsert(
        [
            point("x", [1, 0, 0], {"doc": "a", "n": 1, "seen": "2020-01-01T00:00:00Z"}),
            point("xy", [1, 1, 0], {"doc": "b", "n": 2, "seen": "2040-01-01T00:00:00Z"}),
            point("z", [0, 0, 1], {"doc": "a", "n": 3}),
        ]
    )


async def test_only_what_is_near_enough_is_found(client: Client) -> None:
    await three(client)
    assert ids(await client.search([1, 0, 0], score_threshold=0.5)) == ["x", "xy"]
    assert ids(await client.search([1, 0, 0], score_threshold=0.8)) == ["x"]
    assert ids(await client.search([1, 0, 0], score_threshold=0.5, offset=1)) == ["xy"]


async def test_what_a_point_scored_is_near_enough_for_it(client: Client) -> None:
    """Scores are seen as float32 values, and computed as others."""
    await client.create("things", 8)
    vectors = np.random.default_rng(2).standard_normal((40, 8))
    await client.upsert([point(str(n), vector) for n, vector in enumerate(vectors)])
    hits = await client.search(vectors[0] + vectors[1], limit=40)
    for place, hit in enumerate(hits):
        found = await client.search(vectors[0] + vectors[1], limit=40, score_threshold=hit.score)
        assert ids(found) == ids(hits[: place + 1])


async def test_the_first_can_be_left_out(client: Client) -> None:
    await three(client)
    assert ids(await client.search([1, 0, 0], offset=1)) == ["xy", "z"]
    assert ids(await client.search([1, 0, 0], offset=1, limit=1)) == ["xy"]
    assert ids(await client.search([1, 0, 0], offset=3)) == []


async def test_a_vector_may_be_numbers_or_halves(client: Client) -> None:
    await three(client)
    assert ids((await client.find(values=[0, 0, 1], limit=1)).points) == ["z"]
    halves = np.array([0, 0, 1], dtype="<f2").tobytes()
    assert ids(await client.search(halves, limit=1)) == ["z"]


async def test_points_like_others_are_found_without_these(client: Client) -> None:
    await three(client)
    like = (await client.find(examples=Examples(positive_ids=["x"]))).points
    assert ids(like) == ["xy", "z"]
    examples = Examples(positive_ids=["xy"], negative_ids=["x"])
    assert ids((await client.find(examples=examples)).points) == ["z"]
    async with refused() as error:
        await client.find(examples=Examples(positive_ids=["x", "gone"]))
    assert error().metadata["field"] == "examples.positive_ids[1]"


async def test_payloads_are_carried_as_far_as_they_are_wanted(client: Client) -> None:
    await three(client)

    async def carried(**selection: Any) -> dict[str, Any]:
        found = await client.search([1, 0, 0], limit=1, payload=PayloadSelection(**selection))
        return dict(found[0].point.payload)

    assert await carried(include=["doc", "else"]) == {"doc": "a"}
    assert await carried(exclude=["doc", "seen"]) == {"n": 1}
    assert await carried(none=True) == {}


async def test_newer_points_gain(client: Client) -> None:
    await three(client)
    half_life = Duration()
    half_life.FromTimedelta(timedelta(days=365))
    recency = Recency(half_life=half_life, weight=0.5, path="seen")
    found = await client.search([1, 0, 0], recency=recency, limit=2)
    assert ids(found) == ["xy", "x"]
    assert found[0].score == pytest.approx(0.5**0.5 + 0.5, abs=1e-5)
    recency.path = ""
    assert ids(await client.search([1, 0, 0], recency=recency, limit=2)) == ["x", "xy"]


async def test_points_unlike_each_other_are_wanted(client: Client) -> None:
    await client.create()
    await client.upsert(
        [
            point("a", [1, 0, 0]),
            point("twin", [1, 0.001, 0]),
            point("b", [1, 1, 0]),
            point("far", [-1, 0, 0]),
        ]
    )
    assert ids(await client.search([1, 0, 0], limit=2)) == ["a", "twin"]
    found = await client.search([1, 0, 0], limit=2, diversity=Diversity())
    assert ids(found) == ["a", "b"]
    assert found[0].point.vector == b""
    strict = await client.search([1, 0, 0], limit=2, diversity=Diversity(candidates=2))
    assert ids(strict) == ["a", "twin"]


async def test_groups_have_their_best_points(client: Client) -> None:
    await three(client)
    request = SearchGroupsRequest(
        collection="things",
        search=SearchPointsRequest(vector=raw([1, 0, 0])),
        group_by="doc",
        group_size=2,
    )
    response = await client.searches.SearchGroups(request)
    assert [(each.value.string_value, ids(each.points)) for each in response.groups] == [
        ("a", ["x", "z"]),
        ("b", ["xy"]),
    ]
    request.search.limit = request.group_size = 1
    response = await client.searches.SearchGroups(request)
    assert [ids(each.points) for each in response.groups] == [["x"]]
    request.group_by = ""
    async with refused() as error:
        await client.searches.SearchGroups(request)
    assert error().metadata["field"] == "group_by"


async def test_a_batch_has_the_results_of_its_searches_in_order(client: Client) -> None:
    await three(client)
    searches = [
        SearchPointsRequest(vector=raw([0, 0, 1]), limit=1),
        SearchPointsRequest(collection="things", vector=raw([1, 0, 0]), limit=2),
        SearchPointsRequest(vector=raw([1, 0, 0]), filter=containing(n=2)),
    ]
    request = BatchSearchPointsRequest(collection="things", searches=searches)
    response = await client.searches.BatchSearchPoints(request)
    assert [ids(each.points) for each in response.results] == [["z"], ["x", "xy"], ["xy"]]
    assert [each.report.plan for each in response.results] == [
        *(SEARCH_PLAN_EXACT, SEARCH_PLAN_EXACT, SEARCH_PLAN_FILTER_FIRST)
    ]
    request.searches[1].limit = -1
    async with refused() as error:
        await client.searches.BatchSearchPoints(request)
    assert error().metadata["field"] == "searches[1].limit"
    request.searches[1].collection = "others"
    async with refused() as error:
        await client.searches.BatchSearchPoints(request)
    assert error().metadata["field"] == "searches[1].collection"


async def test_one_page_follows_another_however_many_are_equally_near(client: Client) -> None:
    await client.create("bits", 8, METRIC_HAMMING, element_type=ELEMENT_TYPE_BINARY)
    await client.upsert([point(f"{n:03}", bytes([1 << n % 8])) for n in range(300)], "bits")
    seen: list[str] = []
    for offset in range(0, 300, 50):
        seen += ids(await client.search(b"\0", "bits", limit=50, offset=offset))
    assert seen == sorted(seen)
    assert len(set(seen)) == 300


async def test_expired_points_are_not_found(client: Client) -> None:
    await client.create()
    gone, there = point("gone", [1, 0, 0]), point("there", [0, 1, 0])
    gone.expire_time.FromSeconds(1)
    await client.upsert([gone, there])
    assert ids(await client.search([1, 0, 0])) == ["there"]
