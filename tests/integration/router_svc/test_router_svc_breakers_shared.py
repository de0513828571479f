"""Breakers through the API, and shared between instances through Postgres."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path

import asyncpg
import pytest

from router_svc.breakers.board import Breakers
from router_svc.breakers.ports import SharedBreaker
from router_svc.breakers.records import BreakerKey, BreakerRules, Cause, Opening, Scope
from router_svc.breakers.sharing import Sharing
from router_svc.breakers.store import PostgresBreakerStore
from router_svc.generate.failures import FailureKind, ProviderFailure
from router_svc.generate.load import Load
from stepwire.api.router.v1 import breaker_service_pb2 as pb
from stepwire.api.router.v1.breaker_service_pb2_grpc import BreakerServiceStub
from stepwire.api.router.v1.router_service_pb2_grpc import RouterServiceStub
from stepwire.db import migrate, open_pool
from stepwire.errors import Reason
from stepwire.testing.fleet import running_fleet
from stepwire.testing.poll import eventually
from tests.integration.router_svc.running_router import ask, chat_model, error_of, router_channel

KEY = BreakerKey(Scope.KEY, "KEY@http://somewhere")


class Away:
    """A record that cannot be reached."""

    async def put(self, breaker: SharedBreaker, *, by_hand: bool) -> int:
        raise ConnectionError

    async def read(self) -> list[SharedBreaker]:
        raise ConnectionError

    async def forget(self, *, older_than_seconds: float) -> None:
        raise ConnectionError


@asynccontextmanager
async def two_instances(database_url: str) -> AsyncIterator[list[tuple[Breakers, Sharing]]]:
    async with open_pool(database_url, application_name="test", max_size=2) as pool:
        await migrate(pool, package="router_svc", schema="router")
        store = PostgresBreakerStore(pool)
        instances = []
        for _ in range(2):
            breakers = Breakers(BreakerRules(), time.monotonic)
            breakers.get(KEY)
            sharing = Sharing(breakers, store, every_seconds=60, clock=time.monotonic)
            instances.append((breakers, sharing))
        yield instances


def refusal(breakers: Breakers) -> ProviderFailure | None:
    return breakers.refusal([KEY])


async def test_what_one_instance_learns_all_know(database_url: str) -> None:
    async with two_instances(database_url) as [(first, here), (second, there)]:
        first.permit([KEY], Load()).failed(ProviderFailure(FailureKind.NO_CREDIT, "poor"))
        assert refusal(second) is None
        await here.exchange()
        await there.exchange()
        told = refusal(second)
        assert told is not None
        assert (told.kind, told.called) == (FailureKind.NO_CREDIT, False)
        assert told.retry_after is not None
        assert timedelta(minutes=9) < told.retry_after <= timedelta(minutes=10)
        # The other one resets it, and an opening that is known does not come back.
        second.put(second.get(KEY), None)
        await there.exchange()
        await here.exchange()
        await there.exchange()
        assert refusal(first) is None
        assert refusal(second) is None


async def test_what_is_opened_by_hand_is_shared_without_an_end(database_url: str) -> None:
    async with two_instances(database_url) as [(first, here), (second, there)]:
        cause = Cause(FailureKind.SERVER, "maintenance")
        first.put(first.get(KEY), Opening(None, cause, forced=True))
        await here.exchange()
        await there.exchange()
        opening = second.get(KEY).opening
    assert opening == Opening(None, cause, forced=True)


async def test_what_is_opened_by_hand_stays_so_whatever_others_see(database_url: str) -> None:
    async with two_instances(database_url) as [(first, here), (second, there)]:
        permit = second.permit([KEY], Load())
        cause = Cause(FailureKind.SERVER, "maintenance")
        first.put(first.get(KEY), Opening(None, cause, forced=True))
        await here.exchange()
        # The other has not heard of it, and opens for a failure of its own, for a time.
        permit.failed(ProviderFailure(FailureKind.NO_CREDIT, "poor"))
        await there.exchange()
        await here.exchange()
        assert (
            first.get(KEY).opening == second.get(KEY).opening == Opening(None, cause, forced=True)
        )
        # By hand it is closed, also by one that has not heard of what was done since.
        first.put(first.get(KEY), Opening(None, cause, openings=2, forced=True))
        await here.exchange()
        second.put(second.get(KEY), None)
        await there.exchange()
        await here.exchange()
        assert refusal(first) is None
        assert refusal(second) is None


async def test_a_breaker_that_comes_back_goes_by_the_record(database_url: str) -> None:
    async with two_instances(database_url) as [(first, here), (_, there)]:
        first.put(first.get(KEY), Opening(None, Cause(FailureKind.SERVER, "x"), forced=True))
        await here.exchange()
        # Its endpoint is taken out of the catalogue, and put back.
        first.keep([])
        first.keep([KEY])
        assert refusal(first) is None
        await here.exchange()
        assert refusal(first) is not None
        await there.exchange()


async def test_the_last_to_write_has_the_highest_version(database_url: str) -> None:
    def change(*, is_open: bool) -> SharedBreaker:
        cause = Cause(FailureKind.SERVER, "")
        return SharedBreaker(KEY, 0, is_open, 60.0, cause, openings=1, forced=False)

    async with open_pool(database_url, application_name="test", max_size=3) as pool:
        await migrate(pool, package="router_svc", schema="router")
        store = PostgresBreakerStore(pool)
        await store.put(change(is_open=True), by_hand=False)
        async with pool.acquire() as connection, connection.transaction():
            await connection.execute("SELECT FROM router.breakers FOR UPDATE")
            late = asyncio.create_task(store.put(change(is_open=False), by_hand=False))
            await eventually(partial(_is_waited_for, pool))
            await connection.execute(
                "UPDATE router.breakers SET version = nextval('router.breaker_versions')"
            )
            first = await connection.fetchval("SELECT version FROM router.breakers")
        assert await late > first
        (read,) = await store.read()
    assert (read.version, read.is_open) == (late.result(), False)


async def _is_waited_for(pool: asyncpg.Pool) -> bool:
    return bool(await pool.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"))


async def test_what_could_not_be_written_is_written_later(database_url: str) -> None:
    async with two_instances(database_url) as [(first, here), (second, there)]:
        reachable, here._store = here._store, Away()
        first.permit([KEY], Load()).failed(ProviderFailure(FailureKind.NO_CREDIT, "poor"))
        with pytest.raises(ConnectionError):
            await here.exchange()
        assert refusal(first) is not None
        here._store = reachable
        await here.exchange()
        await there.exchange()
        assert refusal(second) is not None


async def test_breakers_are_listed_opened_and_reset(tmp_path: Path) -> None:
    async with running_fleet("east", "west") as fleet:
        models = [chat_model(name, fleet[name].base_url) for name in ("east", "west")]
        for model in models:
            model["provider"]["model"] = "small"
        async with router_channel(tmp_path, *models) as channel:
            stub, breakers = RouterServiceStub(channel), BreakerServiceStub(channel)
            name = "model:east@default"
            listed = (await breakers.ListBreakers(pb.ListBreakersRequest())).breakers
            assert [each.name for each in listed].count(name) == 1
            assert len(listed) == 6
            assert {each.state for each in listed} == {pb.BREAKER_STATE_CLOSED}
            request = pb.OpenBreakerRequest(name=name, message="maintenance")
            opened = (await breakers.OpenBreaker(request)).breaker
            assert (opened.state, opened.forced) == (pb.BREAKER_STATE_OPEN, True)
            assert not opened.HasField("open_until")
            assert (await stub.Generate(ask())).model == "west"
            assert not fleet["east"].seen
            only = pb.ListBreakersRequest(open_only=True)
            assert [each.name for each in (await breakers.ListBreakers(only)).breakers] == [name]
            reset = (await breakers.ResetBreaker(pb.ResetBreakerRequest(name=name))).breaker
            assert reset.state == pb.BREAKER_STATE_CLOSED
            assert (await stub.Generate(ask())).model == "east"
            unknown = await error_of(breakers.ResetBreaker(pb.ResetBreakerRequest(name="model:x")))
            request.duration.seconds = -1
            negative = await error_of(breakers.OpenBreaker(request))
    assert (unknown.reason, unknown.metadata) == (Reason.BREAKER_NOT_FOUND, {"breaker": "model:x"})
    assert (negative.reason, negative.metadata) == (Reason.FIELD_INVALID, {"field": "duration"})
