"""Answers given again: to equal requests, at once and later, here and by other instances."""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import asyncpg
import pytest
import pytest_asyncio

from router_svc.cache import sharing
from router_svc.cache.behind import Behind
from router_svc.cache.front import CachedRouter
from router_svc.cache.store import PostgresAnswerStore
from router_svc.decide.records import DecisionReason, Rejection, RejectionCode
from router_svc.generate.failures import FailureKind, ProviderFailure
from router_svc.generate.records import FailedTry, FinishReason, HitKind
from router_svc.requests.records import Attribution
from stepwire.api.router.v1 import cache_pb2
from stepwire.api.router.v1 import cache_service_pb2 as pb
from stepwire.api.router.v1 import requirements_pb2 as requirements_pb
from stepwire.api.router.v1 import router_service_pb2 as router_pb
from stepwire.api.router.v1.cache_service_pb2_grpc import CacheServiceStub
from stepwire.api.router.v1.router_service_pb2_grpc import RouterServiceStub
from stepwire.call import call_context
from stepwire.db import migrate, open_pool
from stepwire.errors import Reason, StepwireError
from stepwire.stack.postgres import PostgresServer
from stepwire.testing.fleet import running_fleet
from stepwire.testing.poll import eventually
from stepwire.testing.postgres import fresh_database
from tests.integration.router_svc.cached_router import CATALOGUE, COST, Instance, exact, instance
from tests.integration.router_svc.running_router import ask, chat_model, error_of, router_channel
from tests.unit.router_svc.router_builders import a_request, decide_on


@pytest.fixture(scope="module")
def url(postgres: PostgresServer) -> Iterator[str]:
    with fresh_database(postgres) as made:
        yield made


@pytest_asyncio.fixture(scope="module")
async def pool(url: str) -> AsyncIterator[asyncpg.Pool]:
    async with open_pool(url, application_name="test") as made:
        await migrate(made, package="router_svc", schema="router")
        yield made


@pytest.fixture(autouse=True)
def tenant() -> Iterator[str]:
    """Makes each test another tenant."""
    name = f"test-{uuid.uuid4().hex[:12]}"
    with call_context(tenant_id=name):
        yield name


@pytest_asyncio.fixture
async def alone() -> AsyncIterator[Instance]:
    async with instance(None) as made:
        yield made


async def kept(cache: Any) -> cache_pb2.CacheStats:
    return (await cache.GetCacheStats(pb.GetCacheStatsRequest())).stats


async def test_an_equal_request_gets_the_same_answer_for_nothing(alone: Instance) -> None:
    first = await alone.ask(exact())
    again = await alone.ask(exact())
    texts, end = await alone.stream(exact())
    assert alone.maker.made == 1
    assert first.hit is None
    for answer in (again, end):
        assert answer.completion == first.completion
        assert answer.hit is not None
        assert (answer.hit.kind, answer.hit.similarity) == (HitKind.EXACT, 1.0)
        assert (answer.usage, answer.cost_micro_usd) == (first.usage, 0)
        assert answer.decision.decision_id == first.decision.decision_id
        assert answer.decision.reasons == (DecisionReason.CACHED,)
    assert "".join(texts) == "one 1"
    noted = [
        (entry.cached, entry.cost_micro_usd, entry.usage.total) for entry in alone.book.entries
    ]
    assert noted == [(True, 0, 0)] * 2
    counts = (await kept(alone.cache)).counts
    assert (counts.requests, counts.exact_hits, counts.saved_micro_usd) == (3, 2, 2 * COST)


async def test_without_the_caller_s_wish_nothing_is_kept_or_given(alone: Instance) -> None:
    answers = [await alone.ask(request) for request in (exact(), a_request(), a_request())]
    assert [answer.completion.text for answer in answers] == ["one 1", "one 2", "one 3"]
    assert (await kept(alone.cache)).counts.requests == 1


async def test_a_long_answer_is_sent_again_in_pieces(alone: Instance) -> None:
    said = " ".join(map(str, range(2_000)))
    answer = (await alone.ask(exact())).completion
    alone.maker.change = {"completion": replace(answer, text=said)}
    await alone.ask(exact("And that?"))
    texts, _ = await alone.stream(exact("And that?"))
    assert "".join(texts) == said
    assert len(texts) > 5
    assert all(text.endswith(" ") for text in texts[:-1])


async def test_equal_requests_at_once_share_one_answer(alone: Instance) -> None:
    alone.maker.gate.clear()
    calls = [asyncio.create_task(alone.stream(exact())) for _ in range(2)]
    calls += [asyncio.create_task(alone.ask(exact())) for _ in range(2)]
    await eventually(lambda: alone.maker.made == 1)
    late = asyncio.create_task(alone.stream(exact()))
    await asyncio.sleep(0)
    alone.maker.gate.set()
    streamed = [await calls[0], await calls[1], await late]
    ends = [end for _, end in streamed] + [await calls[2], await calls[3]]
    assert alone.maker.made == 1
    assert [texts for texts, _ in streamed] == [["one ", "1"]] * 3
    assert {end.completion.text for end in ends} == {"one 1"}
    kinds = [None if end.hit is None else end.hit.kind for end in ends]
    assert kinds == [None, *[HitKind.JOINED] * 4]
    assert [end.cost_micro_usd for end in ends] == [COST, 0, 0, 0, 0]
    assert len(alone.book.entries) == 4


async def test_the_others_get_their_answer_when_the_first_caller_leaves(alone: Instance) -> None:
    alone.maker.gate.clear()
    first, second = (asyncio.create_task(alone.stream(exact())) for _ in range(2))
    await eventually(lambda: alone.maker.made == 1)
    first.cancel()
    await asyncio.wait([first])
    alone.maker.gate.set()
    texts, end = await second
    assert (texts, alone.maker.given_up) == (["one ", "1"], 0)
    assert end.hit is not None
    assert (await alone.ask(exact())).completion.text == "one 1"


async def test_an_answer_that_nobody_waits_for_is_given_up(alone: Instance) -> None:
    alone.maker.gate.clear()
    async with aclosing(alone.router.stream(exact(), deadline=None)) as pieces:
        assert (await anext(pieces)).text == "one "
        await eventually(lambda: alone.maker.made == 1)
    await eventually(lambda: alone.maker.given_up == 1)
    alone.maker.gate.set()
    assert (await alone.ask(exact())).completion.text == "one 2"


async def test_a_deadline_is_its_caller_s_alone(alone: Instance) -> None:
    late = StepwireError(Reason.DEADLINE_EXCEEDED, "late")
    alone.maker.errors.append(late)
    alone.maker.gate.clear()
    first, second = (asyncio.create_task(alone.ask(exact())) for _ in range(2))
    await eventually(lambda: alone.maker.made == 1)
    hurried = asyncio.create_task(alone.ask(exact(), deadline=time.monotonic() + 0.05))
    with pytest.raises(StepwireError) as caught:
        await hurried
    assert caught.value.reason is Reason.DEADLINE_EXCEEDED
    assert alone.maker.made == 1
    alone.maker.gate.set()
    with pytest.raises(StepwireError):
        await first
    assert (await second).completion.text == "one 2"


async def test_a_stream_that_ends_by_another_s_deadline_has_broken_off(alone: Instance) -> None:
    alone.maker.errors.append(StepwireError(Reason.DEADLINE_EXCEEDED, "late"))
    alone.maker.gate.clear()
    first, second = (asyncio.create_task(alone.stream(exact())) for _ in range(2))
    await eventually(lambda: alone.maker.made == 1)
    alone.maker.gate.set()
    results = await asyncio.gather(first, second, return_exceptions=True)
    assert [getattr(each, "reason", None) for each in results] == [
        Reason.DEADLINE_EXCEEDED,
        Reason.PROVIDER_UNAVAILABLE,
    ]


async def test_a_budget_is_its_caller_s_alone(alone: Instance) -> None:
    alone.maker.errors.append(StepwireError(Reason.BUDGET_EXHAUSTED, "nothing left"))
    alone.maker.gate.clear()
    poor, rich = (
        asyncio.create_task(alone.ask(exact(attribution=Attribution(project))))
        for project in ("poor", "rich")
    )
    await eventually(lambda: alone.maker.made == 1)
    alone.maker.gate.set()
    with pytest.raises(StepwireError) as caught:
        await poor
    assert caught.value.reason is Reason.BUDGET_EXHAUSTED
    answer = await rich
    assert (answer.completion.text, answer.hit) == ("one 2", None)


async def test_nobody_joins_what_was_begun_before_an_invalidation(alone: Instance) -> None:
    alone.maker.gate.clear()
    before = asyncio.create_task(alone.ask(exact()))
    await eventually(lambda: alone.maker.made == 1)
    await alone.cache.InvalidateAnswers(pb.InvalidateAnswersRequest(all=True))
    after = asyncio.create_task(alone.ask(exact()))
    await eventually(lambda: alone.maker.made == 2)
    alone.maker.gate.set()
    assert [(await each).completion.text for each in (before, after)] == ["one 1", "one 2"]
    assert (await alone.ask(exact())).completion.text == "one 2"


async def test_a_failure_is_that_of_all_who_wait_and_is_not_kept(alone: Instance) -> None:
    alone.maker.errors.append(StepwireError(Reason.MODELS_EXHAUSTED, "none"))
    alone.maker.gate.clear()
    calls = [asyncio.create_task(alone.ask(exact())) for _ in range(2)]
    await eventually(lambda: alone.maker.made == 1)
    alone.maker.gate.set()
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert [getattr(each, "reason", None) for each in results] == [Reason.MODELS_EXHAUSTED] * 2
    assert (await alone.ask(exact())).hit is None


async def test_answers_that_are_not_whole_or_not_usual_are_not_kept(alone: Instance) -> None:
    usual = await alone.ask(exact("before"))
    other = decide_on(a_request(), CATALOGUE).tries[1]
    failed = FailedTry(other, "", ProviderFailure(FailureKind.SERVER, "down"))
    explored = replace(usual.decision, reasons=(DecisionReason.EXPLORED,))
    rested = replace(usual.decision, reasons=(DecisionReason.BETTER_ONE_RESTS,))
    too_dear = replace(other, rejections=(Rejection(RejectionCode.BUDGET, "too dear now"),))
    unaffordable = replace(usual.decision, rejected=(too_dear,))
    changes: list[dict[str, Any]] = [
        {"completion": replace(usual.completion, finish=FinishReason.LENGTH)},
        {"completion": replace(usual.completion, finish=FinishReason.CONTENT_FILTER)},
        {"completion": replace(usual.completion, finish=FinishReason.UNKNOWN)},
        {"completion": replace(usual.completion, text="")},
        {"failed": (failed,)},
        {"decision": explored},
        {"decision": rested},
        {"decision": unaffordable},
    ]
    for change in changes:
        alone.maker.change = change
        await alone.ask(exact())
        assert (await alone.ask(exact())).hit is None, change
    retried = replace(failed, candidate=usual.decision.chosen)
    alone.maker.change = {"failed": (retried,)}
    await alone.ask(exact())
    assert (await alone.ask(exact())).hit is not None


async def test_an_answer_is_given_no_longer_than_the_caller_accepts(alone: Instance) -> None:
    await alone.ask(exact())
    assert (await alone.ask(exact(max_age_seconds=30.0))).hit is not None
    # It is older than a millionth of a second by the time that it is looked at.
    assert (await alone.ask(exact(max_age_seconds=1e-6))).completion.text == "one 2"
    assert (await alone.ask(exact())).completion.text == "one 2"


@asynccontextmanager
async def two(pool: asyncpg.Pool) -> AsyncIterator[tuple[Instance, Instance]]:
    async with instance(pool) as one, instance(pool) as other:
        other.maker.name = "other"
        yield one, other


async def test_two_instances_share_answers(pool: asyncpg.Pool) -> None:
    async with two(pool) as (one, other):
        await one.ask(exact(tags=("a",)))
        await one.written()
        stats = await kept(one.cache)
        answer = await other.ask(exact())
        texts, _ = await other.stream(exact())
    assert other.maker.made == 0
    assert answer.completion.text == "".join(texts) == "one 1"
    assert answer.hit is not None
    assert answer.hit.kind is HitKind.EXACT
    assert 0 <= answer.hit.age_seconds < 60
    (share,) = stats.models
    assert (share.model, share.model_version, share.answers) == ("small", "small-2026-01", 1)
    assert share.bytes == stats.bytes > 0
    assert stats.HasField("oldest_time")


SELECTIONS: list[tuple[dict[str, Any], int]] = [
    ({"tag": "a"}, 1),
    ({"tag": "c"}, 0),
    ({"model": "small"}, 2),
    ({"model": "large"}, 0),
    ({"model": "small", "model_version": "small-2026-01", "tag": "b"}, 1),
    ({"model_version": "small-2025"}, 0),
    ({"older_than": {"seconds": 3_600}}, 0),
    ({"older_than": {"nanos": 1_000}}, 2),
    ({"all": True}, 2),
]


async def test_what_is_invalidated_is_gone_everywhere(
    pool: asyncpg.Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sharing, "EVERY_SECONDS", 0.01)
    async with two(pool) as (one, other):
        for place, (conditions, removed) in enumerate(SELECTIONS):
            with call_context(tenant_id=f"neighbour-{place}"):
                await one.ask(exact("first", tags=("a",)))
            with call_context(tenant_id=f"selecting-{place}"):
                request = pb.InvalidateAnswersRequest(**conditions)
                assert await invalidated(one, other, request) == removed, conditions
            with call_context(tenant_id=f"neighbour-{place}"):
                assert (await one.ask(exact("first"))).hit is not None


async def invalidated(one: Instance, other: Instance, request: pb.InvalidateAnswersRequest) -> int:
    """Returns how many of two answers are gone: counted, here at once, and there soon."""
    first = await one.ask(exact("first", tags=("a",)))
    second = await one.ask(exact("2nd", tags=("b",)))
    old = {first.completion.text, second.completion.text}
    await one.written()
    asked = [exact("first"), exact("2nd")]
    assert {(await other.ask(each)).completion.text for each in asked} == old
    request.validate_only = True
    counted = (await one.cache.InvalidateAnswers(request)).answers
    assert (await kept(one.cache)).answers == 2
    request.validate_only = False
    gone = (await one.cache.InvalidateAnswers(request)).answers
    assert gone == counted
    anew = [await one.ask(each) for each in asked]
    assert [each.hit for each in anew].count(None) == gone

    async def noticed() -> bool:
        there = {(await other.ask(each)).completion.text for each in asked}
        return len(there & old) == 2 - gone

    await eventually(noticed)
    return gone


@pytest.mark.parametrize("shared", [True, False])
async def test_what_was_being_made_meanwhile_is_not_kept(
    pool: asyncpg.Pool, *, shared: bool
) -> None:
    async with instance(pool if shared else None) as one, instance(pool) as other:
        one.maker.gate.clear()
        making = asyncio.create_task(one.ask(exact()))
        await eventually(lambda: one.maker.made == 1)
        # The record knows it, whichever instance was asked.
        asked = other if shared else one
        await asked.cache.InvalidateAnswers(pb.InvalidateAnswersRequest(model="small"))
        one.maker.gate.set()
        assert (await making).completion.text == "one 1"
        if shared:
            await one.written()
            assert (await other.ask(exact())).hit is None
        else:
            assert (await one.ask(exact())).hit is None


async def test_what_the_record_cannot_hold_keeps_no_later_answer_out(
    pool: asyncpg.Pool, tenant: str
) -> None:
    async with instance(pool) as one:
        whole = (await one.ask(exact("before"))).completion
        one.maker.change = {"completion": replace(whole, model="a\0b")}
        with call_context(tenant_id=tenant):
            await one.ask(exact("bad"))
            await eventually(lambda: not behind_of(one).backlog._waiting)
            one.maker.change = {}
            await one.ask(exact("good"))

        async def is_kept() -> bool:
            count = "SELECT count(*) FROM router.answers WHERE tenant_id = $1"
            return await pool.fetchval(count, tenant) == 1

        await eventually(is_kept)


def behind_of(one: Instance) -> Behind:
    return cast("CachedRouter", one.router)._levels.behind


async def test_old_answers_and_those_too_many_go(pool: asyncpg.Pool, tenant: str) -> None:
    store = PostgresAnswerStore(pool)
    async with instance(pool) as one:
        for number in range(3):
            await one.ask(exact(str(number)))
        await one.written()
        await pool.execute("DELETE FROM router.answers WHERE tenant_id <> $1", tenant)
        assert await store.purge(most=2, ttl_seconds=60, limit=10) == 1
        await pool.execute("UPDATE router.answers SET expires_at = now()")
        assert (await kept(one.cache)).answers == 0
        assert await store.purge(most=2, ttl_seconds=60, limit=10) == 2


async def test_a_record_that_is_away_is_a_miss_and_is_counted(url: str) -> None:
    async with open_pool(url, application_name="test") as pool, instance(pool) as one:
        await pool.close()
        assert (await one.ask(exact())).completion.text == "one 1"
        assert (await one.ask(exact())).hit is not None
        assert (await one.ask(exact("another"))).hit is None
        error = await error_of(one.cache.InvalidateAnswers(pb.InvalidateAnswersRequest(all=True)))
    assert error.reason is Reason.DEPENDENCY_UNAVAILABLE


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({}, "all"),
        ({"all": True, "tag": "a"}, "all"),
        ({"older_than": {"seconds": -1}}, "older_than"),
    ],
)
async def test_what_is_to_go_must_be_said(
    alone: Instance, fields: dict[str, Any], field: str
) -> None:
    error = await error_of(alone.cache.InvalidateAnswers(pb.InvalidateAnswersRequest(**fields)))
    assert (error.reason, error.metadata) == (Reason.FIELD_INVALID, {"field": field})


async def test_the_api_says_that_an_answer_is_an_earlier_one(tmp_path: Path) -> None:
    cache = requirements_pb.CacheControl(mode=requirements_pb.CACHE_MODE_EXACT, tags=["a"])
    async with running_fleet("east") as fleet:
        model = chat_model("east", fleet["east"].base_url)
        model["provider"]["model"] = "small"
        async with router_channel(tmp_path, model) as channel:
            stub, caches = RouterServiceStub(channel), CacheServiceStub(channel)
            first = await stub.Generate(ask(cache=cache))
            again = await stub.Generate(ask(cache=cache))
            call = stub.StreamGenerate(router_pb.StreamGenerateRequest(request=ask(cache=cache)))
            pieces = [piece async for piece in call]
            assert len(fleet["east"].seen) == 1
            stats = await kept(caches)
            gone = await caches.InvalidateAnswers(pb.InvalidateAnswersRequest(tag="a"))
            anew = await stub.Generate(ask(cache=cache))
    assert not first.HasField("cache_hit")
    assert first.usage.cost_micro_usd > 0
    assert again.text == first.text == "".join(piece.text for piece in pieces)
    for answer in (again, pieces[-1].end):
        assert answer.cache_hit.kind == cache_pb2.CACHE_HIT_KIND_EXACT
        assert answer.cache_hit.HasField("age")
        assert answer.usage.input_tokens == first.usage.input_tokens
        assert answer.usage.cost_micro_usd == 0
        assert answer.decision.decision_id == first.decision.decision_id
    assert (stats.answers, stats.counts.exact_hits, gone.answers) == (1, 2, 1)
    assert not anew.HasField("cache_hit")
