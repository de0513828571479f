"""What the router's caches give again: how often rightly, how often wrongly, and how fast.

Starts Postgres, Redis, model_svc, vector_svc, a simulated provider and three routers: one as
it comes, and two without memory, whose hits come from Postgres and from Redis. Each pair of
questions in `router_cache_pairs.yaml` is asked in a scope of its own, so that the one answer
kept there is the only one that can be found. `hits` is the share of the questions with the
same meaning that got it, `false_hits` that of the others. Without the guard, those that it
refused would have got it too. What a request gets through the router is held against what
the vectors and the guard say; the shares at other thresholds are taken from those alone.
"""

import asyncio
import os
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import grpc.aio
import numpy as np
import yaml

from bench.router_decide import ready
from router_svc.cache.guard import difference
from router_svc.settings import RouterSettings
from stepwire.api.model.v1 import model_service_pb2 as model_pb
from stepwire.api.model.v1.model_service_pb2_grpc import ModelServiceStub
from stepwire.api.router.v1 import cache_pb2
from stepwire.api.router.v1 import cache_service_pb2 as cache_service_pb
from stepwire.api.router.v1 import requirements_pb2 as requirements_pb
from stepwire.api.router.v1 import router_service_pb2 as pb
from stepwire.api.router.v1.cache_service_pb2_grpc import CacheServiceStub
from stepwire.api.router.v1.message_pb2 import Message
from stepwire.api.router.v1.router_service_pb2_grpc import RouterServiceStub
from stepwire.api.vector.v1.collection_service_pb2 import ListCollectionsRequest
from stepwire.api.vector.v1.collection_service_pb2_grpc import CollectionServiceStub
from stepwire.stack.ports import free_port
from stepwire.testing.fleet import EndpointPlan, running_fleet
from stepwire.testing.poll import eventually
from stepwire.testing.postgres import fresh_database, postgres_server
from stepwire.testing.redis import find_server, redis_server

PAIRS = Path(__file__).parent / "router_cache_pairs.yaml"
SAME = "same"
THRESHOLDS = (0.8, 0.85, 0.9, 0.95)
CALLS = 200
START_SECONDS = 120.0
EXACT = requirements_pb.CACHE_MODE_EXACT
SEMANTIC = requirements_pb.CACHE_MODE_SEMANTIC
OFF = requirements_pb.CACHE_MODE_OFF

Lists = Mapping[str, Sequence[Sequence[str]]]


@dataclass(frozen=True, slots=True)
class Judged:
    """What became of one pair: its list, its half, its cosine, and what differs."""

    kind: str
    held_out: bool
    cosine: float
    difference: str


@dataclass(frozen=True, slots=True)
class Mesh:
    """Stubs of what runs."""

    router: Any
    recorded: Any
    redis: Any
    redis_cache: Any
    cache: Any
    vectors: Any
    models: Any


async def measure_cache(*, runs: int) -> dict[str, Any]:
    """Returns shares of hits, and times, medians of `runs`."""
    lists: Lists = yaml.safe_load(PAIRS.read_text("utf-8"))
    least = RouterSettings().cache_similarity
    found: dict[str, list[float]] = {}
    async with _mesh() as mesh:
        judged = await _judge(mesh, lists)
        result = await _ask(mesh, lists, judged, least)
        for _ in range(runs):
            for name, value in (await _times(mesh)).items():
                found.setdefault(name, []).append(value)
    result |= {name: round(statistics.median(values), 3) for name, values in found.items()}
    spread = {name: [round(min(each), 3), round(max(each), 3)] for name, each in found.items()}
    shares = [_shares(judged, least=each) for each in THRESHOLDS]
    return {
        **result,
        "at_thresholds": shares,
        "conditions": _conditions(lists, runs),
        "spread": spread,
    }


async def _judge(mesh: Mesh, lists: Lists) -> list[Judged]:
    judged = []
    for kind, pairs in lists.items():
        texts = [text for pair in pairs for text in pair]
        response = await mesh.models.Embed(model_pb.EmbedRequest(texts=texts))
        vectors = np.frombuffer(response.vectors, "<f4").reshape(len(pairs), 2, -1)
        for number, (pair, (one, other)) in enumerate(zip(pairs, vectors, strict=True)):
            told = difference(*pair)
            judged.append(Judged(kind, bool(number % 2), float(one @ other), told))
    return judged


def _shares(judged: Sequence[Judged], *, least: float) -> dict[str, Any]:
    """Returns the shares that get the kept answer, of all pairs and of those put aside."""
    shares: dict[str, Any] = {"similarity": least}
    for suffix, some in (("", judged), ("_held_out", [each for each in judged if each.held_out])):
        for name, group in (
            ("hits", [each for each in some if each.kind == SAME]),
            ("false_hits", [each for each in some if each.kind != SAME]),
        ):
            near = [each for each in group if each.cosine >= least]
            passed = [each for each in near if not each.difference]
            shares[f"{name}{suffix}"] = round(len(passed) / len(group), 4)
            shares[f"{name}_unguarded{suffix}"] = round(len(near) / len(group), 4)
    return shares


async def _ask(mesh: Mesh, lists: Lists, judged: Sequence[Judged], least: float) -> dict[str, Any]:
    """Asks every pair through the router; returns the shares that it gave again."""
    pairs = [pair for of_kind in lists.values() for pair in of_kind]
    for number, (kept, _) in enumerate(pairs):
        answer = await mesh.router.Generate(_request(kept, SEMANTIC, scope=str(number)))
        assert not answer.HasField("cache_hit"), kept
    await eventually(lambda: _all_written(mesh, len(pairs)), START_SECONDS)
    hits: list[bool] = []
    for number, (_, asked) in enumerate(pairs):
        answer = await mesh.router.Generate(_request(asked, SEMANTIC, scope=str(number)))
        hits.append(answer.HasField("cache_hit"))
    wanted = [each.cosine >= least and not each.difference for each in judged]
    # A cosine at the very edge may be rounded either way.
    unsure = [abs(each.cosine - least) < 1e-4 for each in judged]
    assert all(a == b or c for a, b, c in zip(hits, wanted, unsure, strict=True)), "not as judged"
    stats = await _stats(mesh.cache)
    assert stats.counts.semantic_hits == sum(hits)
    assert stats.counts.errors == 0, stats.semantic_error
    same = [hit for hit, each in zip(hits, judged, strict=True) if each.kind == SAME]
    others = [hit for hit, each in zip(hits, judged, strict=True) if each.kind != SAME]
    by_kind = {
        kind: round(
            sum(h for h, each in zip(hits, judged, strict=True) if each.kind == kind)
            / len(of_kind),
            4,
        )
        for kind, of_kind in lists.items()
    }
    return {
        "hits": round(sum(same) / len(same), 4),
        "false_hits": round(sum(others) / len(others), 4),
        "refused_by_guard": stats.counts.refused,
        "hits_by_kind": by_kind,
    }


async def _all_written(mesh: Mesh, count: int) -> bool:
    listed = await mesh.vectors.ListCollections(ListCollectionsRequest())
    return [each.point_count for each in listed.collections] == [count]


async def _times(mesh: Mesh) -> dict[str, float]:
    """Returns what calls take one after the other, in milliseconds."""
    run = str(time.monotonic_ns())

    def new(mode: int, text: str = "How much did the river rise?") -> Iterator[pb.GenerateRequest]:
        for number in range(CALLS):
            yield _request(f"{text} {number}", mode, scope=run)

    same = [_request("How much did the river rise?", EXACT, scope=run)] * CALLS
    await mesh.router.Generate(same[0])
    await eventually(lambda: _in_redis(mesh, same[0]), START_SECONDS)
    near = "In June, how high did the river rise?"
    there = [_request(near, SEMANTIC, scope=await _near(mesh, near, run))] * CALLS
    figures: dict[str, float] = {}
    for name, stub, requests, kind in (
        ("off", mesh.router, new(OFF), 0),
        ("exact_hit", mesh.router, same, cache_pb2.CACHE_HIT_KIND_EXACT),
        ("record_hit", mesh.recorded, same, cache_pb2.CACHE_HIT_KIND_EXACT),
        ("redis_hit", mesh.redis, same, cache_pb2.CACHE_HIT_KIND_EXACT),
        ("semantic_hit", mesh.router, there, cache_pb2.CACHE_HIT_KIND_SEMANTIC),
        ("exact_miss", mesh.router, new(EXACT, "Who was hurt?"), 0),
        ("semantic_miss", mesh.router, new(SEMANTIC, "Where was it dry?"), 0),
    ):
        took = []
        for request in requests:
            started = time.perf_counter()
            answer = await stub.Generate(request)
            took.append(1000 * (time.perf_counter() - started))
            assert answer.cache_hit.kind == kind, (name, answer)
        took.sort()
        figures[f"{name}_ms_p50"] = took[len(took) // 2]
        figures[f"{name}_ms_p99"] = took[int(len(took) * 0.99)]
    # Not one of them had to go on to Postgres.
    assert not (await _stats(mesh.redis_cache)).counts.errors
    return figures


async def _in_redis(mesh: Mesh, request: pb.GenerateRequest) -> bool:
    """Returns whether a request got its answer from Redis."""
    before = await _stats(mesh.redis_cache)
    await mesh.redis.Generate(request)
    after = await _stats(mesh.redis_cache)
    return after.counts.redis_finds > before.counts.redis_finds


async def _stats(cache: Any) -> cache_pb2.CacheStats:
    return (await cache.GetCacheStats(cache_service_pb.GetCacheStatsRequest())).stats


async def _near(mesh: Mesh, near: str, run: str) -> str:
    """Returns a scope in which `near` gets the answer to another question."""
    for attempt in range(20):
        scope = f"{run}-{attempt}"
        kept = _request("How high did the river rise in June?", SEMANTIC, scope=scope)
        await mesh.router.Generate(kept)
        # It is found once it is written; whoever asks before gets an answer of its own.
        await asyncio.sleep(0.5)
        answer = await mesh.router.Generate(_request(near, SEMANTIC, scope=scope))
        if answer.cache_hit.kind == cache_pb2.CACHE_HIT_KIND_SEMANTIC:
            return scope
    raise AssertionError("no answer is found by its meaning")


def _request(text: str, mode: int, *, scope: str) -> pb.GenerateRequest:
    control = requirements_pb.CacheControl(mode=mode, scope=scope)  # type: ignore[arg-type]
    return pb.GenerateRequest(messages=[Message(content=text)], cache=control, max_output_tokens=16)


@asynccontextmanager
async def _mesh() -> AsyncIterator[Mesh]:
    program = find_server()
    assert program is not None, "no Redis is installed (Debian: apt-get install valkey-server)"
    with (
        tempfile.TemporaryDirectory(prefix="stepwire-bench-") as folder,
        redis_server(program) as redis,
        postgres_server() as server,
        fresh_database(server) as database,
    ):
        async with AsyncExitStack() as stack:
            fleet = await stack.enter_async_context(running_fleet(EndpointPlan(name="provider")))
            catalogue = Path(folder) / "catalogue.yaml"
            catalogue.write_text(
                yaml.safe_dump({"models": [only_model(fleet["provider"].base_url)]})
            )

            async def serve(name: str, **settings: str) -> tuple[str, grpc.aio.Channel]:
                opened = _service(Path(folder), name, settings)
                return await stack.enter_async_context(opened)

            model, models = await serve("model", CACHE_DIR=folder)
            given = {"POSTGRES_URL": database, "MODEL_TARGET": model}
            vector, vectors = await serve("vector", **given)
            given |= {"VECTOR_TARGET": vector, "CATALOGUE_PATH": str(catalogue)}
            given |= {"CACHE_DEADLINE_SECONDS": "5", "HTTP_PORT": "0"}
            _, router = await serve("router", **given)
            given |= {"CACHE_MEMORY_BYTES": "0"}
            _, recorded = await serve("router", **given)
            given |= {"CACHE_REDIS_URL": redis.url, "CACHE_REDIS_DEADLINE_SECONDS": "5"}
            _, near = await serve("router", **given)
            yield Mesh(
                RouterServiceStub(router),
                RouterServiceStub(recorded),
                RouterServiceStub(near),
                CacheServiceStub(near),
                CacheServiceStub(router),
                CollectionServiceStub(vectors),
                ModelServiceStub(models),
            )


@asynccontextmanager
async def _service(
    folder: Path, name: str, settings: Mapping[str, str]
) -> AsyncIterator[tuple[str, grpc.aio.Channel]]:
    """Runs a service as a process; gives its address and a channel to it."""
    port = free_port()
    own = {"PORT": str(port), "METRICS_PORT": "0", **settings}
    environment = {f"STEPWIRE_{name.upper()}_{key}": value for key, value in own.items()}
    with (folder / f"{name}-{port}.log").open("w") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", f"{name}_svc"), env={**os.environ, **environment}, stderr=log
        )
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            await _started(lambda: ready(channel), process)
            yield f"127.0.0.1:{port}", channel
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def _started(
    is_ready: Callable[[], Awaitable[Any]], process: asyncio.subprocess.Process
) -> None:
    async with asyncio.timeout(START_SECONDS):
        await is_ready()
    assert process.returncode is None, "the process has ended"


def only_model(base_url: str) -> dict[str, Any]:
    """The one model of a catalogue, which a simulated provider has."""
    return {
        "name": "small",
        "provider": {"kind": "openai", "base_url": base_url, "model": "small"},
        "context_window": 32_000,
        "max_output_tokens": 4_096,
        "quality": 0.8,
        "prices": [{"input_usd_per_million_tokens": 1, "output_usd_per_million_tokens": 4}],
    }


def _conditions(lists: Lists, runs: int) -> dict[str, Any]:
    return {
        "cores": os.cpu_count(),
        "load_at_end": round(os.getloadavg()[0], 2),
        "pairs": {kind: len(pairs) for kind, pairs in lists.items()},
        "held_out": "every second pair of each list",
        "embedding": "all-minilm-l6-v2, float32",
        "provider": "simulated, answers at once, on the same cores",
        "calls": f"{CALLS} of each kind, one after the other",
        "runs": runs,
        "versions": {"python": sys.version.split()[0], "grpcio": version("grpcio")},
    }
