"""Places are given in turn, to those who still wait."""

import asyncio

import pytest

from stepwire.errors import Reason, StepwireError
from vector_svc.store.places import Places


def places(most: int, seconds: float = 3_600) -> Places:
    return Places(most, limit="max_things", what="thing", seconds=seconds)


async def turn() -> None:
    """Let all tasks that can go on do so."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_who_waits_is_served_in_turn() -> None:
    two = places(2)
    served: list[int] = []

    async def use(number: int) -> None:
        async with two:
            served.append(number)
            await release.wait()

    release = asyncio.Event()
    tasks = [asyncio.create_task(use(number)) for number in range(4)]
    await turn()
    assert served == [0, 1]
    two.release()
    await turn()
    assert served == [0, 1, 2]
    release.set()
    await asyncio.gather(*tasks)
    assert served == [0, 1, 2, 3]


async def test_who_waits_too_long_is_refused_and_takes_no_place() -> None:
    one = places(1, seconds=0)
    await one.take()
    with pytest.raises(StepwireError) as refused:
        await one.take()
    assert refused.value.reason is Reason.OVERLOADED
    assert refused.value.metadata == {"limit": "max_things"}
    one.release()
    await one.take()


@pytest.mark.parametrize("given", [False, True], ids=["before", "when it was given"])
async def test_a_place_is_not_lost_to_who_is_cancelled(*, given: bool) -> None:
    one = places(1)
    await one.take()
    gone, next_one = (asyncio.create_task(one.take()) for _ in range(2))
    await turn()
    if given:
        one.release()
    gone.cancel()
    await turn()
    assert gone.cancelled()
    if not given:
        assert not next_one.done()
        one.release()
    await next_one
    one.release()
    await one.take()


async def test_a_place_that_all_have_given_up_is_free() -> None:
    one = places(1)
    await one.take()
    gone = asyncio.create_task(one.take())
    await turn()
    gone.cancel()
    one.release()
    await turn()
    await one.take()
