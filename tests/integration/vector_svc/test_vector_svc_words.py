"""Searches for words: BM25 as by the textbook, joined with vectors, and what points do to it."""

import math
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from vector_svc_harness import Client, containing, point, refused, serving

from stepwire.api.vector.v1.collection_pb2 import METRIC_DOT, TextOptions
from stepwire.api.vector.v1.filter_pb2 import Condition, FieldCondition, Filter
from stepwire.api.vector.v1.search_pb2 import SEARCH_PLAN_WORDS, WordQuery
from vector_svc.search import courses, store

ROWS = 600
DIMENSION = 8
WORDS = ["boat", "bread", "stone", "tide", "harbour", "night", "fee", "euro", "mooring", "oven"]


@dataclass(frozen=True)
class Written:
    """What is in the collection: row n is the point with the id n."""

    vectors: Any
    texts: list[str]
    query: Any


async def made(client: Client) -> Written:
    """Make a collection whose first words are frequent and whose last are rare."""
    random = np.random.default_rng(7)
    share = np.arange(len(WORDS), 0, -1) ** 2.0
    texts = [
        " ".join(random.choice(WORDS, random.integers(1, 20), p=share / share.sum()))
        for _ in range(ROWS)
    ]
    vectors = random.standard_normal((ROWS, DIMENSION)).astype("<f4")
    await client.create("things", DIMENSION, METRIC_DOT, text=TextOptions(field="text"))
    await client.upsert(
        [
            point(str(n), vector, {"text": text, "half": n % 2})
            for n, (vector, text) in enumerate(zip(vectors, texts, strict=True))
        ]
    )
    return Written(vectors, texts, random.standard_normal(DIMENSION).astype("<f4"))


def bm25(texts: list[str], words: str) -> dict[str, float]:
    """The scores by the textbook; points without any of the words are left out."""
    documents = [Counter(text.split()) for text in texts]
    mean = sum(each.total() for each in documents) / len(documents)
    scores: dict[str, float] = {}
    for word in set(words.split()):
        having = sum(word in each for each in documents)
        rarity = math.log(1 + (len(texts) - having + 0.5) / (having + 0.5))
        for number, each in enumerate(documents):
            if word in each:
                norm = 1.2 * (0.25 + 0.75 * each.total() / mean)
                share = rarity * each[word] * 2.2 / (each[word] + norm)
                scores[str(number)] = scores.get(str(number), 0.0) + share
    return scores


def best(scores: dict[str, float], count: int) -> list[str]:
    return sorted(scores, key=lambda name: (-scores[name], name))[:count]


async def test_words_rank_as_bm25_does(client: Client) -> None:
    written = await made(client)
    response = await client.find(words=WordQuery(words="Mooring oven"), limit=20)
    assert response.report.plan == SEARCH_PLAN_WORDS
    truth = bm25(written.texts, "mooring oven")
    found = {each.point.id: each.score for each in response.points}
    assert list(found.values()) == pytest.approx(
        [truth[name] for name in best(truth, 20)], rel=1e-5
    )
    assert found == pytest.approx({name: truth[name] for name in found}, rel=1e-5)
    assert (await client.find(words=WordQuery(words="unheard of"))).points == []


def fused(near: Any, fit: list[str], words: WordQuery) -> dict[str, float]:
    """The scores by the definition; places count from 1."""
    scores: dict[str, float] = {}
    for weight, ranking in ((words.vector_weight, map(str, near)), (words.weight, fit)):
        for place, name in enumerate(ranking, start=1):
            scores[name] = scores.get(name, 0.0) + weight / (words.k + place)
    return scores


async def test_both_rankings_are_joined_by_their_places(client: Client) -> None:
    """Many points have equal scores by words, and their ids decide."""
    written = await made(client)
    nearness = written.vectors @ written.query
    near = np.argsort(-nearness, kind="stable")
    least = {100: None, 40: float(nearness[near[39]]), 0: float(nearness[near[0]]) + 1}
    for asked in ("mooring oven", "boat", "euro boat bread", "oven fee tide", "unheard of"):
        words = WordQuery(words=asked, weight=2, vector_weight=0.5, k=10)
        # Scores that only the order of their sums makes differ are equal.
        fit = {name: round(score, 12) for name, score in bm25(written.texts, asked).items()}
        alone = await client.find(words=words, limit=30)
        assert [each.point.id for each in alone.points] == best(fit, 30)
        for limit, offset, close in (
            (10, 0, 100),
            (1, 0, 100),
            (7, 90, 100),
            (20, 5, 40),
            (5, 0, 0),
        ):
            response = await client.find(
                written.query,
                words=words,
                limit=limit,
                offset=offset,
                exact=True,
                score_threshold=least[close],
            )
            scores = fused(near[:close], best(fit, 100), words)
            found = [each.point.id for each in response.points]
            assert found == best(scores, offset + limit)[offset:]
            assert [each.score for each in response.points] == pytest.approx(
                [scores[name] for name in found], rel=1e-5
            )


async def test_words_and_filters_go_together(client: Client) -> None:
    written = await made(client)
    half = containing(half=1)
    found = (await client.find(words=WordQuery(words="oven"), filter=half, limit=50)).points
    assert all(int(each.point.id) % 2 for each in found)
    truth = bm25(written.texts, "oven")
    odd = {name: score for name, score in truth.items() if int(name) % 2}
    assert [each.score for each in found] == pytest.approx(
        [odd[name] for name in best(odd, 50)], rel=1e-5
    )
    both = Filter(must=[Condition(field=FieldCondition(path="text", words="Oven mooring"))])
    holding = {
        str(n) for n, text in enumerate(written.texts) if {"oven", "mooring"} <= set(text.split())
    }
    near = await client.search(written.query, filter=both, limit=1_000)
    assert {each.point.id for each in near} == holding


async def test_expired_points_take_no_place_among_words(client: Client) -> None:
    await client.create("things", 2, text=TextOptions(field="text"))
    gone = [point(f"gone {n}", [1, 0], {"text": "boat"}) for n in range(5)]
    for each in gone:
        each.expire_time.FromSeconds(1)
    there = [point(f"there {n}", [0, 1], {"text": "boat and bread"}) for n in range(5)]
    await client.upsert(gone + there)
    everything = Filter(must=[Condition(field=FieldCondition(path="text", words="boat"))])
    for options in ({}, {"filter": everything}, {"vector": [0, 1]}):
        response = await client.find(words=WordQuery(words="boat"), limit=5, **options)
        assert {each.point.id for each in response.points} == {each.id for each in there}


async def test_what_was_not_read_of_a_frequent_word_may_be_missing(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (store, courses):
        monkeypatch.setattr(module, "POSTINGS_FILTERED", 5)
    await client.create("things", 2, text=TextOptions(field="text"))
    await client.upsert([point(str(n), [1, 0], {"text": "boat", "n": n}) for n in range(5)])
    odd_one = {"words": WordQuery(words="boat"), "filter": containing(n=5), "limit": 1}
    assert not (await client.find(**odd_one)).report.may_be_short
    await client.create("more", 2, text=TextOptions(field="text"))
    texts = ["boat"] * 5 + ["a boat of which more is said"]
    await client.upsert(
        [point(str(n), [1, 0], {"text": text, "n": n}) for n, text in enumerate(texts)], "more"
    )
    response = await client.find(name="more", **odd_one)
    assert response.report.may_be_short == (not response.points)
    assert response.report.may_be_short


async def test_words_follow_the_points(client: Client) -> None:
    await client.create("things", 2, text=TextOptions(field="text", language="english"))
    await client.upsert(
        [point("a", [1, 0], {"text": "Boats"}), point("b", [0, 1], {"text": "bread bread"})]
    )

    async def found(words: str) -> dict[str, float]:
        response = await client.find(words=WordQuery(words=words))
        return {each.point.id: each.score for each in response.points}

    assert list(await found("boat")) == ["a"]
    before = await found("bread")
    await client.upsert([point("a", [1, 0], {"text": "stones"}), point("c", [1, 1], {"n": 1})])
    assert await found("boating") == {}
    assert list(await found("stone")) == ["a"]
    assert await found("bread") == before
    await client.delete(["a"])
    assert await found("stone") == {}
    [(name, score)] = (await found("bread")).items()
    assert (name, score) == ("b", pytest.approx(math.log(1 + 0.5 / 1.5) * 2 * 2.2 / (2 + 1.2)))
    await client.drop()


async def test_a_text_of_more_words_than_can_be_indexed_is_refused(
    service_url: str, tenant: str
) -> None:
    async with serving(service_url, payload_max_bytes=4 * 2**20) as client:
        await client.create("things", 2, text=TextOptions(field="text"))
        text = " ".join(f"w{n}" for n in range(150_000))
        async with refused() as error:
            await client.upsert([point("a", [1, 0], {"text": text})])
    assert error().metadata == {"field": "payload.text"}


LONGEST_ID = "\U0001f6a4" * 256
LONGEST_WORDS = ["w" * 1024, "é" * 512, "語" * 341]


@pytest.mark.parametrize("word", LONGEST_WORDS, ids=["1 byte", "2 bytes", "3 bytes"])
async def test_words_up_to_a_length_are_indexed_and_longer_ones_passed_over(
    client: Client, word: str
) -> None:
    """With the longest id that there may be, as both stand in one row of an index."""
    await client.create("things", 2, text=TextOptions(field="text"))
    texts = [f"{word} tide", f"{word}{word[0]} tide", f"{word[:-1]} {word * 2} tide"]
    await client.upsert(
        [point(f"{n}{LONGEST_ID[1:]}", [1, 0], {"text": text}) for n, text in enumerate(texts)]
    )

    async def found(words: str) -> dict[str, float]:
        response = await client.find(words=WordQuery(words=words))
        return {each.point.id[0]: each.score for each in response.points}

    assert list(await found(word)) == ["0"]
    assert list(await found(word[:-1])) == ["2"]
    assert await found(f"{word}{word[0]} {word * 2}") == {}
    tide = await found("tide")
    assert set(tide) == {"0", "1", "2"}
    # Where it was passed over, it is no part of the text's length either.
    assert tide["1"] > tide["0"] == tide["2"]
    assert await found(f"{word}{word[0]} tide") == tide
    await client.upsert([point(f"0{LONGEST_ID[1:]}", [1, 0], {"text": word * 3})])
    await client.delete([f"1{LONGEST_ID[1:]}"])
    assert set(await found("tide")) == {"2"}
    assert await found(word) == {}
