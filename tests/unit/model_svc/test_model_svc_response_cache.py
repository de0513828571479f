import asyncio

import pytest

from model_svc.running.cache import ResponseCache
from stepwire.errors import Reason, StepwireError


class Maker:
    """Makes answers when it is let."""

    def __init__(self, value: bytes = b"v", error: Exception | None = None) -> None:
        self.value = value
        self.error = error
        self.made = 0
        self.gate = asyncio.Event()

    async def __call__(self) -> bytes:
        self.made += 1
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        return self.value


def opened(value: bytes) -> Maker:
    maker = Maker(value)
    maker.gate.set()
    return maker


async def test_the_least_recently_used_goes_first() -> None:
    # An entry takes 256 bytes and its key's, beside its value.
    cache = ResponseCache[bytes](3 * (256 + 1 + 100), len)
    for key in (b"a", b"b", b"c"):
        await cache.fly(key, opened(key * 100))
    assert cache.get(b"a") == b"a" * 100
    await cache.fly(b"d", opened(b"d" * 100))
    assert cache.get(b"b") is None
    assert [cache.get(key) for key in (b"a", b"c", b"d")] == [
        key * 100 for key in (b"a", b"c", b"d")
    ]
    assert cache.size_bytes == 3 * 357


async def test_what_is_larger_than_the_cache_is_not_kept() -> None:
    cache = ResponseCache[bytes](300, len)
    assert await cache.fly(b"a", opened(b"x" * 100)) == (b"x" * 100, False)
    assert cache.get(b"a") is None
    assert cache.size_bytes == 0


async def test_equal_questions_share_one_flight() -> None:
    cache, maker = ResponseCache[bytes](1_000, len), Maker()
    calls = [asyncio.create_task(cache.fly(b"k", maker)) for _ in range(5)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    maker.gate.set()
    assert await asyncio.gather(*calls) == [(b"v", False), *[(b"v", True)] * 4]
    assert maker.made == 1


async def test_a_flight_goes_on_when_the_caller_is_cancelled_who_began_it() -> None:
    cache, maker = ResponseCache[bytes](1_000, len), Maker()
    first, second = (asyncio.create_task(cache.fly(b"k", maker)) for _ in range(2))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.wait([first])
    maker.gate.set()
    assert await second == (b"v", True)
    assert maker.made == 1


async def test_a_flight_that_nobody_waits_for_ends() -> None:
    cache, maker = ResponseCache[bytes](1_000, len), Maker()
    call = asyncio.create_task(cache.fly(b"k", maker))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    call.cancel()
    await asyncio.wait([call])
    # The next begins anew, and is not caught by the end of the last.
    assert (await cache.fly(b"k", opened(b"w")))[0] == b"w"
    assert maker.made == 1


@pytest.mark.parametrize("reason", [Reason.DEADLINE_EXCEEDED, Reason.OVERLOADED])
async def test_a_deadline_is_its_caller_s_alone(reason: Reason) -> None:
    cache, late = ResponseCache[bytes](1_000, len), Maker(error=StepwireError(reason, "late"))
    first = asyncio.create_task(cache.fly(b"k", late))
    await asyncio.sleep(0)
    second = asyncio.create_task(cache.fly(b"k", opened(b"w")))
    await asyncio.sleep(0)
    late.gate.set()
    results = await asyncio.gather(first, second, return_exceptions=True)
    assert isinstance(results[0], StepwireError)
    if reason is Reason.DEADLINE_EXCEEDED:
        assert results[1] == (b"w", False)
    else:
        assert isinstance(results[1], StepwireError)
    assert cache.get(b"gone") is None
