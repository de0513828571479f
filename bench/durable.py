"""The figures of durable execution: each runs on a stack that is up, and checks its answers."""

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from uuid import UUID

import psutil

from bench.disk import Disk, disk
from bench.graphs import TRANSFORM, chain, fan_out, sleeper
from bench.record import Verdict, one_row, settled
from bench.stacks import Bench
from stepwire.api.executor.v1 import executor_service_pb2 as pb
from stepwire.api.executor.v1 import graph_pb2, task_pb2

BATCH = 500
BATCHES_IN_FLIGHT = 4
UNARY_IN_FLIGHT = 64
IDLE_TASKS = 200
IDLE_WARM_UP = 20
SLEEPERS = 5000
VICTIMS = 200
# Longer than a lease, so that what a killed worker ran is still running elsewhere when seen.
VICTIM_SECONDS = 15.0
LOOK_SECONDS = 0.02
CALL_SECONDS = 60

Figures = dict[str, float]


@dataclass
class Runs:
    """What the figures of one run share: its stack, its size, and what went wrong in it."""

    bench: Bench
    tasks: int
    verdict: Verdict


Figure = Callable[[Runs], Awaitable[Figures]]


async def warm_up(runs: Runs) -> None:
    """Let every process have done once what is measured."""
    await _batched(runs, chain(1), BATCH * 2)


async def idle(runs: Runs) -> Figures:
    """One task at a time, of one step and of five, and between them a write to the disk."""
    with disk(runs.bench.home) as log:
        one, writes = await _latencies(runs, 1, log)
        five, _ = await _latencies(runs, 5, log)
    middle, late = len(one) // 2, len(one) * 99 // 100
    return {
        "idle_latency_ms_p50": one[middle],
        "idle_latency_ms_p99": one[late],
        "step_overhead_ms_p50": (five[middle] - one[middle]) / 4,
        "durable_write_ms_p50": writes[middle],
        "durable_write_ms_p99": writes[late],
    }


async def one_step(runs: Runs) -> Figures:
    """Tasks of one step that does nothing, by BatchCreateTasks."""
    return {"one_step_tasks_per_s": await _batched(runs, chain(1), runs.tasks)}


async def five_step(runs: Runs) -> Figures:
    """Tasks of five such steps that follow each other."""
    return {"five_step_tasks_per_s": await _batched(runs, chain(5), runs.tasks // 2)}


async def fanout10(runs: Runs) -> Figures:
    """Tasks of one step, then ten at once, then one that joins them."""
    return {"fanout10_tasks_per_s": await _batched(runs, fan_out(10), runs.tasks // 5)}


async def transform(runs: Runs) -> Figures:
    """Tasks of one step that is an expression."""
    graph = chain(1, kind=TRANSFORM)
    return {"transform_tasks_per_s": await _batched(runs, graph, runs.tasks)}


async def unary(runs: Runs) -> Figures:
    """One CreateTask each, 64 of them in flight."""
    tasks = runs.tasks // 2
    request = pb.CreateTaskRequest(graph=chain(1))
    left = iter(range(tasks))
    ids: list[str] = []

    async def caller() -> None:
        for _ in left:
            created = await runs.bench.executor.CreateTask(request, timeout=CALL_SECONDS)
            ids.append(created.task.task_id)

    started = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(UNARY_IN_FLIGHT)))
    first = UUID(min(ids))
    await settled(runs.bench, first)
    elapsed = time.perf_counter() - started
    await runs.verdict.add(runs.bench, first, tasks=tasks, steps=tasks)
    return {"one_step_unary_tasks_per_s": tasks / elapsed}


async def in_flight(runs: Runs) -> Figures:
    """Steps that wait a second each: how many at once, and how many per second."""
    started = time.perf_counter()
    submitting = asyncio.create_task(_submit(runs, sleeper(1.0), SLEEPERS))
    running = "SELECT count(*) FROM executor.steps WHERE state = 'RUNNING'"
    peak = 0
    while not submitting.done():
        peak = max(peak, await runs.bench.record.fetchval(running))
        await asyncio.sleep(LOOK_SECONDS)
    first = await submitting
    finishing = asyncio.create_task(_until_none_runs(runs, running))
    peak = max(peak, await finishing)
    await settled(runs.bench, first)
    elapsed = time.perf_counter() - started
    await runs.verdict.add(runs.bench, first, tasks=SLEEPERS, steps=SLEEPERS)
    worker = runs.bench.state().part("worker-1")
    assert worker is not None
    return {
        "inflight_steps": peak,
        "inflight_steps_per_s": SLEEPERS / elapsed,
        "memory_mb_per_worker": psutil.Process(worker.pid).memory_info().rss / 2**20,
    }


async def _until_none_runs(runs: Runs, running: str) -> int:
    peak = now = int(await runs.bench.record.fetchval(running))
    while now:
        await asyncio.sleep(LOOK_SECONDS)
        now = await runs.bench.record.fetchval(running)
        peak = max(peak, now)
    return peak


async def recovery(runs: Runs) -> Figures:
    """SIGKILL of a worker with running steps, to all of them running again elsewhere."""
    record = runs.bench.record
    first = await _submit(runs, sleeper(VICTIM_SECONDS), VICTIMS)
    running = (
        "SELECT count(*) FROM executor.steps"
        " WHERE task_id >= $1 AND state = 'RUNNING' AND attempt = $2"
    )
    while await record.fetchval(running, first, 1) < VICTIMS:
        await asyncio.sleep(LOOK_SECONDS)
    share = await one_row(
        record,
        "SELECT w.worker, count(*) AS steps FROM executor.steps s"
        " JOIN executor.worker_sessions w USING (session_id)"
        " WHERE s.state = 'RUNNING' GROUP BY 1 ORDER BY 2 DESC LIMIT 1",
    )
    os.kill(int(share["worker"].rpartition(":")[2]), signal.SIGKILL)
    started = time.perf_counter()
    while await record.fetchval(running, first, 2) < share["steps"]:
        await asyncio.sleep(LOOK_SECONDS)
    elapsed = time.perf_counter() - started
    await settled(runs.bench, first)
    await runs.verdict.add(runs.bench, first, tasks=VICTIMS, steps=VICTIMS, kills=True)
    return {"recovery_s": elapsed, "recovered_steps": share["steps"]}


async def _submit(runs: Runs, graph: graph_pb2.Graph, tasks: int) -> UUID:
    """Create tasks in batches, a few of them in flight; return the lowest id."""
    gate = asyncio.Semaphore(BATCHES_IN_FLIGHT)
    size = min(BATCH, tasks)
    request = pb.BatchCreateTasksRequest(
        requests=[pb.CreateTaskRequest(graph=graph) for _ in range(size)]
    )

    async def submit() -> str:
        async with gate:
            created = await runs.bench.executor.BatchCreateTasks(request, timeout=CALL_SECONDS)
        return str(min(created.task_ids))

    return UUID(min(await asyncio.gather(*(submit() for _ in range(tasks // size)))))


async def _batched(runs: Runs, graph: graph_pb2.Graph, tasks: int) -> float:
    """Tasks per second from the first call to the last recorded success."""
    tasks = max(BATCH, tasks - tasks % BATCH)
    started = time.perf_counter()
    first = await _submit(runs, graph, tasks)
    await settled(runs.bench, first)
    elapsed = time.perf_counter() - started
    await runs.verdict.add(runs.bench, first, tasks=tasks, steps=tasks * len(graph.steps))
    return tasks / elapsed


async def _latencies(runs: Runs, length: int, log: Disk) -> tuple[list[float], list[float]]:
    """Milliseconds from CreateTask to the answer of WaitTask, and of writes; each in order."""
    request = pb.CreateTaskRequest(graph=chain(length))
    executor = runs.bench.executor
    taken: list[float] = []
    writes: list[float] = []
    ids: list[str] = []
    for _ in range(IDLE_TASKS + IDLE_WARM_UP):
        started = time.perf_counter()
        created = await executor.CreateTask(request)
        waiting = pb.WaitTaskRequest(task_id=created.task.task_id)
        waited = await executor.WaitTask(waiting, timeout=CALL_SECONDS)
        taken.append((time.perf_counter() - started) * 1000)
        writes.append(log.write())
        ids.append(created.task.task_id)
        assert waited.task.state == task_pb2.TASK_STATE_SUCCEEDED
    await runs.verdict.add(runs.bench, UUID(min(ids)), tasks=len(ids), steps=len(ids) * length)
    return sorted(taken[IDLE_WARM_UP:]), sorted(writes[IDLE_WARM_UP:])
