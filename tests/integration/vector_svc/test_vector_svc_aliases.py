"""Second names: moved in one step, and never in the way of first ones."""

import asyncio

from vector_svc_harness import Client, point, refused, serving

from stepwire.api.vector.v1.collection_pb2 import Alias
from stepwire.api.vector.v1.collection_service_pb2 import (
    AliasChange,
    ChangeAliasesRequest,
    ListAliasesRequest,
)
from stepwire.errors import Reason
from stepwire.testing.poll import eventually


async def change(client: Client, **changes: str) -> list[Alias]:
    request = ChangeAliasesRequest(
        changes=[AliasChange(alias=alias, collection=to) for alias, to in changes.items()]
    )
    return list((await client.collections.ChangeAliases(request)).aliases)


async def listed(client: Client, size: int = 0) -> dict[str, str]:
    found: dict[str, str] = {}
    token = ""
    while True:
        request = ListAliasesRequest(page_size=size, page_token=token)
        response = await client.collections.ListAliases(request)
        found |= {alias.name: alias.collection for alias in response.aliases}
        token = response.next_page_token
        if not token:
            return found


async def two(client: Client) -> None:
    for name in ("old", "new"):
        await client.create(name)
        await client.upsert([point(name, [1, 2, 3])], name)


async def test_an_alias_stands_for_its_collection(client: Client) -> None:
    await two(client)
    assert await change(client, live="old") == [Alias(name="live", collection="old")]
    await client.upsert([point("more", [3, 2, 1])], "live")
    assert await client.count("old") == 2
    found = await client.search([1, 2, 3], "live", limit=1)
    assert [hit.point.id for hit in found] == ["old"]
    assert await client.delete(["more"], "live") == 1


async def test_a_swap_is_seen_at_once_and_elsewhere_soon(client: Client, service_url: str) -> None:
    await two(client)
    await change(client, live="old", previous="new")
    async with serving(service_url) as other:
        assert [found.id for found in await other.get(["old", "new"], "live")] == ["old"]
        await change(client, live="new", previous="old")
        assert [found.id for found in await client.get(["old", "new"], "live")] == ["new"]

        async def swapped() -> bool:
            return [found.id for found in await other.get(["old", "new"], "live")] == ["new"]

        assert await eventually(swapped)
    assert await listed(client) == {"live": "new", "previous": "old"}


async def test_a_swap_is_one_step(client: Client) -> None:
    """Two aliases change places for ever; no list shows both on the same collection."""
    await two(client)
    await change(client, a="old", b="new")

    async def swap() -> None:
        for n in range(20):
            one, other = ("old", "new") if n % 2 else ("new", "old")
            await change(client, a=one, b=other)

    swapping = asyncio.create_task(swap())
    while not swapping.done():
        assert sorted((await listed(client)).values()) == ["new", "old"]
    await swapping


async def test_names_do_not_clash(client: Client) -> None:
    await two(client)
    await change(client, live="old")
    async with refused() as error:
        await change(client, new="old")
    assert error().reason is Reason.NAME_TAKEN
    assert error().metadata == {"name": "new"}
    async with refused() as error:
        await client.create("live")
    assert error().reason is Reason.NAME_TAKEN


async def test_an_alias_of_an_alias_is_refused_and_so_are_circles(client: Client) -> None:
    await two(client)
    await change(client, live="old")
    for changes in ({"live": "live"}, {"other": "live"}, {"one": "two", "two": "one"}):
        async with refused() as error:
            await change(client, **changes)
        assert error().reason in {Reason.FIELD_INVALID, Reason.COLLECTION_NOT_FOUND}
    assert await listed(client) == {"live": "old"}


async def test_all_changes_or_none(client: Client) -> None:
    await two(client)
    async with refused() as error:
        await change(client, a="old", b="missing")
    assert error().reason is Reason.COLLECTION_NOT_FOUND
    assert await listed(client) == {}
    for changes in ({}, {"No": "old"}, {"a": "No"}):
        async with refused() as error:
            await change(client, **changes)
        assert error().reason is Reason.FIELD_INVALID


async def test_aliases_go_when_told_and_with_their_collection(client: Client) -> None:
    await change(client, a="")
    await two(client)
    await change(client, a="old", b="old", c="new")
    assert await listed(client, 2) == {"a": "old", "b": "old", "c": "new"}
    await change(client, a="", missing="")
    async with refused() as error:
        await client.drop("b")
    assert error().reason is Reason.COLLECTION_NOT_FOUND
    await client.drop("old")
    assert await listed(client) == {"c": "new"}
    async with refused() as error:
        await client.get(["old"], "b")
    assert error().reason is Reason.COLLECTION_NOT_FOUND
