"""What serves or runs the sentence encoder in bench.model: a bare loop, ours, and peers."""

import os
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Awaitable, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import grpc.aio
import numpy as np
import onnxruntime as ort
import psutil

from bench.peer import PEERS, peer_python
from model_svc.rows import padded
from model_svc.tokenize import TextTokenizer
from stepwire.api.inference import open_inference_pb2 as oip
from stepwire.api.inference.open_inference_pb2_grpc import GRPCInferenceServiceStub
from stepwire.api.model.v1 import model_service_pb2 as pb
from stepwire.api.model.v1.model_service_pb2_grpc import ModelServiceStub
from stepwire.stack.ports import free_port

MAX_TOKENS = 256
START_SECONDS = 60.0

Embed = Callable[[list[str]], Awaitable[Any]]


class Raw:
    """The tokenizer and ONNX Runtime with nothing between, in either split of the cores."""

    def __init__(self, model: Path, tokenizer: Path) -> None:
        self._tokenizer = TextTokenizer(tokenizer, MAX_TOKENS)
        cores = len(os.sched_getaffinity(0))
        self._sessions = {
            f"1x{cores}": [self._session(model, 0)],
            f"{cores}x1": [self._session(model, 1) for _ in range(cores)],
        }

    @staticmethod
    def _session(model: Path, threads: int) -> Any:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    @property
    def splits(self) -> list[str]:
        return list(self._sessions)

    def embed(self, texts: list[str], session: Any = None) -> Any:
        ids, mask = padded(self._tokenizer.encode(texts).rows)
        whole = session or next(iter(self._sessions.values()))[0]
        return whole.run(["sentence_embedding"], {"input_ids": ids, "attention_mask": mask})[0]

    def texts_per_s(self, texts: list[str], batch: int, split: str, seconds: float) -> float:
        end, lock, count = time.perf_counter() + seconds, threading.Lock(), 0

        def loop(session: Any) -> None:
            nonlocal count
            while time.perf_counter() < end:
                with lock:
                    first, count = count % (len(texts) - batch), count + batch
                self.embed(texts[first : first + batch], session)

        start = time.perf_counter()
        sessions = self._sessions[split]
        with ThreadPoolExecutor(len(sessions)) as threads:
            list(threads.map(loop, sessions))
        return count / (time.perf_counter() - start)


class Service:
    """Our service, called over gRPC without the gateway."""

    def __init__(self, process: psutil.Process, channel: grpc.aio.Channel, metrics: str) -> None:
        self._process = process
        self._stub = ModelServiceStub(channel)
        self._metrics = metrics

    async def embed(self, texts: list[str], model: str = "") -> Any:
        response = await self._stub.Embed(pb.EmbedRequest(model=model, texts=texts))
        return np.frombuffer(response.vectors, "<f4").reshape(len(texts), response.dimension)

    def tokens(self) -> tuple[float, float]:
        """Tokens run so far: real ones, and with their padding."""
        return (
            self._metric("stepwire_model_batch_tokens_sum"),
            self._metric("stepwire_model_batch_padded_tokens_total"),
        )

    def texts(self) -> float:
        """Texts run so far."""
        return self._metric("stepwire_model_batch_items_sum")

    def _metric(self, name: str) -> float:
        with urllib.request.urlopen(self._metrics) as response:
            lines = response.read().decode().splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name))

    def memory_mb(self) -> float:
        return float(self._process.memory_info().rss) / 2**20


class Peer:
    """A peer's server, called by the Open Inference Protocol with one text per call."""

    def __init__(self, channel: grpc.aio.Channel, shape: list[int]) -> None:
        self._stub = GRPCInferenceServiceStub(channel)
        self._shape = shape

    async def embed(self, texts: list[str]) -> Any:
        (text,) = texts
        encoded = text.encode()
        response = await self._stub.ModelInfer(
            oip.ModelInferRequest(
                model_name="embed",
                inputs=[
                    oip.ModelInferRequest.InferInputTensor(
                        name="text", datatype="BYTES", shape=self._shape
                    )
                ],
                raw_input_contents=[len(encoded).to_bytes(4, "little") + encoded],
            )
        )
        return np.frombuffer(response.raw_output_contents[0], "<f4")[np.newaxis]


@contextmanager
def service_process(
    cache: Path, settings: Mapping[str, str] = MappingProxyType({})
) -> Iterator[tuple[psutil.Process, int, int]]:
    """Our service with the int8 variant beside the model itself, unless the settings differ."""
    port, metrics_port = free_port(), free_port()
    environment = {
        **os.environ,
        "STEPWIRE_MODEL_PORT": str(port),
        "STEPWIRE_MODEL_METRICS_PORT": str(metrics_port),
        "STEPWIRE_MODEL_CACHE_DIR": str(cache),
        "STEPWIRE_MODEL_EMBEDDING_VARIANTS": '["int8"]',
        **{f"STEPWIRE_MODEL_{name}": value for name, value in settings.items()},
    }
    process = subprocess.Popen([sys.executable, "-m", "model_svc"], env=environment)
    try:
        yield psutil.Process(process.pid), port, metrics_port
    finally:
        process.terminate()
        process.wait()


@contextmanager
def peer_process(name: str, model: Path, tokenizer: Path) -> Iterator[int]:
    """A peer's server in an environment of its own, made now if it is new."""
    # Debian's own interpreter: Triton's stub is linked to it.
    python = peer_python(name, interpreter="/usr/bin/python3")
    port = free_port()
    process = subprocess.Popen(
        [str(python), str(PEERS / name / "run.py"), str(model), str(tokenizer), str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield port
    finally:
        for child in psutil.Process(process.pid).children(recursive=True):
            child.terminate()
        process.terminate()
        process.wait()
