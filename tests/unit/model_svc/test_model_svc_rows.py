import asyncio
from collections.abc import Sequence

import numpy as np
import pytest

from model_svc.generic import Request, TensorExecute, digest_of
from model_svc.ports import InferCall
from model_svc.readouts import Readout, read_vectors
from model_svc.running.batcher import Batcher, Outcome
from model_svc.running.budgets import Budget, RowBudget, TokenBudget
from model_svc.running.execute import Executed, RefusedError
from model_svc.running.plan import Pooling, RunPlan
from model_svc.sessions.devices import Device
from model_svc.sessions.errors import InputRefusedError
from model_svc.sessions.runner import Runner
from stepwire.errors import Reason, StepwireError
from stepwire.testing.poll import eventually
from tests.unit.model_svc.batch_recorder import BatchRecorder, staying

Piece = tuple[str, int, str]


class Execute:
    """Gives each payload back; refuses batches with a bad one; ends when it is let."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.gate = asyncio.Event()

    async def __call__(self, payloads: Sequence[str], *, alone: bool) -> Executed:
        self.batches.append(list(payloads))
        await self.gate.wait()
        if "bad" in payloads:
            raise RefusedError("a bad one")
        return Executed([payload.upper() for payload in payloads], "cpu")


class Rows:
    """A batcher of rows whose first batch is held back until all calls wait."""

    def __init__(self, budget: int, max_waiting: int = 1_000) -> None:
        self.execute = Execute()
        self.recorder = BatchRecorder()
        self.batcher = Batcher(
            "m",
            self.execute,
            place=staying(RowBudget(budget)),
            plan=RunPlan(),
            max_waiting=max_waiting,
            clock=asyncio.get_running_loop().time,
            observer=self.recorder,
        )

    async def run(self, *pieces: Piece) -> list[Outcome | BaseException]:
        first = asyncio.create_task(self.batcher.run([("first", 1, "first")]))
        await eventually(lambda: self.execute.batches)
        calls = [asyncio.create_task(self.batcher.run([piece])) for piece in pieces]
        await eventually(lambda: self.batcher.waiting == sum(size for _, size, _ in pieces))
        self.execute.gate.set()
        results = await asyncio.gather(first, *calls, return_exceptions=True)
        return results[1:]


async def test_requests_whose_shapes_agree_run_together() -> None:
    rows = Rows(8)
    results = await rows.run(("a", 2, "x"), ("b", 1, "y"), ("c", 3, "x"), ("d", 1, "y"))
    assert rows.execute.batches == [["first"], ["a", "c"], ["b", "d"]]
    assert [result.results for result in results if isinstance(result, Outcome)] == [
        ["A"],
        ["B"],
        ["C"],
        ["D"],
    ]
    assert rows.recorder.batches == [(1, 1, 1), (2, 5, 5), (2, 2, 2)]


async def test_a_batch_has_no_more_rows_than_its_budget() -> None:
    rows = Rows(4)
    await rows.run(("a", 3, "x"), ("b", 2, "x"), ("c", 2, "x"), ("d", 9, "x"))
    assert rows.execute.batches == [["first"], ["a"], ["b", "c"], ["d"]]


async def test_without_a_budget_each_request_runs_by_itself() -> None:
    rows = Rows(0)
    await rows.run(("a", 1, "x"), ("b", 1, "x"))
    assert rows.execute.batches == [["first"], ["a"], ["b"]]


async def test_a_refused_request_does_not_harm_its_company() -> None:
    rows = Rows(8)
    results = await rows.run(("a", 1, "x"), ("bad", 1, "x"), ("c", 1, "x"))
    assert rows.execute.batches == [["first"], ["a", "bad", "c"], ["a"], ["bad"], ["c"]]
    assert isinstance(results[1], RefusedError)
    assert [result.results for result in results if isinstance(result, Outcome)] == [["A"], ["C"]]
    assert rows.recorder.failed == 1


async def test_all_of_a_batch_with_a_bad_request_are_told_where_they_ran() -> None:
    rows = Rows(8)
    bad, good = await rows.run(("bad", 1, "x"), ("b", 1, "x"))
    assert isinstance(bad, RefusedError)
    assert isinstance(good, Outcome)
    assert good.device == "cpu"
    assert rows.recorder.places == [(8, "cpu")] * 2


@pytest.mark.parametrize(
    ("budget", "parts"),
    [
        (TokenBudget(100), [[2, 3, 4]]),
        (TokenBudget(8), [[2, 3], [4]]),
        (TokenBudget(7), [[2, 3], [4]]),
        (TokenBudget(4), [[2], [3], [4]]),
        (TokenBudget(1), [[2], [3], [4]]),
        (RowBudget(9), [[2, 3, 4]]),
        (RowBudget(5), [[2, 3], [4]]),
        (RowBudget(3), [[2], [3], [4]]),
        (RowBudget(0), [[2], [3], [4]]),
    ],
)
def test_a_batch_that_is_too_large_for_another_device_is_cut(
    budget: Budget, parts: list[list[int]]
) -> None:
    sizes = [2, 3, 4]
    assert [sizes[part] for part in budget.parts(sizes)] == parts


async def test_the_limit_of_what_waits_is_one_of_calls() -> None:
    rows = Rows(8, max_waiting=2)
    # More rows than the limit has calls, and more than a batch has.
    results = await rows.run(("a", 50, "x"), ("b", 50, "x"))
    assert all(isinstance(result, Outcome) for result in results)
    rows = Rows(8, max_waiting=1)
    first = asyncio.create_task(rows.batcher.run([("first", 1, "x")]))
    await eventually(lambda: rows.execute.batches)
    second = asyncio.create_task(rows.batcher.run([("second", 1, "x")]))
    await eventually(lambda: rows.batcher.waiting == 1)
    with pytest.raises(StepwireError) as raised:
        await rows.batcher.run([("third", 1, "x")])
    assert raised.value.reason is Reason.OVERLOADED
    rows.execute.gate.set()
    await asyncio.gather(first, second)


class Doubling:
    """Stands for an engine: doubles `x`, and sums up `x` over all rows if asked for `sum`."""

    device = Device.CPU

    def run_on_cpu(self, inputs, outputs, *, alone):
        results = {"double": inputs["x"] * 2, "sum": inputs["x"].sum(keepdims=True)}
        return [results[name] for name in outputs]


async def test_rows_are_joined_and_cut_apart() -> None:
    runner = Runner(1)
    execute = TensorExecute(Doubling(), runner, RowBudget(8))  # type: ignore[arg-type]
    arrays = [np.arange(6.0).reshape(3, 2), np.full((1, 2), 7.0), np.zeros((0, 2))]
    requests = [Request({"x": array}, ("double",), len(array)) for array in arrays]
    results, device = await execute(requests, alone=True)
    assert device == "cpu"
    for array, (result,) in zip(arrays, results, strict=True):
        assert np.array_equal(result, array * 2)
    # A model that mixes its rows is found out before anybody gets another's answer.
    mixing = [Request({"x": array}, ("sum",), len(array)) for array in arrays[:2]]
    with pytest.raises(InputRefusedError, match="none of a batch"):
        await execute(mixing, alone=True)
    runner.close()


def test_what_is_asked_for_has_one_digest() -> None:
    def call(array: object, name: str = "x", output: str = "y") -> bytes:
        return digest_of(InferCall({name: np.asarray(array)}, [output]))

    assert call([1, 2]) == call([1, 2])
    strings = [np.array([b"a", b"bc"], dtype=object), np.array([b"ab", b"c"], dtype=object)]
    others = [
        call([1, 3]),
        call([[1, 2]]),
        call([1.0, 2.0]),
        call([1, 2], name="z"),
        call([1, 2], output="z"),
        *(call(array) for array in strings),
    ]
    assert len({call([1, 2]), *others}) == 1 + len(others)


def test_long_texts_in_float16_have_their_mean() -> None:
    tokens = np.full((1, 4_000, 2), 30.03, dtype=np.float16)
    mean = read_vectors(
        Readout("tokens", Pooling.MEAN), tokens, np.ones(tokens.shape[:2], np.int64)
    )
    assert mean.dtype == np.float32
    assert mean[0].tolist() == pytest.approx([float(tokens[0, 0, 0])] * 2, rel=1e-5)


@pytest.mark.parametrize("pooling", list(Pooling))
def test_a_text_without_tokens_has_a_vector_of_zeros(pooling: Pooling) -> None:
    """Alone, where there is no first token, and beside others, where there is only padding."""
    readout = Readout("tokens", pooling)
    alone = read_vectors(readout, np.ones((1, 0, 4), np.float32), np.zeros((1, 0), np.int64))
    assert alone.tolist() == [[0] * 4]
    beside = read_vectors(readout, np.ones((2, 2, 4), np.float32), np.array([[1, 1], [0, 0]]))
    assert beside.tolist() == [[1] * 4, [0] * 4]
