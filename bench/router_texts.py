"""Meanings of texts, by model_svc as a process of its own."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Sequence

import grpc.aio
import numpy as np
from grpc_health.v1 import health_pb2, health_pb2_grpc

from stepwire.api.model.v1 import model_service_pb2 as pb
from stepwire.api.model.v1.model_service_pb2_grpc import ModelServiceStub
from stepwire.stack.ports import free_port

TEXTS_PER_CALL = 32
START_SECONDS = 60


async def embedded(texts: Sequence[str]) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    """Returns one row per text, of length 1; a text is cut to the model's input."""
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "model_svc"),
        env={**os.environ, "STEPWIRE_MODEL_PORT": str(port), "STEPWIRE_LOG_LEVEL": "WARNING"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            async with asyncio.timeout(START_SECONDS):
                await _serving(channel)
            return await _embedded(ModelServiceStub(channel), texts)
    finally:
        process.terminate()
        await process.wait()


async def _serving(channel: grpc.aio.Channel) -> None:
    health = health_pb2_grpc.HealthStub(channel)
    while True:
        answer = await health.Check(health_pb2.HealthCheckRequest(), wait_for_ready=True)
        if answer.status == health_pb2.HealthCheckResponse.SERVING:
            return
        await asyncio.sleep(0.1)


async def _embedded(
    stub: ModelServiceStub, texts: Sequence[str]
) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    # Texts of one length share a batch without padding.
    order = sorted(range(len(texts)), key=lambda place: len(texts[place]))
    rows: dict[int, np.ndarray[tuple[int], np.dtype[np.float32]]] = {}
    for start in range(0, len(order), TEXTS_PER_CALL):
        places = order[start : start + TEXTS_PER_CALL]
        response = await stub.Embed(pb.EmbedRequest(texts=[texts[place] for place in places]))
        vectors = np.frombuffer(response.vectors, dtype="<f4").reshape(len(places), -1)
        rows.update(zip(places, vectors, strict=True))
    return np.stack([rows[place] for place in range(len(texts))])
