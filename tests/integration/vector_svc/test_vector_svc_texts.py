"""Texts in place of vectors, and points ranked again by their texts, with a real model service."""

from typing import Any

import numpy as np
import pytest
from vector_svc_harness import Client, containing, point, raw, refused, serving

from stepwire.api.vector.v1.collection_pb2 import TextOptions
from stepwire.api.vector.v1.point_pb2 import Point
from stepwire.api.vector.v1.search_pb2 import Diversity, PayloadSelection, Rerank, WordQuery
from stepwire.api.vector.v1.search_service_pb2 import (
    BatchSearchPointsRequest,
    SearchGroupsRequest,
    SearchPointsRequest,
)
from stepwire.errors import Reason

MODEL = "all-minilm-l6-v2"
DIMENSION = 384
FILLER = "The committee met and went through the minutes of its last meeting. " * 8
PHRASES = {
    "cat": "A cat sleeps on the warm windowsill.",
    "tax": "Income tax is due at the end of April.",
    "sea": "Waves break on the harbour wall at night.",
}


def written(point_id: str, text: str) -> Point:
    """A point whose text is both embedded and kept in its payload."""
    made = Point(id=point_id, text=text)
    made.payload.update({"text": text, "doc": {"text": text}})
    return made


def ids(points: Any) -> list[str]:
    return [each.point.id for each in points]


async def fill(reader: Client, **options: Any) -> None:
    await reader.create("things", DIMENSION, model=MODEL, **options)
    await reader.upsert([written(name, text) for name, text in PHRASES.items()])


async def test_texts_become_vectors_on_the_way_in_and_when_searched(reader: Client) -> None:
    await fill(reader)
    vector = np.random.default_rng(1).standard_normal(DIMENSION)
    await reader.upsert([written("more", "Kittens play."), point("plain", vector)])
    stored = {p.id: p for p in await reader.get([*PHRASES, "plain"], include_vectors=True)}
    assert stored["plain"].vector == raw(vector)
    found = (await reader.find(text=PHRASES["tax"], limit=2)).points
    assert found[0].point.id == "tax"
    assert found[0].score == pytest.approx(1, abs=1e-5)
    assert set(ids((await reader.find(text="a pet at home", limit=2)).points)) == {"cat", "more"}
    searches = [
        SearchPointsRequest(text="a pet at home", limit=1, filter=containing(text=text))
        for text in PHRASES.values()
    ]
    request = BatchSearchPointsRequest(collection="things", searches=searches)
    response = await reader.searches.BatchSearchPoints(request)
    assert [ids(each.points) for each in response.results] == [["cat"], ["tax"], ["sea"]]


async def test_texts_without_a_model_for_them_are_refused(reader: Client) -> None:
    await reader.create()
    async with refused() as error:
        await reader.upsert([point("a", [1, 2, 3]), written("b", "text")])
    assert error().faults[0].field == "points[1].text"
    async with refused() as error:
        await reader.find(text="text")
    assert error().faults[0].field == "text"
    await reader.create("wrong", 3, model=MODEL)
    async with refused() as error:
        await reader.upsert([written("b", "text")], "wrong")
    assert error().reason is Reason.VECTOR_DIMENSION_MISMATCH
    await reader.create("unknown", 3, model="no-such-model")
    async with refused() as error:
        await reader.upsert([written("b", "text")], "unknown")
    assert error().reason is Reason.MODEL_NOT_FOUND
    assert await reader.count("unknown") == 0


async def test_a_model_service_that_is_away_is_told(service_url: str, tenant: str) -> None:
    async with serving(service_url, model_target="127.0.0.1:1") as client:
        await client.create("things", 3, model=MODEL)
        await client.upsert([point("a", [1, 2, 3], {"text": "a"})])
        for call in (
            client.upsert([written("b", "text")]),
            client.find(text="text"),
            client.find([1, 2, 3], rerank=Rerank(query="x", path="text")),
        ):
            async with refused() as error:
                await call
            assert error().reason is Reason.DEPENDENCY_UNAVAILABLE
            assert error().metadata == {"dependency": "model"}
        assert ids(await client.search([1, 2, 3])) == ["a"]


async def test_points_are_ranked_again_by_every_passage_of_their_texts(reader: Client) -> None:
    """The answer stands behind what the model reads of a text when it makes its vector."""
    await fill(reader, text=TextOptions(field="text"))
    deep = FILLER * 4 + PHRASES["tax"]
    await reader.upsert([written("deep", deep), point("bare", np.ones(DIMENSION))])
    query = "When must income tax be paid?"
    plain = (await reader.find(text=query, limit=5)).points
    assert ids(plain).index("deep") > 1
    response = await reader.find(text=query, limit=5, rerank=Rerank())
    found = {each.point.id: each.score for each in response.points}
    assert set(list(found)[:2]) == {"tax", "deep"}
    assert found["deep"] > 0.5
    assert list(found)[-1] == "bare"
    assert found["bare"] == -1
    assert response.report.points_reranked == 5
    # As many as candidates are ranked, of these as many as wanted given.
    response = await reader.find(text=query, limit=1, rerank=Rerank(candidates=2))
    assert (len(response.points), response.report.points_reranked) == (1, 2)
    response = await reader.find(text=query, limit=1, rerank=Rerank())
    assert response.report.points_reranked == 4
    response = await reader.find(text=query, limit=1, rerank=Rerank(candidates=5))
    assert response.report.points_reranked == 5
    second = await reader.find(text=query, limit=1, offset=1, rerank=Rerank())
    assert ids(second.points) == list(found)[1:2]
    # By nearness to something else, by words, of another field, without payloads.
    vector = raw(np.ones(DIMENSION))
    request = {"rerank": Rerank(query=query, path="doc.text"), "limit": 2}
    for more in ({"vector": vector}, {"words": WordQuery(words="tax the")}):
        found_ids = ids((await reader.find(**more, **request)).points)
        assert set(found_ids) == {"tax", "deep"}
    [first] = (
        await reader.find(text=query, limit=1, rerank=Rerank(), payload=PayloadSelection(none=True))
    ).points
    assert dict(first.point.payload) == {}
    # Only what was near enough before, and unlike each other after.
    near = await reader.find(text=query, rerank=Rerank(), score_threshold=plain[0].score - 1e-6)
    assert ids(near.points) == ["tax"]
    unlike = await reader.find(text=query, limit=2, rerank=Rerank(), diversity=Diversity())
    assert len(unlike.points) == 2


BAD: list[tuple[dict[str, Any], str]] = [
    ({"rerank": Rerank(candidates=257)}, "rerank.candidates"),
    ({"rerank": Rerank(candidates=-1)}, "rerank.candidates"),
    ({"rerank": Rerank(query="x" * 100_001)}, "rerank.query"),
    ({"rerank": Rerank(path="a..b")}, "rerank.path"),
    ({"rerank": Rerank(), "limit": 257}, "rerank"),
    ({"rerank": Rerank()}, "rerank.path"),
    ({"rerank": Rerank(path="text"), "text": "", "vector": raw(np.ones(DIMENSION))},
     "rerank.query"),
]  # fmt: skip


async def test_bad_reranks_are_refused(reader: Client) -> None:
    await fill(reader)
    for change, field in BAD:
        async with refused() as error:
            await reader.find(**({"text": "x"} | change))
        assert error().metadata["field"] == field
    async with refused() as error:
        await reader.find(text="x", rerank=Rerank(path="text", model="no-such-model"))
    assert error().reason is Reason.MODEL_NOT_FOUND
    request = SearchGroupsRequest(collection="things", group_by="text")
    request.search.CopyFrom(SearchPointsRequest(text="x", rerank=Rerank(path="text")))
    async with refused() as error:
        await reader.searches.SearchGroups(request)
    assert error().metadata["field"] == "search.rerank"
