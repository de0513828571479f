import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest

from gateway.health import WHOLE, MeshHealth, StoppingError, UnknownServiceError
from gateway.ports import Status

UP, DOWN = Status.SERVING, Status.NOT_SERVING


class MemoryOwner:
    """An owner whose services have the health that a test gives them."""

    def __init__(self, **statuses: Status) -> None:
        self.statuses = statuses
        self.watching = 0
        self._changed = asyncio.Condition()

    async def set(self, service: str, status: Status) -> None:
        async with self._changed:
            self.statuses[service] = status
            self._changed.notify_all()

    async def check(self, service: str) -> Status:
        return self.statuses[service]

    async def watch(self, service: str) -> AsyncIterator[Status]:
        self.watching += 1
        try:
            async with self._changed:
                while True:
                    yield self.statuses[service]
                    await self._changed.wait()
        finally:
            self.watching -= 1


def mesh(owner: MemoryOwner) -> MeshHealth:
    return MeshHealth(dict.fromkeys(owner.statuses, owner), own=("mine",))


async def test_asks_the_owner() -> None:
    health = mesh(MemoryOwner(a=UP, b=DOWN))
    assert await health.check("a") is UP
    assert await health.check("b") is DOWN
    assert await health.check("mine") is UP


async def test_the_whole_is_up_when_all_are() -> None:
    owner = MemoryOwner(a=UP, b=DOWN)
    health = mesh(owner)
    assert await health.check(WHOLE) is DOWN
    assert await health.check_each() == {"": DOWN, "a": UP, "b": DOWN, "mine": UP}
    await owner.set("b", UP)
    assert await health.check(WHOLE) is UP


async def test_unknown_names() -> None:
    health = mesh(MemoryOwner(a=UP))
    with pytest.raises(UnknownServiceError):
        await health.check("nothing")
    with pytest.raises(UnknownServiceError):
        await anext(health.watch("nothing"))


@pytest.mark.parametrize("service", ["a", WHOLE])
async def test_watch_tells_each_change_once(service: str) -> None:
    owner = MemoryOwner(a=UP, b=UP)
    async with aclosing(mesh(owner).watch(service)) as watch:
        assert await anext(watch) is UP
        await owner.set("a", DOWN)
        assert await anext(watch) is DOWN
        await owner.set("a", DOWN)
        await owner.set("a", UP)
        assert await anext(watch) is UP
    assert owner.watching == 0


async def test_watch_of_the_whole_waits_for_all() -> None:
    owner = MemoryOwner(a=UP, b=DOWN)
    async with aclosing(mesh(owner).watch(WHOLE)) as watch:
        assert await anext(watch) is DOWN
        await owner.set("b", UP)
        assert await anext(watch) is UP


async def test_stopping_ends_watches_and_its_own_health() -> None:
    owner = MemoryOwner(a=UP)
    health = mesh(owner)
    async with aclosing(health.watch("a")) as watch:
        assert await anext(watch) is UP
        health.stop()
        with pytest.raises(StoppingError):
            await anext(watch)
    assert owner.watching == 0
    assert await health.check("mine") is DOWN
    assert await health.check("a") is UP


async def test_an_owner_that_breaks_is_not_silent() -> None:
    class Broken(MemoryOwner):
        async def watch(self, service: str) -> AsyncIterator[Status]:
            yield self.statuses[service]
            raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        _ = [status async for status in mesh(Broken(a=UP)).watch("a")]
