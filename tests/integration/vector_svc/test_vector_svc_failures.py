"""What happens to calls while Postgres is slow, restarted or away."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit

import asyncpg
import grpc.aio
import pytest
from vector_svc_harness import Client, point, raw, refused, serving

from stepwire.api.vector.v1.collection_pb2 import IndexOptions
from stepwire.api.vector.v1.search_pb2 import SEARCH_PLAN_INDEX
from stepwire.api.vector.v1.search_service_pb2 import SearchPointsRequest
from stepwire.db import notices
from stepwire.errors import Reason, StepwireError
from stepwire.lifecycle import StartError
from stepwire.testing.poll import PATIENCE_SECONDS, eventually
from vector_svc.search import planner
from vector_svc.store.places import Places


class Way:
    """A TCP way to Postgres that can be closed and opened again."""

    def __init__(self, url: str) -> None:
        self._target = urlsplit(url)
        self._server: asyncio.Server | None = None
        self._ends: set[asyncio.StreamWriter] = set()
        self._port = 0
        self.flows = asyncio.Event()
        self.flows.set()

    @property
    def url(self) -> str:
        """The URL of the database by this way."""
        login = self._target.netloc.rpartition("@")[0]
        return self._target._replace(netloc=f"{login}@127.0.0.1:{self._port}").geturl()

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._carry, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        while self._ends:
            self._ends.pop().transport.abort()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(self._target.hostname, self._target.port)
        self._ends |= {writer, back}
        await asyncio.gather(self._copy(reader, back), self._copy(there, writer))

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(65_536):
                await self.flows.wait()
                writer.write(data)
        writer.close()


@asynccontextmanager
async def way_to_postgres(url: str) -> AsyncIterator[Way]:
    way = Way(url)
    await way.open()
    try:
        yield way
    finally:
        await way.close()


@asynccontextmanager
async def table_locked(url: str) -> AsyncIterator[asyncpg.Connection]:
    """Keep every statement on the latest collection's points waiting within the block.

    Gives a connection to watch with: one in a transaction would see the past only.
    """
    locking, watching = await asyncpg.connect(url), await asyncpg.connect(url)
    try:
        number = await locking.fetchval("SELECT max(collection_id) FROM vector.collections")
        async with locking.transaction():
            await locking.execute(f"LOCK TABLE vector.points_{number}")
            yield watching
    finally:
        await watching.close()
        await locking.close()


async def until_waiting(connection: asyncpg.Connection, count: int) -> None:
    """Wait until so many statements wait for the lock."""

    async def waiting() -> bool:
        counted = await connection.fetchval(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        return bool(counted == count)

    assert await eventually(waiting)


async def test_calls_go_on_after_all_connections_are_lost(alone: Client, own_url: str) -> None:
    await alone.create()
    await alone.upsert([point("a", [1, 2, 3])])
    connection = await asyncpg.connect(own_url)
    try:
        for _ in range(5):
            await asyncio.gather(*(alone.get(["a"]) for _ in range(8)))
            await connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            assert [found.point.id for found in await alone.search([1, 2, 3], limit=1)] == ["a"]
            assert await alone.upsert([point("b", [3, 2, 1])]) == 1
    finally:
        await connection.close()


async def test_a_connection_lost_in_the_middle_is_made_up_for(alone: Client, own_url: str) -> None:
    await alone.create()
    async with table_locked(own_url) as connection:
        upsert = asyncio.create_task(alone.upsert([point("a", [1, 2, 3])]))
        await until_waiting(connection, 1)
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
    assert await upsert == 1
    assert await alone.count() == 1


@pytest.fixture
def hurry(monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Says when waits for a place may end in a refusal: not before all places are taken."""
    hurry = asyncio.Event()

    def longest(places: Places) -> float:
        seconds: float = vars(places)["seconds"] if hurry.is_set() else PATIENCE_SECONDS
        return seconds

    def remember(places: Places, seconds: float) -> None:
        vars(places)["seconds"] = seconds

    monkeypatch.setattr(Places, "seconds", property(longest, remember), raising=False)
    return hurry


async def test_a_full_pool_refuses_as_overloaded(
    own_url: str, tenant: str, hurry: asyncio.Event
) -> None:
    async with serving(
        own_url,
        postgres_min_connections=2,
        postgres_max_connections=2,
        postgres_acquire_seconds=0.1,
    ) as client:
        await client.create()
        async with table_locked(own_url) as connection:
            waiting = [asyncio.create_task(client.get(["a"])) for _ in range(2)]
            await until_waiting(connection, 2)
            hurry.set()
            async with refused() as error:
                await client.get(["a"])
            assert error().reason is Reason.OVERLOADED
            assert error().metadata == {"limit": "postgres_max_connections"}
            assert error().retry_after is not None
        assert await asyncio.gather(*waiting) == [[], []]


async def test_walks_wait_for_their_turn_and_let_others_pass(
    own_url: str, monkeypatch: pytest.MonkeyPatch, hurry: asyncio.Event
) -> None:
    monkeypatch.setattr(planner, "ALWAYS_EXACT_VALUES", 0)
    monkeypatch.setattr(planner, "ALWAYS_EXACT_LEAST", 1)
    options = {"max_walks": 1, "postgres_acquire_seconds": 0.1, "estimate_cache_seconds": 600}
    async with serving(own_url, **options) as client:
        await client.create(index=IndexOptions(min_points=1))
        await client.upsert([point(str(number), [1, number, 0]) for number in range(10)])
        first = await client.find([1, 2, 0])
        assert first.report.plan == SEARCH_PLAN_INDEX
        async with table_locked(own_url) as connection:
            walk = asyncio.create_task(client.search([1, 2, 0]))
            await until_waiting(connection, 1)
            hurry.set()
            async with refused() as error:
                await client.search([1, 3, 0])
            assert error().reason is Reason.OVERLOADED
            assert error().metadata == {"limit": "max_walks"}
            assert error().retry_after is not None
            other = asyncio.create_task(client.get(["1"]))
            await until_waiting(connection, 2)
        assert len(await walk) == len(await client.search([1, 3, 0])) == 10
        assert len(await other) == 1


async def test_a_cancelled_call_cancels_its_statement(alone: Client, own_url: str) -> None:
    await alone.create()
    async with table_locked(own_url) as connection:
        call = asyncio.create_task(alone.search([1, 2, 3]))
        await until_waiting(connection, 1)
        call.cancel()
        await until_waiting(connection, 0)
    assert await alone.search([1, 2, 3]) == []


async def test_a_deadline_ends_the_statement(alone: Client, own_url: str) -> None:
    await alone.create()
    async with table_locked(own_url) as connection:
        request = SearchPointsRequest(collection="things", vector=raw([1, 2, 3]))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await alone.searches.SearchPoints(request, timeout=0.3)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        await until_waiting(connection, 0)


async def test_postgres_away_is_told_and_survived(own_url: str, tenant: str) -> None:
    async with way_to_postgres(own_url) as way, serving(way.url) as client:
        await client.create()
        await client.upsert([point("a", [1, 2, 3])])
        await way.close()
        for call in (client.search([1, 2, 3]), client.delete(["a"]), client.create("other")):
            async with refused() as error:
                await call
            assert error().reason is Reason.DEPENDENCY_UNAVAILABLE
            assert error().metadata == {"dependency": "postgres"}
        await way.open()
        assert [found.point.id for found in await client.search([1, 2, 3])] == ["a"]


async def test_without_postgres_there_is_no_start(own_url: str) -> None:
    async with way_to_postgres(own_url) as way:
        await way.close()
        with pytest.raises(StepwireError) as caught:
            async with serving(way.url):
                pass
        assert caught.value.reason is Reason.DEPENDENCY_UNAVAILABLE


async def test_an_old_pgvector_is_refused_at_the_start(database_url: str) -> None:
    """What a database says that was not updated when a newer pgvector was installed."""
    connection = await asyncpg.connect(database_url)
    try:
        for version, wanted in (("0.8.3", False), ("0.7.10", False), ("0.8.4", True)):
            await connection.execute(
                "UPDATE pg_extension SET extversion = $1 WHERE extname = 'vector'", version
            )
            if wanted:
                async with serving(database_url):
                    continue
            with pytest.raises(StartError, match=f"pgvector {version} is too old: install 0.8.4"):
                async with serving(database_url):
                    pass
    finally:
        await connection.close()


async def test_changes_are_not_trusted_to_be_told_by_who_fell_silent(
    service_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is closed; what is sent just never comes."""
    monkeypatch.setattr(notices, "QUIET_SECONDS", 0.05)
    monkeypatch.setattr(notices, "ANSWER_SECONDS", 0.2)
    monkeypatch.setattr(notices, "PAUSE_SECONDS", 0.05)
    told: list[bool] = []
    async with way_to_postgres(service_url) as way:
        here = notices.Notices(way.url, "any", lambda _: None, listens=told.append)
        listening = asyncio.create_task(here.run())
        assert await eventually(lambda: told and told[-1])
        way.flows.clear()
        assert await eventually(lambda: not told[-1])
        way.flows.set()
        assert await eventually(lambda: told[-1])
        listening.cancel()
        await asyncio.wait([listening])
