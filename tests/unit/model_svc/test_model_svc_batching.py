import asyncio
import random
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model_svc.batching import TokenBatcher
from model_svc.tensors import Tokens, Vectors
from stepwire.errors import Reason, StepwireError
from stepwire.testing.poll import eventually


class Recorder:
    """Remembers what the batcher tells about batches."""

    def __init__(self) -> None:
        self.batches: list[tuple[int, int, int]] = []
        self.seconds: list[tuple[float, float]] = []

    def batch_ran(
        self, *, texts: int, tokens: int, padded_tokens: int, wait_seconds: float, seconds: float
    ) -> None:
        self.batches.append((texts, tokens, padded_tokens))
        self.seconds.append((wait_seconds, seconds))


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

    async def __call__(self, rows: Sequence[Tokens]) -> Vectors:
        self.batches.append(list(rows))
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        await self._gate.acquire()
        if self._stays_open:
            self._gate.release()
        self.running -= 1
        if any(row[0] == FAULTY for row in rows):
            raise ArithmeticError("a faulty row")
        return np.array([[row[0], len(row)] for row in rows], dtype=np.float32)

    @property
    def ids(self) -> list[list[int]]:
        return [[int(row[0]) for row in batch] for batch in self.batches]


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


FAULTY = 999_999


def make(
    encoder: Encoder,
    *,
    budget: int = 64,
    waiting: int = 1_000_000,
    concurrent: int = 1,
    clock: Clock | None = None,
    recorder: Recorder | None = None,
) -> TokenBatcher:
    return TokenBatcher(
        encoder,
        max_batch_tokens=budget,
        max_waiting_tokens=waiting,
        concurrent_batches=concurrent,
        clock=clock or Clock(),
        observer=recorder or Recorder(),
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
    assert len(encoder.batches) <= 4
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
    assert raised.value.metadata == {"limit": "20"}
    assert raised.value.retry_after is not None
    encoder.let_all_end()
    await asyncio.gather(first, second)
    assert (await batcher.run([row(2, 6)])).tolist() == [[2, 6]]


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


async def test_close_cancels_what_waits_and_awaits_what_runs() -> None:
    encoder = Encoder(open_gate=False)
    batcher = make(encoder)
    running = asyncio.create_task(batcher.run([row(0, 8)]))
    await eventually(lambda: encoder.batches)
    waiting = asyncio.create_task(batcher.run([row(1, 8)]))
    await eventually(lambda: batcher.waiting_tokens == 8)
    closing = asyncio.create_task(batcher.close())
    await asyncio.wait([waiting])
    assert not closing.done()
    encoder.let_all_end()
    await closing
    assert encoder.ids == [[0]]
    assert waiting.cancelled()
    await asyncio.wait([running])
