"""Does the router grow over as many calls as an hour brings?

Starts Postgres, a simulated provider and the router with its record. Nearly every call has a
prompt and a task of its own; half of them ask for the exact cache, and all are paid from a
budget of the tenant and from one for each project. The router's memory is sampled while the
calls run; what counts is the slope over their second half. Every answer is checked, and at
the end whether the record has all of them.
"""

import asyncio
import itertools
import os
import statistics
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import grpc.aio
import psutil
import yaml

from bench.router_cache import only_model
from bench.router_decide import ready
from bench.router_load import fleet, started
from stepwire.api.router.v1 import budget_pb2, requirements_pb2
from stepwire.api.router.v1 import budget_service_pb2 as budget_pb
from stepwire.api.router.v1 import router_service_pb2 as pb
from stepwire.api.router.v1 import usage_service_pb2 as usage_pb
from stepwire.api.router.v1.budget_service_pb2_grpc import BudgetServiceStub
from stepwire.api.router.v1.message_pb2 import Message
from stepwire.api.router.v1.router_service_pb2_grpc import RouterServiceStub
from stepwire.api.router.v1.usage_service_pb2_grpc import UsageServiceStub
from stepwire.stack.ports import free_port
from stepwire.testing.poll import eventually
from stepwire.testing.postgres import fresh_database, postgres_server

IN_FLIGHT = 32
SAMPLES = 40
PROJECTS = 50
# One call in so many repeats an earlier one, so that the cache has hits as well.
REPEAT = 10
SETTLE_SECONDS = 60
# So little that the cache is full before what counts is measured.
CACHE_MEMORY_BYTES = 4 * 2**20


async def measure_soak(*, calls: int) -> dict[str, Any]:
    """Returns the router's memory over so many calls."""
    with (
        tempfile.TemporaryDirectory(prefix="stepwire-bench-") as folder,
        postgres_server() as server,
        fresh_database(server) as database,
    ):
        async with fleet(Path(folder)) as url:
            return await _soak(Path(folder), url, database, calls)


async def _soak(folder: Path, url: str, database: str, calls: int) -> dict[str, Any]:
    catalogue, port = folder / "catalogue.yaml", free_port()
    catalogue.write_text(
        yaml.safe_dump({"models": [{**only_model(url), "limits": {"concurrency": 1_000}}]})
    )
    settings = {
        "PORT": str(port),
        "HTTP_PORT": "0",
        "METRICS_PORT": "0",
        "CATALOGUE_PATH": str(catalogue),
        "EMBEDDING_DEADLINE_SECONDS": "0",
        "POSTGRES_URL": database,
        "LOG_LEVEL": "WARNING",
        "CACHE_MEMORY_BYTES": str(CACHE_MEMORY_BYTES),
    }
    environment = {f"STEPWIRE_ROUTER_{name}": value for name, value in settings.items()}
    running = started([sys.executable, "-m", "router_svc"], folder / "router.log", **environment)
    async with running as router, grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        await ready(channel)
        await _budgets(BudgetServiceStub(channel))
        began = time.monotonic()
        memory = await _calls(RouterServiceStub(channel), psutil.Process(router.pid), calls)
        seconds = time.monotonic() - began
        await eventually(lambda: _all_recorded(UsageServiceStub(channel), calls), SETTLE_SECONDS)
    half = memory[len(memory) // 2 :]
    slope = statistics.linear_regression([float(at) for at, _ in half], [mb for _, mb in half])
    return {
        "calls": calls,
        "calls_per_s": round(calls / seconds, 1),
        "memory_mb": {str(at): round(mb, 1) for at, mb in memory[:: len(memory) // 10]},
        "memory_mb_at_end": round(memory[-1][1], 1),
        "growth_mb_per_100k_calls": round(slope.slope * 100_000, 2),
        "conditions": {
            "cores": os.cpu_count(),
            "in_flight": IN_FLIGHT,
            "budgets": 2,
            "projects": PROJECTS,
            "cache": f"exact for every second call; one call in {REPEAT} repeats an earlier one",
            "cache_memory_bytes": CACHE_MEMORY_BYTES,
            "grpcio": version("grpcio"),
            "python": sys.version.split()[0],
        },
    }


async def _budgets(stub: Any) -> None:
    for name, split in (
        ("all", budget_pb2.BUDGET_SPLIT_NONE),
        ("each", budget_pb2.BUDGET_SPLIT_PROJECT),
    ):
        config = budget_pb2.BudgetConfig(
            period=budget_pb2.BUDGET_PERIOD_TOTAL, split=split, limit_micro_usd=10**12
        )
        await stub.CreateBudget(budget_pb.CreateBudgetRequest(name=name, config=config))


async def _calls(stub: Any, router: psutil.Process, calls: int) -> list[tuple[int, float]]:
    """Makes the calls; returns the router's megabytes after so many of them."""
    memory: list[tuple[int, float]] = []
    numbers = iter(range(calls))
    done = itertools.count(1)

    async def client() -> None:
        for number in numbers:
            answer = await stub.Generate(_request(number))
            assert answer.text, answer
            if (count := next(done)) % (calls // SAMPLES) == 0:
                memory.append((count, router.memory_info().rss / 2**20))

    async with asyncio.TaskGroup() as group:
        for _ in range(IN_FLIGHT):
            group.create_task(client())
    return memory


def _request(number: int) -> pb.GenerateRequest:
    asked = number // 2 if number % REPEAT == 0 else number
    cached = requirements_pb2.CACHE_MODE_EXACT if asked % 2 else requirements_pb2.CACHE_MODE_OFF
    return pb.GenerateRequest(
        messages=[Message(content=f"How much did river {asked} rise in June?")],
        attribution=requirements_pb2.Attribution(
            project=f"project-{number % PROJECTS}", task_id=f"task-{number}"
        ),
        cache=requirements_pb2.CacheControl(mode=cached),
    )


async def _all_recorded(stub: Any, calls: int) -> bool:
    (total,) = (await stub.GetUsage(usage_pb.GetUsageRequest())).sums
    return bool(total.calls == calls and total.answered == calls)
