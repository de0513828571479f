"""Searches over a stream: the verb, and the SDK's side of it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta

import asyncpg
import grpc.aio
import pytest
from google.protobuf.duration_pb2 import Duration
from vector_svc_harness import Client, containing, point, raw, serving, table_of

from stepwire.api.vector.v1.point_pb2 import Point
from stepwire.api.vector.v1.search_pb2 import ScoredPoint, WordQuery
from stepwire.api.vector.v1.search_service_pb2 import (
    DESCRIPTOR,
    SearchPointsRequest,
    SearchPointsResponse,
    StreamSearchPointsRequest,
    StreamSearchPointsResponse,
)
from stepwire.errors import Reason, StepwireError
from stepwire.rpc.status import from_proto
from stepwire.sdk.search_stream import SearchStream
from stepwire.sdk.vectors import Vectors
from stepwire.stack.ports import free_port
from stepwire.testing.poll import eventually

NEAR, FAR = [1, 0, 0], [0, 1, 0]


async def furnish(client: Client) -> None:
    await client.create()
    await client.upsert([point("near", NEAR, {"kind": "a"}), point("far", FAR, {"kind": "b"})])


async def streamed(
    client: Client, *messages: StreamSearchPointsRequest
) -> list[StreamSearchPointsResponse]:
    call = client.searches.StreamSearchPoints()
    for message in messages:
        await call.write(message)
    await call.done_writing()
    return [answer async for answer in call]


def message(**fields: object) -> StreamSearchPointsRequest:
    search = SearchPointsRequest(**{"collection": "things", "vector": raw(NEAR), **fields})  # type: ignore[arg-type]
    return StreamSearchPointsRequest(search=search)


def stream_to(target: str, channel: grpc.aio.Channel, *, seconds: float = 60) -> SearchStream:
    return Vectors(channel, target=target, timeout=timedelta(seconds=seconds)).stream()


def error_of(answer: StreamSearchPointsResponse) -> StepwireError:
    error = from_proto(answer.error)
    assert error is not None
    return error


async def test_a_stream_finds_what_calls_find(client: Client) -> None:
    await furnish(client)
    asked = [
        message(),
        message(vector=raw(FAR), limit=1),
        message(filter=containing(kind="b"), include_vectors=True),
        message(exact=True, offset=1),
    ]
    by_calls = [await client.searches.SearchPoints(each.search) for each in asked]
    assert [answer.found for answer in await streamed(client, *asked)] == by_calls


async def test_what_is_wrong_with_a_search_is_told_of_it_alone(client: Client) -> None:
    await furnish(client)
    few, wrong, elsewhere, late, wordy, good = await streamed(
        client,
        message(limit=-1),
        message(offset=-1),
        message(collection="nowhere"),
        StreamSearchPointsRequest(search=message().search, timeout=Duration(seconds=-1)),
        message(words=WordQuery(words="any")),
        message(),
    )
    assert [fault.field for fault in error_of(few).faults] == ["search.limit"]
    assert [fault.field for fault in error_of(wrong).faults] == ["search.offset"]
    assert error_of(elsewhere).reason is Reason.COLLECTION_NOT_FOUND
    assert error_of(late).reason is Reason.DEADLINE_EXCEEDED
    assert [fault.field for fault in error_of(wordy).faults] == ["search.words"]
    assert [each.point.id for each in good.found.points] == ["near", "far"]


async def test_callers_share_a_stream_of_the_sdk(client: Client) -> None:
    await furnish(client)
    async with stream_to("here", client.channel) as stream:
        wanted = [(NEAR, "near"), (FAR, "far")] * 50

        async def ask(vector: Sequence[float], found: str, kind: str | None) -> None:
            filter_ = None if kind is None else {"kind": kind}
            points = await stream.search("things", raw(vector), limit=1, filter=filter_)
            assert [each.point.id for each in points] == [found]

        asks = [ask(vector, found, None) for vector, found in wanted]
        with pytest.raises(StepwireError) as caught:
            await stream.search("nowhere", raw(NEAR))
        await asyncio.gather(*asks, ask(NEAR, "far", "b"))
    assert caught.value.reason is Reason.COLLECTION_NOT_FOUND


async def test_who_gives_up_waiting_disturbs_nobody(
    client: Client, service_url: str, tenant: str
) -> None:
    """Answers go on to belong to those who asked."""
    await furnish(client)
    async with stream_to("here", client.channel) as stream:
        async with held(service_url, tenant):
            first = asyncio.create_task(stream.search("things", raw(NEAR)))
            given_up = asyncio.create_task(stream.search("things", raw(NEAR)))
            last = asyncio.create_task(stream.search("things", raw(FAR), limit=1))
            await eventually(lambda: waits_for_lock(service_url, at_least=3))
            given_up.cancel()
            await asyncio.wait([given_up])
            assert not first.done()
        assert [each.point.id for each in await first] == ["near", "far"]
        assert [each.point.id for each in await last] == ["far"]


async def test_what_has_no_answer_when_the_stream_is_left_fails(
    client: Client, service_url: str, tenant: str
) -> None:
    await furnish(client)
    async with held(service_url, tenant):
        async with stream_to("here", client.channel) as stream:
            asked = [asyncio.create_task(stream.search("things", raw(NEAR))) for _ in range(2)]
            await eventually(lambda: waits_for_lock(service_url, at_least=2))
        for each in asked:
            with pytest.raises(StepwireError, match="closed"):
                await each
    with pytest.raises(RuntimeError, match="async with"):
        await stream.search("things", raw(NEAR))


async def test_a_search_that_takes_too_long_is_told_so(
    client: Client, service_url: str, tenant: str
) -> None:
    await furnish(client)
    async with held(service_url, tenant), stream_to("here", client.channel, seconds=0.2) as stream:
        with pytest.raises(StepwireError) as caught:
            await stream.search("things", raw(NEAR))
    assert caught.value.reason is Reason.DEADLINE_EXCEEDED


async def test_a_stream_outlives_its_server(own_url: str) -> None:
    """A server that stops answers what it has read; another one has what came after."""
    async with serving(own_url) as one, serving(own_url) as other:
        await furnish(one)
        target = f"ipv4:{one.address},{other.address}"  # tried in this order
        async with grpc.aio.insecure_channel(target) as channel, stream_to("x", channel) as stream:
            async with held(own_url, "default"):
                under_way = asyncio.create_task(stream.search("things", raw(NEAR)))
                await eventually(lambda: waits_for_lock(own_url))
                stopping = asyncio.create_task(one.server.drain(grace_seconds=60))
                later = asyncio.create_task(stream.search("things", raw(FAR), limit=1))
                # The server reads no more, and still has one to answer.
                await asyncio.wait([later], timeout=0.2)
            assert len(await under_way) == 2
            await stopping
            assert [each.point.id for each in await later] == ["far"]
            assert len(await stream.search("things", raw(NEAR))) == 2


async def test_without_a_server_searches_say_so() -> None:
    port = free_port()
    async with (
        grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel,
        stream_to(f"there:{port}", channel) as stream,
    ):
        with pytest.raises(StepwireError) as caught:
            await stream.search("things", raw(NEAR))
    assert caught.value.reason is Reason.DEPENDENCY_UNAVAILABLE
    assert f"there:{port}" in caught.value.message


async def test_a_stream_that_breaks_is_a_loss_though_grpc_says_internal() -> None:
    """As it does of one that is written to just then, and of one that the gateway resets."""

    async def broken(requests: Requests, context: Context) -> None:
        async for _ in requests:
            break  # and no more: the others are more than the stream's window holds
        await context.abort(grpc.StatusCode.UNAVAILABLE, "broken")

    async def reset(requests: Requests, context: Context) -> None:
        async for _ in requests:
            await context.abort(grpc.StatusCode.INTERNAL, "Received RST_STREAM")

    async with played([reset, echoing]) as channel, stream_to("x", channel) as stream:
        assert await answers(stream)
    async with played([broken, echoing]) as channel, stream_to("x", channel) as stream:
        await found_by_all(stream, filter_={"long": "x" * 100_000})
    async with played([broken] * 4) as channel, stream_to("x", channel) as stream:
        with pytest.raises(StepwireError) as caught:
            await found_by_all(stream, filter_={"long": "x" * 100_000})
    assert caught.value.reason is Reason.DEPENDENCY_UNAVAILABLE


async def test_a_stream_that_gives_no_answers_is_given_up() -> None:
    """As one of a server that hangs, of which nobody hears anything."""

    async def silent(requests: Requests, context: Context) -> None:
        async for _ in requests:
            pass

    async with (
        played([silent, echoing]) as channel,
        stream_to("x", channel, seconds=0.1) as stream,
    ):
        asked = [stream.search(f"{number}", raw(NEAR)) for number in range(3)]
        for error in await asyncio.gather(*asked, return_exceptions=True):
            assert isinstance(error, StepwireError)
            assert error.reason is Reason.DEADLINE_EXCEEDED
        await eventually(lambda: answers(stream))


async def test_without_a_server_all_who_wait_hear_of_it_at_once() -> None:
    calls = 0

    async def away(requests: Requests, context: Context) -> None:
        nonlocal calls
        calls += 1
        await context.abort(grpc.StatusCode.UNAVAILABLE, "away")

    async with played([away] * 100) as channel, stream_to("x", channel) as stream:
        asked = [stream.search("things", raw(NEAR)) for _ in range(200)]
        errors = await asyncio.gather(*asked, return_exceptions=True)
        assert {type(error) for error in errors} == {StepwireError}
        assert calls < 10


async def test_a_search_waits_for_a_server_that_starts_anew() -> None:
    async def away(requests: Requests, context: Context) -> None:
        await context.abort(grpc.StatusCode.UNAVAILABLE, "away")

    async with played([away] * 3 + [echoing]) as channel, stream_to("x", channel) as stream:
        await found_by_all(stream, filter_={})


async def answers(stream: SearchStream) -> bool:
    try:
        return await stream.search("a", raw(NEAR)) is not None
    except StepwireError:
        return False


async def found_by_all(stream: SearchStream, *, filter_: dict[str, str]) -> None:
    """Let many search at once; each finds the point that is named as its collection."""

    async def ask(name: str) -> None:
        points = await stream.search(name, raw(NEAR), filter=filter_)
        assert [each.point.id for each in points] == [name]

    await asyncio.gather(*(ask(f"{number}") for number in range(50)))


Requests = AsyncIterator[StreamSearchPointsRequest]
Context = grpc.aio.ServicerContext[StreamSearchPointsRequest, StreamSearchPointsResponse]
Part = Callable[[Requests, Context], Awaitable[None]]


async def echoing(requests: Requests, context: Context) -> None:
    """Answer with a point that is named as the collection."""
    async for each in requests:
        found = [ScoredPoint(point=Point(id=each.search.collection))]
        answer = StreamSearchPointsResponse(found=SearchPointsResponse(points=found))
        await context.write(answer)


@asynccontextmanager
async def played(parts: Iterable[Part]) -> AsyncIterator[grpc.aio.Channel]:
    """Serve streams as a server does that is not well, each by one of the parts."""
    streams = iter(parts)

    async def serve(requests: Requests, context: Context) -> None:
        await next(streams)(requests, context)

    handler = grpc.stream_stream_rpc_method_handler(
        serve, StreamSearchPointsRequest.FromString, StreamSearchPointsResponse.SerializeToString
    )
    service = DESCRIPTOR.services_by_name["SearchService"].full_name
    server = grpc.aio.server()
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(service, {"StreamSearchPoints": handler}),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield channel
    finally:
        await server.stop(None)


@asynccontextmanager
async def held(url: str, tenant: str) -> AsyncIterator[None]:
    """Keep searches of a tenant's collection waiting within the block, in Postgres."""
    table = await table_of(url, tenant)
    connection = await asyncpg.connect(url)
    try:
        async with connection.transaction():
            await connection.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
            yield
    finally:
        await connection.close()


async def waits_for_lock(url: str, *, at_least: int = 1) -> bool:
    connection = await asyncpg.connect(url)
    try:
        waiting: int = await connection.fetchval(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE wait_event_type = 'Lock' AND datname = current_database()"
        )
        return waiting >= at_least
    finally:
        await connection.close()
