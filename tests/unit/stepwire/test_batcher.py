"""Group commit."""

import asyncio
from contextvars import ContextVar

import pytest

from stepwire.batcher import Batcher, Linger, Rest
from stepwire.errors import Reason, StepwireError


class Gate:
    """A flush that waits until it is let through, and doubles what it gets."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.open = asyncio.Event()

    async def flush(self, batch):
        self.batches.append(list(batch))
        await self.open.wait()
        return [item * 2 for item in batch]


async def started(count, batcher):
    tasks = [asyncio.create_task(batcher.submit(number)) for number in range(count)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return tasks


async def test_what_waits_during_a_flush_goes_together():
    gate = Gate()
    batcher = Batcher("test", gate.flush, max_batch=4)
    first = await started(1, batcher)
    others = await started(6, batcher)
    assert batcher.waiting == 6
    gate.open.set()
    assert await asyncio.gather(*first, *others) == [0, 0, 2, 4, 6, 8, 10]
    assert gate.batches == [[0], [0, 1, 2, 3], [4, 5]]


async def test_an_error_for_one_item_is_that_item_s():
    async def flush(batch):
        return [ValueError(item) if item == 1 else item for item in batch]

    batcher = Batcher("test", flush)
    results = await asyncio.gather(*(batcher.submit(n) for n in range(3)), return_exceptions=True)
    assert results[0] == 0
    assert isinstance(results[1], ValueError)
    assert results[2] == 2


async def test_an_error_of_the_flush_is_everyone_s_and_the_next_batch_goes_on():
    calls = 0

    async def flush(batch):
        nonlocal calls
        calls += 1
        if calls == 1:
            raise OSError("away")
        return batch

    batcher = Batcher("test", flush)
    results = await asyncio.gather(*(batcher.submit(n) for n in range(3)), return_exceptions=True)
    assert [type(result) for result in results] == [OSError] * 3
    assert await batcher.submit(7) == 7


async def test_too_few_results_are_an_error_not_a_hang():
    async def flush(batch):
        return batch[:-1]

    batcher = Batcher("test", flush)
    with pytest.raises(AssertionError):
        await batcher.submit(1)


async def test_an_item_is_flushed_although_its_caller_went_away():
    gate = Gate()
    batcher = Batcher("test", gate.flush)
    first, *_ = await started(1, batcher)
    waiting, other = await started(2, batcher)
    first.cancel()
    waiting.cancel()
    gate.open.set()
    assert await other == 2
    assert gate.batches == [[0], [0, 1]]


async def test_more_than_may_wait_is_refused():
    gate = Gate()
    batcher = Batcher("test", gate.flush, max_waiting=2)
    tasks = await started(1, batcher)
    tasks += await started(2, batcher)
    with pytest.raises(StepwireError) as caught:
        await batcher.submit(9)
    assert caught.value.reason == Reason.OVERLOADED
    gate.open.set()
    await asyncio.gather(*tasks)


async def test_drain_waits_for_everything():
    gate = Gate()
    batcher = Batcher("test", gate.flush, max_batch=1)
    tasks = await started(3, batcher)
    draining = asyncio.create_task(batcher.drain())
    await asyncio.sleep(0)
    assert not draining.done()
    gate.open.set()
    await draining
    assert all(task.done() for task in tasks)
    await batcher.drain()


async def test_nobody_waits_for_ever_when_the_loop_is_stopped():
    gate = Gate()
    batcher = Batcher("test", gate.flush, max_batch=1)
    tasks = await started(3, batcher)
    batcher._worker.cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(result) for result in results] == [asyncio.CancelledError] * 3


async def test_a_batch_is_no_part_of_the_call_that_began_it():
    caller: ContextVar[str] = ContextVar("caller", default="nobody")
    seen = []

    async def flush(batch):
        seen.append(caller.get())
        return batch

    caller.set("someone")
    await Batcher("test", flush).submit(1)
    assert seen == ["nobody"]


def lingering(batches):
    async def flush(batch):
        batches.append(list(batch))
        return batch

    # Nothing but an urgent item ends the wait within the test's time.
    return Batcher("test", flush, linger=Linger(3600, lambda item: item < 0))


async def test_an_urgent_item_takes_along_what_lingers():
    batches = []
    batcher = lingering(batches)
    lingers = await started(3, batcher)
    assert batches == []
    assert await batcher.submit(-1) == -1
    assert await asyncio.gather(*lingers) == [0, 1, 2]
    assert batches == [[0, 1, 2, -1]]


async def test_an_urgent_item_alone_goes_at_once_and_so_does_the_next():
    batches = []
    batcher = lingering(batches)
    for item in (-1, -2):
        assert await batcher.submit(item) == item
    assert batches == [[-1], [-2]]


async def test_what_lingers_goes_by_itself_in_the_end():
    batches = []
    batcher = lingering(batches)
    batcher._linger = Linger(0.001, batcher._linger.is_urgent)
    assert await batcher.submit(1) == 1
    assert batches == [[1]]


async def test_where_many_items_come_the_next_ones_wait_for_more():
    gate = Gate()
    gate.open.set()
    batcher = Batcher("test", gate.flush, rest=Rest(seconds=0.1, above_per_second=20))
    await asyncio.gather(*(batcher.submit(item) for item in range(3)))
    early = batcher.put(3)
    # Turns of the loop enough for a batch that would not rest.
    for _ in range(10):
        await asyncio.sleep(0)
    late = batcher.put(4)
    assert await asyncio.gather(early, late) == [6, 8]
    assert gate.batches == [[0, 1, 2], [3, 4]]


async def test_where_few_items_come_there_is_no_rest():
    gate = Gate()
    gate.open.set()
    batcher = Batcher("test", gate.flush, rest=Rest(seconds=3600, above_per_second=500))
    for item in range(5):
        await asyncio.gather(batcher.submit(item), batcher.submit(item))
    assert gate.batches == [[item, item] for item in range(5)]


async def test_a_rest_is_counted_from_the_beginning_of_the_batch_before():
    gate = Gate()
    batcher = Batcher("test", gate.flush, rest=Rest(seconds=0.05, above_per_second=5))
    first = batcher.put(0)
    await asyncio.sleep(0.06)
    second = batcher.put(1)
    gate.open.set()
    await first
    await asyncio.sleep(0)
    assert gate.batches == [[0], [1]]
    assert await second == 2
