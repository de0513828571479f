"""A snapshot lasts while something moves, and is cut off when nothing does."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from stepwire.errors import Reason, StepwireError
from tests.unit.router_svc.virtual_time import run_virtual
from vector_svc.snapshots.pace import Limits, Pace, Paces, Side

LIMITS = Limits(most=2, stall_seconds=60, max_seconds=3_600)


async def seconds_of(
    work: Callable[[Pace], Awaitable[object]],
) -> tuple[float, StepwireError | None]:
    """How long it lasted, and what ended it."""
    loop = asyncio.get_running_loop()
    start = loop.time()
    try:
        async with Paces(LIMITS).pace() as pace:
            await work(pace)
    except StepwireError as error:
        return loop.time() - start, error
    return loop.time() - start, None


async def crawl(pace: Pace) -> None:
    """Let something move every 50 s."""
    while True:
        pace.waits(Side.CALLER)
        await asyncio.sleep(50)


def test_what_moves_goes_on_up_to_the_longest_time() -> None:
    async def for_a_while(pace: Pace) -> None:
        for _ in range(60):
            await asyncio.sleep(59)
            pace.moved()

    assert run_virtual(seconds_of(for_a_while)) == (3_540, None)
    seconds, error = run_virtual(seconds_of(crawl))
    assert error is not None
    assert (seconds, error.reason) == (3_600, Reason.SNAPSHOT_CUT_OFF)
    assert error.metadata["limit"] == "snapshot_max_seconds"


@pytest.mark.parametrize("side", list(Side))
def test_what_stands_still_is_cut_off_and_who_was_waited_for_is_told(side: Side) -> None:
    async def stand(pace: Pace) -> None:
        for _ in range(10):
            await asyncio.sleep(50)
            pace.waits(side)
        await asyncio.Event().wait()

    seconds, error = run_virtual(seconds_of(stand))
    assert error is not None
    assert (seconds, error.reason) == (560, Reason.SNAPSHOT_CUT_OFF)
    assert error.metadata == {
        "limit": "snapshot_stall_seconds",
        "seconds": "60",
        "waited_for": side.value,
    }


def test_a_timeout_of_the_work_itself_is_not_taken_for_it() -> None:
    async def time_out(pace: Pace) -> None:
        async with asyncio.timeout(1):
            await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        run_virtual(seconds_of(time_out))


def test_as_many_as_may_be_are_under_way_until_the_service_stops() -> None:
    async def main() -> None:
        paces = Paces(LIMITS)

        async def run() -> None:
            async with paces.pace() as pace:
                await crawl(pace)

        running = [asyncio.create_task(run()) for _ in range(3)]
        await asyncio.sleep(100)
        [refused] = [task for task in running if task.done()]
        paces.stop()
        ended = await asyncio.gather(*running, return_exceptions=True)
        ended += await asyncio.gather(run(), return_exceptions=True)
        reasons = [error.reason for error in ended if isinstance(error, StepwireError)]
        assert isinstance(error := refused.exception(), StepwireError)
        assert error.metadata == {"limit": "max_snapshots"}
        assert sorted(reasons) == [Reason.DEPENDENCY_UNAVAILABLE] * 3 + [Reason.OVERLOADED]
        assert asyncio.get_running_loop().time() == 100

    run_virtual(main())
