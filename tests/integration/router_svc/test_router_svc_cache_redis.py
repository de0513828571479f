"""Answers in Redis: found there, never after they were invalidated, and done without."""

import asyncio
import sys
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

import asyncpg
import pytest
import pytest_asyncio
from pydantic import SecretStr
from redis.asyncio import Redis

from router_svc.cache import between, invalidations, part, redis_store, sharing
from router_svc.cache.records import Ask
from router_svc.cache.redis_store import PREFIX
from router_svc.requests.records import Message, Role
from stepwire.api.router.v1 import cache_pb2
from stepwire.api.router.v1 import cache_service_pb2 as pb
from stepwire.call import call_context
from stepwire.db import migrate, open_pool
from stepwire.lifecycle import StartError
from stepwire.stack.postgres import PostgresServer
from stepwire.testing.poll import eventually
from stepwire.testing.postgres import fresh_database
from tests.integration.router_svc.cached_router import PATIENT, Instance, exact, instance
from tests.integration.tcp_gate import gate_to

UNUSED = "redis://:secret/word@127.0.0.1:1"


@pytest_asyncio.fixture(scope="module")
async def pool(postgres: PostgresServer) -> AsyncIterator[asyncpg.Pool]:
    with fresh_database(postgres) as url:
        async with open_pool(url, application_name="test") as made:
            await migrate(made, package="router_svc", schema="router")
            yield made


@pytest_asyncio.fixture
async def client(redis_url: str) -> AsyncIterator[Redis]:
    async with Redis.from_url(redis_url) as made:
        yield made
        await made.flushdb()


@pytest.fixture(autouse=True)
def tenant() -> Iterator[str]:
    name = f"test-{uuid.uuid4().hex[:12]}"
    with call_context(tenant_id=name):
        yield name


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Takes away what depends on the machine's speed."""
    monkeypatch.setattr(invalidations, "CURRENT_SECONDS", PATIENT)
    monkeypatch.setattr(redis_store, "PATIENCE_SECONDS", PATIENT)
    monkeypatch.setattr(between, "WRITE_SECONDS", PATIENT)


def with_redis(pool: asyncpg.Pool | None, url: str, **settings: Any) -> Any:
    given = {"cache_redis_url": SecretStr(url), "cache_redis_deadline_seconds": PATIENT}
    return instance(pool, **{**given, **settings})


async def stats_of(one: Instance) -> cache_pb2.CacheStats:
    return (await one.cache.GetCacheStats(pb.GetCacheStatsRequest())).stats


async def kept(one: Instance, *texts: str, **fields: Any) -> None:
    """Has answers made, and waits until they are in the record and in Redis."""
    for text in texts:
        assert (await one.ask(exact(text, **fields))).hit is None
    await one.written()


async def test_an_answer_is_found_in_redis(
    pool: asyncpg.Pool, client: Redis, redis_url: str
) -> None:
    async with with_redis(pool, redis_url) as one, with_redis(pool, redis_url) as other:
        told = (Message(Role.SYSTEM, "Nobody may know this."), Message(Role.USER, "And this?"))
        asked = replace(exact(), messages=told)
        first = await one.ask(asked)
        await one.written()
        await pool.execute("DELETE FROM router.answers")
        again = await other.ask(asked)
        stats = await stats_of(other)
        (name,) = await client.keys()
        key = bytes.fromhex(name.decode().removeprefix(PREFIX))
        theirs = Ask(key, b"", "another tenant", "", max_age_seconds=60)
        assert await one.router._levels.answers._between.find([key], theirs) == []  # type: ignore[attr-defined]
    assert again.completion == first.completion
    assert again.hit is not None
    assert 0 <= again.hit.age_seconds < 60
    assert (other.maker.made, stats.counts.redis_finds, stats.redis_error) == (0, 1, "")
    assert 3_500_000 < await client.pttl(name) <= 3_600_000
    assert b"Nobody may know" not in await client.get(name)


async def test_what_redis_has_lost_comes_from_the_record_and_is_put_back(
    pool: asyncpg.Pool, client: Redis, redis_url: str
) -> None:
    async with with_redis(pool, redis_url) as one, with_redis(pool, redis_url) as other:
        await kept(one, "first")
        await client.flushdb()
        assert (await other.ask(exact("first"))).hit is not None
        assert (await stats_of(other)).counts.redis_finds == 0
        await other.written()
        assert len(await client.keys()) == 1


CONDITIONS: list[dict[str, Any]] = [
    {"tag": "a"},
    {"model_version": "small-2026-01", "tag": "a"},
    {"older_than": {"nanos": 1_000}, "tag": "a"},
    {"model": "small", "tag": "a"},
]


async def test_what_is_invalidated_while_redis_is_away_is_never_given(
    pool: asyncpg.Pool, client: Redis, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sharing, "EVERY_SECONDS", 0.01)
    tenants = [f"test-{uuid.uuid4().hex[:12]}" for _ in CONDITIONS]
    async with (
        gate_to(redis_url) as gate,
        with_redis(pool, gate.url) as one,
        with_redis(pool, redis_url) as other,
    ):
        for tenant in tenants:
            with call_context(tenant_id=tenant):
                await kept(one, "gone", "gone too", tags=("a",))
                await kept(one, "stays", tags=("b",))
        await gate.shut()
        for tenant, conditions in zip(tenants, CONDITIONS, strict=True):
            with call_context(tenant_id=tenant):
                request = pb.InvalidateAnswersRequest(**conditions)
                assert (await one.cache.InvalidateAnswers(request)).answers == 2, conditions
        await gate.open()
        # Redis is all that has any now, and has all of them still.
        await pool.execute("DELETE FROM router.answers")
        assert len(await client.keys()) == 3 * len(tenants)
        known = await pool.fetchval("SELECT max(number) FROM router.invalidations")
        await eventually(lambda: other.router._levels.memory.seen == known)  # type: ignore[attr-defined]
        async with with_redis(pool, redis_url) as late:
            for asked, gone in ((other, "gone"), (late, "gone too")):
                for tenant, conditions in zip(tenants, CONDITIONS, strict=True):
                    with call_context(tenant_id=tenant):
                        assert (await asked.ask(exact("stays"))).hit is not None
                        assert (await stats_of(asked)).counts.redis_finds == 1
                        assert (await asked.ask(exact(gone))).hit is None, conditions


async def test_what_is_invalidated_before_it_is_written_is_not_written(
    pool: asyncpg.Pool, client: Redis, redis_url: str
) -> None:
    async with with_redis(pool, redis_url) as one:
        await one.ask(exact())
        await one.cache.InvalidateAnswers(pb.InvalidateAnswersRequest(all=True))
        await one.written()
        async with with_redis(pool, redis_url) as other:
            assert (await other.ask(exact())).hit is None


async def test_answers_of_another_database_are_not_given(
    pool: asyncpg.Pool, client: Redis, redis_url: str, postgres: PostgresServer
) -> None:
    async with with_redis(pool, redis_url) as one:
        await kept(one, "first")
    with fresh_database(postgres) as url:
        async with open_pool(url, application_name="test") as another:
            await migrate(another, package="router_svc", schema="router")
            async with with_redis(another, redis_url) as other:
                assert (await other.ask(exact("first"))).hit is None
    assert len(await client.keys()) == 1


async def test_who_does_not_know_what_was_invalidated_does_without_redis(
    pool: asyncpg.Pool, client: Redis, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with with_redis(pool, redis_url) as one:
        await kept(one, "first")
    await pool.execute("DELETE FROM router.answers")
    monkeypatch.setattr(invalidations, "CURRENT_SECONDS", -1.0)
    async with with_redis(pool, redis_url) as other:
        assert (await other.ask(exact("first"))).hit is None
    assert len(await client.keys()) == 1


async def test_redis_that_is_away_is_a_miss_is_counted_and_may_come_back(
    pool: asyncpg.Pool, client: Redis, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(part, "REST_SECONDS", 0.0)
    async with gate_to(redis_url) as gate, with_redis(pool, gate.url) as one:
        await gate.shut()
        await kept(one, "first")
        assert (await one.ask(exact("first"))).hit is not None
        stats = await stats_of(one)
        assert stats.counts.errors == 2
        assert "Connect" in stats.redis_error
        await gate.open()
        await kept(one, "2nd")
        assert (await stats_of(one)).redis_error == ""
        assert len(await client.keys()) == 1


async def test_redis_that_does_not_answer_is_waited_for_once(
    pool: asyncpg.Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(part, "REST_SECONDS", 3_600.0)
    monkeypatch.setattr(between, "WRITE_SECONDS", 0.01)
    callers: list[asyncio.StreamWriter] = []
    silent = await asyncio.start_server(lambda _, writer: callers.append(writer), "127.0.0.1", 0)
    url = f"redis://127.0.0.1:{silent.sockets[0].getsockname()[1]}"
    async with silent, with_redis(pool, url, cache_redis_deadline_seconds=0.01) as one:
        answers = [await one.ask(exact(text)) for text in ("a", "b", "c")]
        # Those after the first did not even try.
        assert one.router._levels.answers._between._lookups.waiting == 0  # type: ignore[attr-defined]
        await one.written()
        stats = await stats_of(one)
        for caller in callers:
            caller.close()
    assert all(answer.hit is None for answer in answers)
    # Each was neither found nor written.
    assert stats.counts.errors == 6
    assert stats.redis_error == "it does not answer in time"


async def test_redis_that_is_full_is_still_read(
    pool: asyncpg.Pool, client: Redis, redis_url: str
) -> None:
    async with with_redis(pool, redis_url) as one, with_redis(pool, redis_url) as other:
        await kept(one, "first")
        await pool.execute("DELETE FROM router.answers")
        await client.config_set("maxmemory", 1)
        try:
            await kept(other, "2nd")
            told = (await stats_of(other)).redis_error
            assert "maxmemory" in told
            assert PREFIX not in told
            assert (await other.ask(exact("first"))).hit is not None
        finally:
            await client.config_set("maxmemory", 0)


async def test_a_start_says_what_redis_lacks(
    pool: asyncpg.Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refused(pool: asyncpg.Pool | None, url: str) -> str:
        with pytest.raises(StartError) as caught:
            async with AsyncExitStack() as stack:
                await stack.enter_async_context(with_redis(pool, url))
        return str(caught.value)

    assert "STEPWIRE_ROUTER_POSTGRES_URL" in await refused(None, UNUSED)
    for url in (UNUSED, "postgresql://secret/word"):
        told = await refused(pool, url)
        assert told == "STEPWIRE_ROUTER_CACHE_REDIS_URL is no URL of a Redis"
    monkeypatch.delitem(sys.modules, "router_svc.cache.redis_store")
    monkeypatch.setitem(sys.modules, "redis.asyncio", None)
    assert "pip install 'stepwire[redis]'" in await refused(pool, UNUSED)
