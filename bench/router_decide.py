"""What a decision costs, through gRPC: an open loop of Decide at a steady rate.

Starts the router as a process, with a catalogue of six models and without embeddings,
once without a record and once with one. The floor in the same run is Health.Check of the
same server at the same rate: what any call costs. No embedding is asked for.
"""

import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import grpc.aio
import yaml
from grpc_health.v1 import health_pb2, health_pb2_grpc

from stepwire.api.router.v1 import router_service_pb2 as pb
from stepwire.api.router.v1.decision_pb2 import Decision
from stepwire.api.router.v1.message_pb2 import Message
from stepwire.api.router.v1.router_service_pb2_grpc import RouterServiceStub
from stepwire.stack.ports import free_port
from stepwire.testing.postgres import fresh_database, postgres_server

RUNS = 3
WARM_SECONDS = 2.0
START_SECONDS = 30
PROMPTS = (
    "What is the capital of France?",
    "Explain step by step why the sky is blue, and compare it with sunsets.",
    "Write a Python function that merges two sorted lists, with unit tests.",
    "Solve 3 x + 4 = 19 and show the calculation.",
    "Translate into German: the train leaves at noon from the third platform.",
    "Summarise the argument of this paragraph. " + "The river rose by a metre in June. " * 20,
)


def catalogue() -> dict[str, Any]:
    """Two models of each tier, none of which is ever called."""
    models = []
    for place, (tier, quality) in enumerate((("small", 0.4), ("balanced", 0.6), ("large", 0.85))):
        for number in range(2):
            price = 0.1 * 8**place * (1 + number)
            models.append(
                {
                    "name": f"{tier}-{number}",
                    "provider": {
                        "kind": "openai",
                        "base_url": "http://127.0.0.1:1/v1",
                        "model": "m",
                    },
                    "tier": tier,
                    "context_window": 32_000 * (place + 1),
                    "max_output_tokens": 4_096,
                    "quality": quality + 0.02 * number,
                    "capabilities": ["grounding", "json", "tools"],
                    "prices": [
                        {
                            "input_usd_per_million_tokens": round(price, 6),
                            "output_usd_per_million_tokens": round(price * 4, 6),
                        }
                    ],
                }
            )
    return {"models": models}


async def measure_decide(*, rate: int, seconds: float) -> dict[str, Any]:
    found: dict[str, list[float]] = {}
    with (
        tempfile.TemporaryDirectory(prefix="stepwire-bench-") as folder,
        postgres_server() as server,
        fresh_database(server) as database,
    ):
        for _ in range(RUNS):
            for prefix, url in (("decide", ""), ("decide_recorded", database)):
                async with router(Path(folder), postgres_url=url) as channel:
                    await _run(channel, prefix, found, rate=rate, seconds=seconds)
    medians = {key: round(statistics.median(values), 4) for key, values in found.items()}
    return {
        **medians,
        "conditions": {
            "cores": os.cpu_count(),
            "rate_per_s": rate,
            "seconds": seconds,
            "runs": RUNS,
            "models": 6,
            "grpcio": version("grpcio"),
            "python": sys.version.split()[0],
            "client": "one process on the same cores; an open loop",
        },
        "spread": {
            key: [round(min(values), 4), round(max(values), 4)] for key, values in found.items()
        },
    }


async def _run(
    channel: grpc.aio.Channel,
    prefix: str,
    found: dict[str, list[float]],
    *,
    rate: int,
    seconds: float,
) -> None:
    stub, health = RouterServiceStub(channel), health_pb2_grpc.HealthStub(channel)
    requests = [
        pb.DecideRequest(request=pb.GenerateRequest(messages=[Message(content=prompt)]))
        for prompt in PROMPTS
    ]

    async def decide(number: int) -> None:
        response = await stub.Decide(requests[number % len(requests)])
        check(response.decision)

    async def ping(number: int) -> None:
        del number
        await health.Check(health_pb2.HealthCheckRequest())

    for name, call in ((f"{prefix}_floor", ping), (prefix, decide)):
        await open_loop(call, rate=rate, seconds=WARM_SECONDS)
        took = sorted(await open_loop(call, rate=rate, seconds=seconds))
        found.setdefault(f"{name}_ms_p50", []).append(1000 * took[len(took) // 2])
        found.setdefault(f"{name}_ms_p99", []).append(1000 * took[int(len(took) * 0.99)])


def check(decision: Decision) -> None:
    """A wrong answer is no figure."""
    assert len(decision.candidates) == 6, decision
    assert not any(candidate.rejected for candidate in decision.candidates)
    chosen = decision.candidates[0]
    as_good = [each for each in decision.candidates if each.quality >= chosen.quality]
    assert chosen.cost_micro_usd == min(each.cost_micro_usd for each in as_good)


async def open_loop(
    call: Callable[[int], Awaitable[None]], *, rate: int, seconds: float
) -> list[float]:
    """Begins calls at a steady rate, whether or not earlier ones have ended.

    Returns:
        The time of each in seconds, from when it should have begun.
    """
    # The loop's own clock stands still within a turn, and counts milliseconds.
    clock = time.perf_counter
    took: list[float] = []

    async def one(number: int, due: float) -> None:
        await call(number)
        took.append(clock() - due)

    start = clock()
    async with asyncio.TaskGroup() as group:
        for number in range(int(rate * seconds)):
            due = start + number / rate
            if (wait := due - clock()) > 0:
                await asyncio.sleep(wait)
            group.create_task(one(number, due))
    return took


@asynccontextmanager
async def router(folder: Path, *, postgres_url: str) -> AsyncIterator[grpc.aio.Channel]:
    """The router as a process, ready to be called."""
    path, port = folder / "catalogue.yaml", free_port()
    path.write_text(yaml.safe_dump(catalogue()))
    settings = {
        "PORT": str(port),
        "HTTP_PORT": "0",
        "METRICS_PORT": "0",
        "CATALOGUE_PATH": str(path),
        "EMBEDDING_DEADLINE_SECONDS": "0",
        "POSTGRES_URL": postgres_url,
    }
    environment = {f"STEPWIRE_ROUTER_{name}": value for name, value in settings.items()}
    with (folder / "log").open("w") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "router_svc"),
            env={**os.environ, **environment},
            stdout=log,
            stderr=log,
        )
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            await ready(channel)
            yield channel
    finally:
        process.terminate()
        await process.wait()


async def ready(channel: grpc.aio.Channel) -> None:
    health = health_pb2_grpc.HealthStub(channel)
    until = time.monotonic() + START_SECONDS
    while True:
        try:
            answer = await health.Check(health_pb2.HealthCheckRequest(), wait_for_ready=True)
            if answer.status == health_pb2.HealthCheckResponse.SERVING:
                return
        except grpc.aio.AioRpcError:
            pass
        if time.monotonic() > until:
            raise TimeoutError(json.dumps({"router": "did not start"}))
        await asyncio.sleep(0.1)
