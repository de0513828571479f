import asyncio
import random
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_svc.running.batcher import Batcher
from model_svc.running.budgets import TokenBudget
from model_svc.running.execute import Executed
from model_svc.running.place import Place
from model_svc.running.plan import RunPlan
from model_svc.running.slots import ComputePool
from model_svc.tensors import Tokens, Vectors
from stepwire.call import call_context
from stepwire.errors import Reason, StepwireError
from stepwire.testing.poll import eventually
from tests.unit.model_svc.batch_recorder import BatchRecorder as Recorder
from tests.unit.model_svc.batch_recorder import staying as staying_place


class Encoder:
    """Gives each row the vector (its first id, its length); a batch ends when it is let."""

    def __init__(self, *, open_gate: bool = True) -> None:
        self.batches: list[list[Tokens]] = []
        self.running = 0
        self.most_running = 0
        self._gate = asyncio.Semaphore(1 if open_gate else 0)
        self._stays_open = open_gate

    def let_one_end(self) -> None:
        self._gate.release()

    def let_all_end(self) -> None:
        self._stays_open = True
        self._gate.release()

    async def __call__(self, rows: Sequence[Tokens], *, alone: bool) -> Executed:
        self.batches.append(list(rows))
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        await self._gate.acquire()
        if self._stays_open:
            self._gate.release()
        self.running -= 1
        if any(row[0] == FAULTY for row in rows):
            raise ArithmeticError("a faulty row")
        vectors = np.array([[row[0], len(row)] for row in rows], dtype=np.float32)
        return Executed(list(vectors), "cpu")

    @property
    def ids(self) -> list[list[int]]:
        return [[int(row[0]) for row in batch] for batch in self.batches]


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


FAULTY = 999_999


class Texts:
    """A batcher of texts."""

    def __init__(self, batcher: Batcher) -> None:
        self.batcher = batcher

    @property
    def waiting_tokens(self) -> int:
        return self.batcher.waiting

    async def run(
        self, rows: Sequence[Tokens], *, deadline: float | None = None, priority: int = 0
    ) -> Vectors:
        with call_context(tenant_id="t", deadline=deadline):
            outcome = await self.batcher.run(
                [(row, len(row), len(row)) for row in rows], priority=priority
            )
        return np.stack(outcome.results)


def make(
    encoder: Encoder,
    *,
    budget: int = 64,
    waiting: int = 1_000_000,
    concurrent: int = 1,
    clock: Callable[[], float] | None = None,
    recorder: Recorder | None = None,
    plan: RunPlan | None = None,
    place: Callable[[], Place] | None = None,
) -> Texts:
    return Texts(
        Batcher(
            "m",
            encoder,
            place=place or staying_place(TokenBudget(budget), concurrent),
            plan=plan or RunPlan(),
            max_waiting=waiting,
            clock=clock or Clock(),
            observer=recorder or Recorder(),
        )
    )


def row(first: int, length: int) -> Tokens:
    return np.full(length, first, dtype=np.int64)


@settings(max_examples=150, deadline=None)
@given(
    calls=st.lists(st.lists(st.integers(1, 40), min_size=1, max_size=12), min_size=1, max_size=12),
    budget=st.integers(8, 100),
    concurrent=st.integers(1, 3),
)
def test_every_caller_gets_its_own_vectors_in_order(
    calls: list[list[int]], budget: int, concurrent: int
) -> None:
    async def scenario() -> None:
        encoder, recorder = Encoder(), Recorder()
        batcher = make(encoder, budget=budget, concurrent=concurrent, recorder=recorder)
        ids = iter(range(10_000))
        requests = [[row(next(ids), length) for length in lengths] for lengths in calls]
        results = await asyncio.gather(*(batcher.run(rows) for rows in requests))
        for rows, vectors in zip(requests, results, strict=True):
            assert vectors.tolist() == [[r[0], len(r)] for r in rows]
        ran = [first for batch in encoder.ids for first in batch]
        assert sorted(ran) == list(range(sum(map(len, calls))))
        for batch in encoder.batches:
            assert len(batch) == 1 or len(batch) * max(map(len, batch)) <= budget
        assert encoder.most_running <= concurrent
        assert batcher.waiting_tokens == 0
        assert sum(texts for texts, _, _ in recorder.batches) == len(ran)

    asyncio.run(scenario())


async def test_a_lone_text_runs_at_once() -> None:
    encoder = Encoder()
    vectors = await make(encoder).run([row(7, 3)])
    assert vectors.tolist() == [[7, 3]]
    assert encoder.ids == [[7]]


async def test_texts_that_wait_share_the_next_batch() -> None:
    encoder = Encoder(open_gate=False)
    batcher = make(encoder)
    calls = [asyncio.create_task(batcher.run([row(n, 8)])) for n in range(9)]
    await eventually(lambda: encoder.batches)
    encoder.let_all_end()
    await asyncio.gather(*calls)
    assert encoder.ids == [[0], list(range(1, 9))]


async def test_a_small_call_does_not_wait_for_a_large_one() -> None:
    encoder = Encoder(open_gate=False)
    batcher = make(encoder, budget=64)
    large = asyncio.create_task(batcher.run([row(n, 20) for n in range(1024)]))
    await eventually(lambda: encoder.batches)
    small = asyncio.create_task(batcher.run([row(5000, 4)]))
    await eventually(lambda: batcher.waiting_tokens > 1021 * 20)
    encoder.let_all_end()
    await small
    # The next batch has begun before the answers of the last are given.
    assert len(encoder.batches) <= 5
    assert not large.done()
    assert (await large).shape == (1024, 2)


async def test_a_large_call_is_not_starved_by_small_ones() -> None:
    encoder = Encoder()
    batcher = make(encoder, budget=64)
    stop = asyncio.Event()

    async def small_calls() -> None:
        while not stop.is_set():
            await batcher.run([row(1, 10)])

    clients = [asyncio.create_task(small_calls()) for _ in range(20)]
    # A length that none of the others is near to: it never fills up their batches.
    await batcher.run([row(2, 60)] * 30)
    stop.set()
    await asyncio.gather(*clients)
    large = sum(1 for batch in encoder.ids if 2 in batch)
    assert large == 30
    assert len(encoder.batches) <= 40 * 30


async def test_mixed_lengths_are_padded_little() -> None:
    encoder, recorder = Encoder(), Recorder()
    batcher = make(encoder, budget=512, recorder=recorder)
    lengths = iter(random.Random(1).choices(range(8, 121), k=2_000))

    async def client() -> None:
        for length in lengths:
            await batcher.run([row(1, length)])

    await asyncio.gather(*(client() for _ in range(64)))
    tokens = sum(tokens for _, tokens, _ in recorder.batches)
    padded = sum(padded for _, _, padded in recorder.batches)
    assert 1 - tokens / padded <= 0.10
    assert len(recorder.batches) <= 2_000 / 5


async def test_a_cancelled_call_takes_its_texts_with_it() -> None:
    encoder = Encoder(open_gate=False)
    batcher = make(encoder)
    first = asyncio.create_task(batcher.run([row(0, 8)]))
    await eventually(lambda: encoder.batches)
    unwanted = asyncio.create_task(batcher.run([row(n, 8) for n in (1, 2)]))
    wanted = asyncio.create_task(batcher.run([row(3, 8)]))
    await eventually(lambda: batcher.waiting_tokens == 24)
    unwanted.cancel()
    await asyncio.wait([unwanted])
    assert batcher.waiting_tokens == 8
    encoder.let_all_end()
    await asyncio.gather(first, wanted)
    assert encoder.ids == [[0], [3]]


async def test_a_call_cancelled_while_it_runs_harms_no_other() -> None:
    encoder = Encoder(open_gate=False)
    batcher = make(encoder)
    blocker = asyncio.create_task(batcher.run([row(0, 8)]))
    await eventually(lambda: encoder.batches)
    calls = [asyncio.create_task(batcher.run([row(n, 8)])) for n in (1, 2)]
    await eventually(lambda: batcher.waiting_tokens == 16)
    encoder.let_one_end()
    await eventually(lambda: len(encoder.batches) == 2)
    calls[0].cancel()
    encoder.let_all_end()
    assert (await calls[1]).tolist() == [[2, 8]]
    await blocker
    assert calls[0].cancelled()


async def test_a_text_whose_deadline_has_passed_does_not_run() -> None:
    encoder, clock = Encoder(open_gate=False), Clock()
    batcher = make(encoder, clock=clock)
    first = asyncio.create_task(batcher.run([row(0, 8)]))
    await eventually(lambda: encoder.batches)
    late = asyncio.create_task(batcher.run([row(1, 8)], deadline=clock.now + 5))
    in_time = asyncio.create_task(batcher.run([row(2, 8)], deadline=clock.now + 50))
    await eventually(lambda: batcher.waiting_tokens == 16)
    clock.now += 10
    encoder.let_all_end()
    with pytest.raises(StepwireError) as raised:
        await late
    assert raised.value.reason is Reason.DEADLINE_EXCEEDED
    await asyncio.gather(first, in_time)
    assert encoder.ids == [[0], [2]]


async def test_the_times_of_a_batch_are_told() -> None:
    encoder, clock, recorder = Encoder(open_gate=False), Clock(), Recorder()
    batcher = make(encoder, clock=clock, recorder=recorder)
    calls = [asyncio.create_task(batcher.run([row(0, 8)]))]
    await eventually(lambda: encoder.batches)
    clock.now += 2
    calls.append(asyncio.create_task(batcher.run([row(1, 8)])))
    await eventually(lambda: batcher.waiting_tokens == 8)
    clock.now += 2
    calls.append(asyncio.create_task(batcher.run([row(2, 8)])))
    await eventually(lambda: batcher.waiting_tokens == 16)
    clock.now += 3
    encoder.let_all_end()
    await asyncio.gather(*calls)
    assert recorder.batches == [(1, 8, 8), (2, 16, 16)]
    assert recorder.seconds == [(0, 7), (5, 0)]


async def test_too_much_waiting_work_is_refused() -> None:
    encoder = Encoder(open_gate=False)
    batcher = make(encoder, waiting=20)
    first = asyncio.create_task(batcher.run([row(0, 8)]))
    await eventually(lambda: encoder.batches)
    second = asyncio.create_task(batcher.run([row(1, 15)]))
    await eventually(lambda: batcher.waiting_tokens == 15)
    with pytest.raises(StepwireError) as raised:
        await batcher.run([row(2, 6)])
    assert raised.value.reason is Reason.OVERLOADED
    assert raised.value.metadata == {"limit": "20", "model": "m"}
    assert raised.value.retry_after is not None
    encoder.let_all_end()
    await asyncio.gather(first, second)
    assert (await batcher.run([row(2, 6)])).tolist() == [[2, 6]]


async def test_what_may_never_wait_is_not_asked_for_again() -> None:
    batcher = make(Encoder(), waiting=20)
    with pytest.raises(StepwireError) as raised:
        await batcher.run([row(0, 8), row(1, 13)])
    assert raised.value.reason is Reason.MODEL_INPUT_INVALID
    assert raised.value.metadata == {"limit": "20", "model": "m"}
    assert "the call has 21 tokens, at most 20 may wait" in raised.value.message
    assert raised.value.retry_after is None


async def test_a_failing_batch_fails_only_its_own_callers() -> None:
    encoder = Encoder(open_gate=False)
    batcher = make(encoder, budget=16)
    calls = [asyncio.create_task(batcher.run([row(n, 16)])) for n in (0, FAULTY, 2)]
    await eventually(lambda: encoder.batches)
    encoder.let_all_end()
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert isinstance(results[1], ArithmeticError)
    assert [np.asarray(result).tolist() for result in (results[0], results[2])] == [
        [[0, 16]],
        [[2, 16]],
    ]


async def test_the_rest_of_a_failed_call_is_dropped() -> None:
    encoder = Encoder()
    batcher = make(encoder, budget=16)
    with pytest.raises(ArithmeticError):
        await batcher.run([row(FAULTY, 16), row(1, 16), row(2, 16)])
    await eventually(lambda: encoder.running == 0)
    assert batcher.waiting_tokens == 0
    assert len(encoder.batches) <= 2


async def test_close_takes_nothing_new_and_ends_what_it_has() -> None:
    encoder = Encoder(open_gate=False)
    texts = make(encoder)
    calls = [asyncio.create_task(texts.run([row(0, 8)]))]
    await eventually(lambda: encoder.batches)
    calls.append(asyncio.create_task(texts.run([row(1, 8)])))
    await eventually(lambda: texts.waiting_tokens == 8)
    closing = asyncio.create_task(texts.batcher.close())
    await asyncio.sleep(0)
    with pytest.raises(StepwireError, match="unloaded"):
        await texts.run([row(2, 8)])
    assert not closing.done()
    encoder.let_all_end()
    await closing
    await asyncio.gather(*calls)
    assert encoder.ids == [[0], [1]]


async def test_a_higher_priority_goes_first() -> None:
    encoder = Encoder(open_gate=False)
    texts = make(encoder, budget=8, plan=RunPlan(priority_levels=3))
    calls = [asyncio.create_task(texts.run([row(0, 8)]))]
    await eventually(lambda: encoder.batches)
    # The default is the middle one.
    for first, priority in ((1, 3), (2, 0), (3, 1), (4, 2)):
        calls.append(asyncio.create_task(texts.run([row(first, 8)], priority=priority)))
    await eventually(lambda: texts.waiting_tokens == 32)
    encoder.let_all_end()
    await asyncio.gather(*calls)
    assert encoder.ids == [[0], [3], [2], [4], [1]]


async def test_a_lower_priority_fills_what_room_is_left() -> None:
    encoder = Encoder(open_gate=False)
    texts = make(encoder, budget=24, plan=RunPlan(priority_levels=2))
    calls = [asyncio.create_task(texts.run([row(0, 8)]))]
    await eventually(lambda: encoder.batches)
    for first, priority in ((1, 2), (2, 2), (3, 1), (4, 1)):
        calls.append(asyncio.create_task(texts.run([row(first, 8)], priority=priority)))
    await eventually(lambda: texts.waiting_tokens == 32)
    encoder.let_all_end()
    await asyncio.gather(*calls)
    assert encoder.ids == [[0], [3, 4, 1], [2]]


async def test_a_priority_that_the_model_lacks_is_refused() -> None:
    texts = make(Encoder(), plan=RunPlan(priority_levels=2))
    with pytest.raises(StepwireError) as raised:
        await texts.run([row(0, 8)], priority=3)
    assert raised.value.reason is Reason.MODEL_INPUT_INVALID
    assert (await make(Encoder()).run([row(0, 8)], priority=3)).shape == (1, 2)


async def test_an_idle_batch_may_wait_for_more() -> None:
    encoder, clock = Encoder(), Clock()
    texts = make(encoder, budget=16, clock=clock, plan=RunPlan(max_delay_seconds=60))
    first = asyncio.create_task(texts.run([row(0, 8)]))
    await eventually(lambda: texts.waiting_tokens == 8)
    assert not encoder.batches
    # It is full now: nothing is gained by waiting longer.
    await texts.run([row(1, 8)])
    await first
    assert encoder.ids == [[0, 1]]


async def test_beside_another_batch_a_text_waits_a_moment_for_company() -> None:
    encoder = Encoder(open_gate=False)
    texts = make(encoder, concurrent=2)
    calls = [asyncio.create_task(texts.run([row(0, 8)]))]
    await eventually(lambda: encoder.batches)
    calls += [asyncio.create_task(texts.run([row(first, 8)])) for first in (1, 2)]
    await eventually(lambda: len(encoder.batches) == 2)
    encoder.let_all_end()
    await asyncio.gather(*calls)
    assert encoder.ids == [[0], [1, 2]]


async def test_a_batch_waits_no_longer_than_its_delay() -> None:
    encoder = Encoder()
    # By a clock that stands still, so that only the timer can end the wait.
    texts = make(encoder, plan=RunPlan(max_delay_seconds=0.01))
    first = asyncio.create_task(texts.run([row(0, 8)]))
    second = asyncio.create_task(texts.run([row(1, 8)]))
    await asyncio.gather(first, second)
    assert encoder.ids == [[0, 1]]


async def test_a_call_tells_where_its_time_went() -> None:
    encoder, clock = Encoder(open_gate=False), Clock()
    texts = make(encoder, clock=clock)
    blocker = asyncio.create_task(texts.run([row(0, 8)]))
    await eventually(lambda: encoder.batches)
    calls = [asyncio.create_task(texts.batcher.run([(row(first, 8), 8, 8)])) for first in (1, 2)]
    await eventually(lambda: texts.waiting_tokens == 16)
    clock.now += 3
    encoder.let_one_end()
    await eventually(lambda: len(encoder.batches) == 2)
    clock.now += 4
    encoder.let_all_end()
    outcome = await calls[0]
    assert (outcome.queue_seconds, outcome.compute_seconds) == (3, 4)
    assert (outcome.batch_items, outcome.device) == (2, "cpu")
    await asyncio.gather(blocker, *calls)


async def test_a_model_that_moves_to_another_device_shares_the_slots_there() -> None:
    cpu = ComputePool(1)
    here = Place("cpu", cpu, TokenBudget(1))
    now = Place("gpu", ComputePool(1), TokenBudget(1))
    encoder, other = Encoder(open_gate=False), Encoder(open_gate=False)
    moving = make(encoder, place=lambda: now)
    staying = make(other, place=lambda: here)
    calls = [asyncio.create_task(moving.run([row(id_, 1)])) for id_ in (1, 2)]
    calls.append(asyncio.create_task(staying.run([row(3, 1)])))
    await eventually(lambda: encoder.running == other.running == 1)
    now = Place("cpu", cpu, TokenBudget(1))
    encoder.let_one_end()
    await calls[0]
    # What waited goes on once the slot of its new device is free, and not before.
    assert (encoder.running, other.running) == (0, 1)
    other.let_all_end()
    encoder.let_all_end()
    await asyncio.gather(*calls)
    assert encoder.ids == [[1], [2]]
    await moving.batcher.close()


async def test_a_model_that_moves_to_the_cpu_has_the_batches_of_a_cpu() -> None:
    encoder, recorder = Encoder(open_gate=False), Recorder()
    now = Place("gpu", ComputePool(1), TokenBudget(4))
    texts = make(encoder, place=lambda: now, recorder=recorder)
    calls = [asyncio.create_task(texts.run([row(id_, 1)])) for id_ in range(7)]
    await eventually(lambda: texts.waiting_tokens == 6)
    now = Place("cpu", ComputePool(1), TokenBudget(2))
    encoder.let_all_end()
    await asyncio.gather(*calls)
    assert encoder.ids == [[0], [1, 2], [3, 4], [5, 6]]
    assert recorder.places == [(4, "cpu"), (2, "cpu"), (2, "cpu"), (2, "cpu")]


async def test_a_model_that_moved_while_nothing_ran_begins_on_its_new_device() -> None:
    encoder = Encoder()
    gpu = ComputePool(1)
    now = Place("gpu", gpu, TokenBudget(8))
    texts = make(encoder, place=lambda: now)
    now = Place("cpu", ComputePool(1), TokenBudget(1))
    await texts.run([row(id_, 1) for id_ in range(3)])
    assert encoder.ids == [[0], [1], [2]]
    assert gpu.is_empty
    await texts.batcher.close()
    assert now.pool.is_empty


async def test_a_model_that_moved_does_not_wait_for_the_device_that_it_left() -> None:
    gpu = ComputePool(1)
    holding, moved = Encoder(open_gate=False), Encoder()
    there = now = Place("gpu", gpu, TokenBudget(8))
    busy = make(holding, place=lambda: there)
    texts = make(moved, place=lambda: now)
    held = asyncio.create_task(busy.run([row(1, 1)]))
    await eventually(lambda: holding.running == 1)
    now = Place("cpu", ComputePool(1), TokenBudget(8))
    await asyncio.wait_for(texts.run([row(2, 1)]), 10)
    assert holding.running == 1
    holding.let_all_end()
    await held
