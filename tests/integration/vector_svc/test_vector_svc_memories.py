"""What agents remember: recalled by meaning, recency and importance, in spaces, for a time."""

import asyncio
import datetime as dt
from typing import Any

import asyncpg
import pytest
from vector_svc_harness import Client, containing, refused, table_of

from stepwire.api.vector.v1.filter_pb2 import Condition, FieldCondition, Filter
from stepwire.api.vector.v1.memory_pb2 import (
    SPACE_SCOPE_AROUND,
    SPACE_SCOPE_WITHIN,
    Memory,
    MemorySpace,
    RecalledMemory,
)
from stepwire.api.vector.v1.memory_service_pb2 import (
    ForgetRequest,
    ListMemoriesRequest,
    ListMemorySpacesRequest,
    RecallRequest,
    RememberRequest,
    RememberResponse,
)
from stepwire.errors import Reason

NOW = dt.datetime.now(dt.UTC)
ANN = "user/ann"
CHAT = "user/ann/chat/42"


def memory(text: str, *, days: float = 0, **fields: Any) -> Memory:
    """A memory of some days ago."""
    made = Memory(text=text, **fields)
    made.time.FromDatetime(NOW - dt.timedelta(days=days))
    return made


async def remember(client: Client, space: str, *memories: Any, **more: Any) -> RememberResponse:
    made = [Memory(text=each) if isinstance(each, str) else each for each in memories]
    return await client.memories.Remember(RememberRequest(space=space, memories=made, **more))


async def recall(client: Client, space: str, query: str, **more: Any) -> list[RecalledMemory]:
    request = RecallRequest(space=space, query=query, **more)
    return list((await client.memories.Recall(request)).memories)


async def texts(client: Client, space: str, query: str, **more: Any) -> list[str]:
    return [each.memory.text for each in await recall(client, space, query, **more)]


async def listed(client: Client, space: str, **more: Any) -> list[Memory]:
    found: list[Memory] = []
    token = ""
    while True:
        request = ListMemoriesRequest(space=space, page_token=token, **more)
        response = await client.memories.ListMemories(request)
        found += response.memories
        token = response.next_page_token
        if not token:
            return found


async def forget(client: Client, space: str, **more: Any) -> int:
    return (await client.memories.Forget(ForgetRequest(space=space, **more))).forgotten


async def test_memories_are_recalled_by_meaning_within_their_spaces(reader: Client) -> None:
    await remember(reader, "", "The office is closed on Fridays.")
    await remember(reader, ANN, "Ann is allergic to peanuts.", "Ann lives in Lisbon.")
    await remember(reader, CHAT, "She wants to cook a curry tonight.")
    await remember(reader, "user/bob", "Bob is allergic to cats.")
    await remember(reader, "user/ann-marie", "Ann-Marie is allergic to bees.")
    allergy = "Which food must be avoided because of an allergy?"
    assert await texts(reader, ANN, allergy) == [
        "Ann is allergic to peanuts.",
        "Ann lives in Lisbon.",
    ]
    assert await texts(reader, CHAT, "dinner") == ["She wants to cook a curry tonight."]
    within = set(await texts(reader, ANN, allergy, scope=SPACE_SCOPE_WITHIN))
    assert within == {
        "Ann is allergic to peanuts.",
        "Ann lives in Lisbon.",
        "She wants to cook a curry tonight.",
    }
    around = await texts(reader, CHAT, allergy, scope=SPACE_SCOPE_AROUND)
    assert around[0] == "Ann is allergic to peanuts."
    assert set(around) == within | {"The office is closed on Fridays."}
    assert len(await texts(reader, "", allergy, scope=SPACE_SCOPE_WITHIN)) == 6
    assert await texts(reader, "user", allergy) == []


async def test_what_counts_is_relevance_recency_and_importance(reader: Client) -> None:
    await remember(
        reader,
        CHAT,
        memory("The meeting is on Monday.", days=14),
        memory("The meeting is on Tuesday.", days=0),
        memory("The meeting is on Wednesday.", days=14, importance=1),
    )
    half_life = dt.timedelta(days=7)
    weights = {"half_life": half_life, "recency_weight": 0.5, "importance_weight": 0.25}
    found = await recall(reader, CHAT, "When is the meeting?", **weights)
    assert [each.memory.text.split()[-1] for each in found] == ["Tuesday.", "Wednesday.", "Monday."]
    assert [each.recency for each in found] == pytest.approx([1, 0.25, 0.25], abs=0.001)
    for each in found:
        gain = 0.5 * each.recency + 0.25 * each.memory.importance
        assert each.score == pytest.approx(each.relevance + gain, abs=1e-6)
        assert 0.3 < each.relevance < 1
    plain = await recall(
        reader, CHAT, "The meeting is on Monday.", recency_weight=0, importance_weight=0
    )
    assert plain[0].score == plain[0].relevance == pytest.approx(1, abs=1e-5)
    assert plain[0].memory.text == "The meeting is on Monday."
    least = plain[0].relevance - 0.001
    assert len(await recall(reader, CHAT, "The meeting is on Monday.", min_relevance=least)) == 1
    assert len(await recall(reader, CHAT, "The meeting?", limit=2)) == 2


async def test_the_same_text_is_the_same_memory(reader: Client) -> None:
    first = await remember(reader, ANN, memory("Ann likes tea.", days=3, importance=0.5))
    assert (first.inserted, first.updated) == (1, 0)
    again = await remember(reader, ANN, "Ann likes tea.")
    assert (again.ids, again.inserted, again.updated) == (first.ids, 0, 1)
    [kept] = await listed(reader, ANN)
    assert kept.importance == 0
    assert kept.time.ToDatetime(tzinfo=dt.UTC) > NOW
    assert (await remember(reader, CHAT, "Ann likes tea.")).inserted == 1
    await remember(reader, ANN, Memory(id="drink", text="Ann likes tea most."))
    replaced = await remember(reader, ANN, Memory(id="drink", text="Ann likes coffee most."))
    assert (list(replaced.ids), replaced.updated) == (["drink"], 1)
    assert [each.text for each in await listed(reader, ANN)] == [
        "Ann likes coffee most.",
        "Ann likes tea.",
    ]


async def test_memories_end_at_their_time(reader: Client, service_url: str, tenant: str) -> None:
    await remember(reader, CHAT, "She is at the station now.", ttl=dt.timedelta(hours=1))
    await remember(reader, CHAT, "She takes trains.")
    passing, lasting = sorted(await listed(reader, CHAT), key=lambda each: each.text)
    left = passing.expire_time.ToDatetime(tzinfo=dt.UTC) - dt.datetime.now(dt.UTC)
    assert dt.timedelta(minutes=55) < left <= dt.timedelta(hours=1)
    assert not lasting.HasField("expire_time")
    connection = await asyncpg.connect(service_url)
    try:
        table = await table_of(service_url, tenant, "memories")
        await connection.execute(
            f"UPDATE {table} SET expires_at = now() WHERE expires_at < 'infinity'"
        )
    finally:
        await connection.close()
    assert await texts(reader, CHAT, "Where is she?") == ["She takes trains."]
    assert [each.text for each in await listed(reader, CHAT)] == ["She takes trains."]


async def test_lists_give_the_latest_first_and_spaces_by_name(reader: Client) -> None:
    for day in range(7):
        kind = {"kind": "odd" if day % 2 else "even"}
        await remember(reader, CHAT, memory(f"Day {day}", days=day, metadata=kind))
    await remember(reader, "user/bob", *(f"Bob {n}" for n in range(6)))  # of one moment
    await remember(reader, "", memory("For all", days=9))
    wanted = [f"Day {day}" for day in range(7)]
    for size in (0, 1, 3, 7):
        assert [each.text for each in await listed(reader, CHAT, page_size=size)] == wanted
    assert {each.space for each in await listed(reader, CHAT)} == {CHAT}
    assert len(await listed(reader, "", scope=SPACE_SCOPE_WITHIN, page_size=2)) == 14
    assert len({each.text for each in await listed(reader, "user/bob", page_size=1)}) == 6
    odd = containing(metadata={"kind": "odd"})
    assert [each.text for each in await listed(reader, CHAT, filter=odd)] == wanted[1::2]
    since = FieldCondition(path="time")
    since.time_range.since.FromDatetime(NOW - dt.timedelta(days=2))
    late = Filter(must=[Condition(field=since)])
    assert [each.text for each in await listed(reader, CHAT, filter=late)] == wanted[:3]

    async def spaces(**more: Any) -> list[MemorySpace]:
        found: list[MemorySpace] = []
        request = ListMemorySpacesRequest(page_size=1, **more)
        while True:
            response = await reader.memories.ListMemorySpaces(request)
            found += response.spaces
            request.page_token = response.next_page_token
            if not request.page_token:
                return found

    found = await spaces()
    assert [(each.space, each.memory_count) for each in found] == [
        ("", 1),
        (CHAT, 7),
        ("user/bob", 6),
    ]
    assert found[1].latest_time.ToDatetime(tzinfo=dt.UTC) == NOW
    assert [each.space for each in await spaces(within="user/ann")] == [CHAT]


async def test_memories_are_forgotten_when_told(reader: Client) -> None:
    ids = (await remember(reader, ANN, "one", "two", "three")).ids
    await remember(reader, CHAT, Memory(text="four", metadata={"passing": True}), "five")
    assert await forget(reader, ANN, ids=[ids[1], ids[1], "unknown"]) == 1
    assert await forget(reader, CHAT, ids=[ids[0]]) == 0
    passing = containing(metadata={"passing": True})
    assert await forget(reader, ANN, filter=passing) == 0
    assert await forget(reader, ANN, filter=passing, scope=SPACE_SCOPE_WITHIN) == 1
    assert await forget(reader, ANN, filter=Filter()) == 2
    assert [each.text for each in await listed(reader, "", scope=SPACE_SCOPE_WITHIN)] == ["five"]
    assert await forget(reader, "", filter=Filter(), scope=SPACE_SCOPE_WITHIN) == 1


async def test_before_the_first_memory_there_is_none(reader: Client) -> None:
    assert await recall(reader, ANN, "anything") == []
    assert await listed(reader, ANN) == []
    assert (await reader.memories.ListMemorySpaces(ListMemorySpacesRequest())).spaces == []
    assert await forget(reader, ANN, filter=Filter()) == 0


async def test_of_many_first_memories_none_is_lost(reader: Client) -> None:
    await asyncio.gather(*(remember(reader, f"chat/{n}", f"Fact {n}") for n in range(8)))
    assert len(await listed(reader, "", scope=SPACE_SCOPE_WITHIN)) == 8


async def test_a_collection_of_something_else_is_left_alone(reader: Client) -> None:
    await reader.create("memories")
    await reader.create("things", model="all-minilm-l6-v2")
    for name in ("", "things"):
        for call in (
            remember(reader, ANN, "x", collection=name),
            recall(reader, ANN, "x", collection=name),
            listed(reader, ANN, collection=name),
            forget(reader, ANN, collection=name, filter=Filter()),
        ):
            async with refused() as error:
                await call
            assert error().reason is Reason.NOT_OF_MEMORIES
            assert error().metadata == {"collection": name or "memories"}
    await remember(reader, ANN, "x", collection="others")
    assert await texts(reader, ANN, "x", collection="others") == ["x"]
    assert (await reader.count(), await reader.count("memories")) == (0, 0)


BAD: list[tuple[Any, str]] = [
    (RememberRequest(space="/", memories=[Memory(text="x")]), "space"),
    (RememberRequest(space="a//b", memories=[Memory(text="x")]), "space"),
    (RememberRequest(space="a b", memories=[Memory(text="x")]), "space"),
    (RememberRequest(space="a#b", memories=[Memory(text="x")]), "space"),
    (RememberRequest(space="x/" * 60 + "x", memories=[Memory(text="x")]), "space"),
    (RememberRequest(), "memories"),
    (RememberRequest(memories=[Memory(text="x")] * 1_001), "memories"),
    (RememberRequest(memories=[Memory()]), "memories[0].text"),
    (RememberRequest(memories=[Memory(text="x\0")]), "memories[0].text"),
    (RememberRequest(memories=[Memory(text="x" * 100_001)]), "memories[0].text"),
    (RememberRequest(memories=[Memory(text="x", id="x" * 129)]), "memories[0].id"),
    (RememberRequest(memories=[Memory(text="x", importance=1.1)]), "memories[0].importance"),
    (RememberRequest(memories=[Memory(text="x", importance=float("nan"))]),
     "memories[0].importance"),
    (RememberRequest(memories=[Memory(text="x", metadata={"a": "\0"})]), "memories[0].metadata"),
    (RememberRequest(memories=[Memory(text="x"), Memory(text="x")]), "memories[1]"),
    (RememberRequest(memories=[Memory(text="x")], ttl=dt.timedelta(milliseconds=1)), "ttl"),
    (RememberRequest(memories=[Memory(text="x")], collection="No"), "collection"),
    (RememberRequest(memories=[Memory(text="é" * 99_999, metadata={"a": "x" * 99_999})]),
     "memories[0]"),
    (RecallRequest(), "query"),
    (RecallRequest(query="x", limit=101), "limit"),
    (RecallRequest(query="x", limit=-1), "limit"),
    (RecallRequest(query="x", scope=9), "scope"),
    (RecallRequest(query="x", half_life=dt.timedelta()), "half_life"),
    (RecallRequest(query="x", recency_weight=-1), "recency_weight"),
    (RecallRequest(query="x", importance_weight=float("nan")), "importance_weight"),
    (RecallRequest(query="x", min_relevance=2), "min_relevance"),
    (RecallRequest(query="x", filter=Filter(must=[Condition()])), "filter.must[0]"),
    (ListMemoriesRequest(page_size=-1), "page_size"),
    (ListMemoriesRequest(page_token="x"), "page_token"),
    (ListMemorySpacesRequest(within="a b"), "within"),
    (ListMemorySpacesRequest(page_token="x"), "page_token"),
    (ForgetRequest(), "ids"),
    (ForgetRequest(ids=[""]), "ids[0]"),
    (ForgetRequest(ids=["a"], filter=Filter()), "filter"),
    (ForgetRequest(ids=["a"], scope=SPACE_SCOPE_WITHIN), "scope"),
]  # fmt: skip


async def test_bad_requests_are_refused_and_leave_nothing(reader: Client) -> None:
    for request, field in BAD:
        verb = type(request).__name__.removesuffix("Request")
        async with refused() as error:
            await getattr(reader.memories, verb)(request)
        wanted = {Reason.FIELD_INVALID, Reason.PAYLOAD_TOO_LARGE, Reason.PAGE_TOKEN_INVALID}
        assert error().reason in wanted, request
        assert error().metadata["field"] == field
    assert (await reader.memories.ListMemorySpaces(ListMemorySpacesRequest())).spaces == []
