"""What the router adds to a call of a provider, beside LiteLLM's proxy in the same run.

Ways to the same simulated provider, in turn: straight to it; through a bare gRPC server that
does nothing but call it (`floor`, the physical limit of this shape); through our router by
gRPC (`generate`) and by OpenAI's HTTP (`http`); and through LiteLLM's proxy (HTTP, one
worker). Decide is measured at 500 calls a second on the same router. What a way adds is the
difference between its percentile and that of the straight way at the same rate; a percentile
of the sum of two delays is not the sum of percentiles, so added p99s are differences, not
measurements of one call. Requests per second per core are answered calls over seconds of
processor time of the process, under a closed loop that keeps it busy.
"""

import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import grpc.aio
import orjson
import psutil
import yaml

from bench.peer import PEERS, peer_python
from bench.router_decide import open_loop, ready
from router_svc.providers.http import HttpClient
from stepwire.api.router.v1 import router_service_pb2 as pb
from stepwire.api.router.v1.message_pb2 import Message
from stepwire.api.router.v1.router_service_pb2_grpc import RouterServiceStub
from stepwire.stack.ports import free_port

PEER = PEERS / "litellm"
RATES = (100, 500)
PROVIDER_SECONDS = 0.02
PROMPT = "How much did the river rise in June, and who was hurt?"
ANSWER_TOKENS = 16
WARM_CALLS = 200
IN_FLIGHT = 32
# After the calls that warm up, so that what grows later is a leak.
SETTLE_CALLS = 500
PEER_START_SECONDS = 120

Call = Callable[[int], Awaitable[None]]
Figures = dict[str, float]


class Way:
    """One way to the provider: a call, and the process that it costs."""

    def __init__(
        self,
        name: str,
        call: Call,
        process: psutil.Process | None,
        decide: Call | None = None,
    ) -> None:
        self.name = name
        self.call = call
        self.decide = decide
        self._process = process

    def processor_seconds(self) -> float:
        """Of the process and its children, so far."""
        return sum(sum(each.cpu_times()[:2]) for each in self._all())

    def memory_mb(self) -> float:
        """Of the process and its children, resident."""
        return sum(each.memory_info().rss for each in self._all()) / 2**20

    def _all(self) -> list[psutil.Process]:
        if self._process is None:
            return []
        return [self._process, *self._process.children(recursive=True)]


async def measure_load(*, seconds: float, runs: int, calls: int, with_peer: bool) -> dict[str, Any]:
    """Returns the figures of all ways, medians of `runs`."""
    found: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="stepwire-bench-") as folder:
        for _ in range(runs):
            for name, value in (await _run(Path(folder), seconds, calls, with_peer)).items():
                found.setdefault(name, []).append(value)
    result = {name: round(statistics.median(values), 4) for name, values in found.items()}
    if with_peer:
        ratio = result["generate_rps_per_core"] / result["litellm_rps_per_core"]
        result["ratio_litellm_rps"] = round(ratio, 2)
        # Like with like: both over HTTP.
        ratio = result["http_rps_per_core"] / result["litellm_rps_per_core"]
        result["ratio_litellm_http_rps"] = round(ratio, 2)
    spread = {name: [round(min(each), 4), round(max(each), 4)] for name, each in found.items()}
    return {**result, "conditions": _conditions(seconds, runs, calls), "spread": spread}


async def _run(folder: Path, seconds: float, calls: int, with_peer: bool) -> Figures:  # noqa: FBT001
    figures: Figures = {}
    async with fleet(folder) as url:
        async with _straight(url) as way:
            straight = await _at_rates(way, seconds)
        peers = [_litellm(folder, url)] if with_peer else []
        ways = [_floor(folder, url), _ours(folder, url), _ours(folder, url, http=True), *peers]
        for opening in ways:
            async with opening as way:
                for name, value in (await _at_rates(way, seconds)).items():
                    figures[f"{way.name}_{name}"] = value
                    figures[f"{way.name}_added_{name}"] = value - straight[name]
                figures |= await _at_full_speed(way, seconds, calls)
                if way.decide is not None:
                    figures |= await _deciding(way.decide, seconds)
    for rate in RATES:
        for percentile in ("p50", "p99"):
            name = f"ms_{percentile}_{rate}"
            figures[f"straight_{name}"] = straight[name]
    return figures


async def _at_rates(way: Way, seconds: float) -> Figures:
    await _closed_loop(way.call, WARM_CALLS)
    figures = {}
    for rate in RATES:
        took = sorted(await open_loop(way.call, rate=rate, seconds=seconds))
        figures[f"ms_p50_{rate}"] = 1000 * took[len(took) // 2]
        figures[f"ms_p99_{rate}"] = 1000 * took[int(len(took) * 0.99)]
    return figures


async def _deciding(call: Call, seconds: float) -> Figures:
    rate = RATES[-1]
    took = sorted(await open_loop(call, rate=rate, seconds=seconds))
    return {
        f"decide_ms_p50_{rate}": 1000 * took[len(took) // 2],
        f"decide_ms_p99_{rate}": 1000 * took[int(len(took) * 0.99)],
    }


async def _at_full_speed(way: Way, seconds: float, calls: int) -> Figures:
    await _closed_loop(way.call, SETTLE_CALLS)
    before, started = way.processor_seconds(), time.monotonic()
    count = 0
    while time.monotonic() - started < seconds:
        await _closed_loop(way.call, 500)
        count += 500
    took, used = time.monotonic() - started, way.processor_seconds() - before
    memory = way.memory_mb()
    more = max(0, calls - count)
    await _closed_loop(way.call, more)
    return {
        f"{way.name}_rps": count / took,
        f"{way.name}_rps_per_core": count / used,
        f"{way.name}_memory_mb": way.memory_mb(),
        f"{way.name}_memory_growth_mb": way.memory_mb() - memory,
    }


async def _closed_loop(call: Call, calls: int) -> None:
    numbers = iter(range(calls))

    async def client() -> None:
        for number in numbers:
            await call(number)

    async with asyncio.TaskGroup() as group:
        for _ in range(IN_FLIGHT):
            group.create_task(client())


@asynccontextmanager
async def started(command: list[str], log: Path, **settings: str) -> AsyncIterator[Any]:
    with log.open("w") as output:
        process = await asyncio.create_subprocess_exec(
            *command, env={**os.environ, **settings}, stdout=asyncio.subprocess.PIPE, stderr=output
        )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


@asynccontextmanager
async def fleet(folder: Path) -> AsyncIterator[str]:
    plan = folder / "fleet.yaml"
    endpoint = {
        "name": "provider",
        "latency_seconds": {"shape": "constant", "value": PROVIDER_SECONDS},
        "answer_tokens": {"shape": "constant", "value": ANSWER_TOKENS},
    }
    plan.write_text(yaml.safe_dump({"endpoints": [endpoint]}))
    command = [sys.executable, "-m", "stepwire.testing.fleet", str(plan)]
    async with started(command, folder / "fleet.log") as running:
        yield json.loads(await running.stdout.readline())["provider"]


def _chat(url: str, model: str) -> Call:
    body = orjson.dumps({"model": model, "messages": [{"role": "user", "content": PROMPT}]})
    client = HttpClient(url, headers={"authorization": "Bearer sk-bench"}, connect_seconds=5)

    async def call(number: int) -> None:
        del number
        async with await client.post("/chat/completions", body) as response:
            answer = orjson.loads(await response.read(limit=2**20))
        assert response.status == 200, answer
        assert len(answer["choices"][0]["message"]["content"].split()) == ANSWER_TOKENS

    return call


@asynccontextmanager
async def _straight(url: str) -> AsyncIterator[Way]:
    yield Way("straight", _chat(url, "small"), None)


@asynccontextmanager
async def _floor(folder: Path, url: str) -> AsyncIterator[Way]:
    port = free_port()
    command = [sys.executable, "-m", "bench.router_floor", url, str(port)]
    async with started(command, folder / "floor.log") as process:
        await process.stdout.readline()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            call = _generate(RouterServiceStub(channel))
            yield Way("floor", call, psutil.Process(process.pid))


def _request() -> pb.GenerateRequest:
    return pb.GenerateRequest(messages=[Message(content=PROMPT)])


def _generate(stub: Any) -> Call:
    request = _request()

    async def call(number: int) -> None:
        del number
        answer = await stub.Generate(request)
        assert len(answer.text.split()) == ANSWER_TOKENS

    return call


def _decide(stub: Any) -> Call:
    request = pb.DecideRequest(request=_request())

    async def call(number: int) -> None:
        del number
        decision = (await stub.Decide(request)).decision
        # They cost the same, so that the one which was quicker lately is chosen.
        assert decision.model in {"one", "two"}, decision

    return call


@asynccontextmanager
async def _ours(folder: Path, url: str, *, http: bool = False) -> AsyncIterator[Way]:
    path, port, http_port = folder / "catalogue.yaml", free_port(), free_port()
    models = [
        {
            "name": name,
            "provider": {"kind": "openai", "base_url": url, "model": "small"},
            "context_window": 32_000,
            "max_output_tokens": 4_096,
            "quality": quality,
            "prices": [{"input_usd_per_million_tokens": 1, "output_usd_per_million_tokens": 4}],
            "limits": {"concurrency": 1_000},
        }
        for name, quality in (("one", 0.6), ("two", 0.8))
    ]
    path.write_text(yaml.safe_dump({"models": models}))
    settings = {
        "PORT": str(port),
        "HTTP_PORT": str(http_port),
        "METRICS_PORT": "0",
        "CATALOGUE_PATH": str(path),
        "EMBEDDING_DEADLINE_SECONDS": "0",
        "POSTGRES_URL": "",
    }
    environment = {f"STEPWIRE_ROUTER_{name}": value for name, value in settings.items()}
    async with AsyncExitStack() as stack:
        command = [sys.executable, "-m", "router_svc"]
        running = started(command, folder / "router.log", **environment)
        process = await stack.enter_async_context(running)
        address = f"127.0.0.1:{port}"
        channel = await stack.enter_async_context(grpc.aio.insecure_channel(address))
        await ready(channel)
        running_process = psutil.Process(process.pid)
        if http:
            yield Way("http", _chat(f"http://127.0.0.1:{http_port}/v1", "auto"), running_process)
            return
        stub = RouterServiceStub(channel)
        yield Way("generate", _generate(stub), running_process, _decide(stub))


@asynccontextmanager
async def _litellm(folder: Path, url: str) -> AsyncIterator[Way]:
    path, port = folder / "litellm.yaml", free_port()
    parameters = {"model": "openai/small", "api_base": url, "api_key": "sk-bench"}
    models = [{"model_name": "small", "litellm_params": parameters}]
    path.write_text(yaml.safe_dump({"model_list": models}))
    command = [
        *(str(peer_python(PEER.name).parent / "litellm"), "--config", str(path)),
        *("--port", str(port), "--host", "127.0.0.1", "--num_workers", "1", "--telemetry", "False"),
    ]
    # Its own advice for production, and no key to check: ours checks none here either.
    settings = {
        "LITELLM_LOG": "ERROR",
        "LITELLM_MODE": "PRODUCTION",
        "NO_DOCS": "True",
        "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",
    }
    async with started(command, folder / "litellm.log", **settings) as process:
        drain = asyncio.create_task(process.stdout.read())
        call = _chat(f"http://127.0.0.1:{port}/v1", "small")
        await _answers(call, folder / "litellm.log")
        yield Way("litellm", call, psutil.Process(process.pid))
        drain.cancel()


async def _answers(call: Call, log: Path) -> None:
    until = time.monotonic() + PEER_START_SECONDS
    while True:
        try:
            await call(0)
        except Exception:
            if time.monotonic() > until:
                sys.stderr.write(f"see {log}\n")
                raise
            await asyncio.sleep(0.5)
        else:
            return


def _conditions(seconds: float, runs: int, calls: int) -> dict[str, Any]:
    return {
        "cores": os.cpu_count(),
        "load_at_end": round(os.getloadavg()[0], 2),
        "provider": f"simulated on the same cores, answers after {PROVIDER_SECONDS * 1000:g} ms",
        "client": "one process on the same cores; open loop for latencies, closed for speed",
        "closed_loop_in_flight": IN_FLIGHT,
        "seconds": seconds,
        "runs": runs,
        "calls_for_memory": calls,
        "litellm": "proxy, one worker, no database, no keys, logs off",
        "versions": {
            "python": sys.version.split()[0],
            "grpcio": version("grpcio"),
            "peer": (PEER / "requirements.txt").read_text().strip(),
        },
    }
