import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import grpc.aio
import psutil
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from stepwire.api.inference.extensions_pb2 import RepositoryModelLoadRequest
from stepwire.api.inference.open_inference_pb2_grpc import (
    GRPCInferenceServiceAsyncStub,
    GRPCInferenceServiceStub,
)
from stepwire.api.model.v1 import model_service_pb2 as pb
from stepwire.api.model.v1.model_service_pb2_grpc import ModelServiceAsyncStub, ModelServiceStub
from stepwire.rpc import open_channel
from stepwire.stack.ports import free_port
from stepwire.testing.poll import eventually
from tests.integration.model_svc.graphs import write_scale

SERVICES = ("", "stepwire.api.model.v1.ModelService", "inference.GRPCInferenceService")
MAX_MEBIBYTES = 350


@pytest.fixture
def running(cache_dir: Path, tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    port = free_port()
    environment = {
        **os.environ,
        "STEPWIRE_MODEL_PORT": str(port),
        "STEPWIRE_MODEL_CACHE_DIR": str(cache_dir),
        "STEPWIRE_MODEL_REPOSITORY_DIR": str(tmp_path),
    }
    process = subprocess.Popen([sys.executable, "-m", "model_svc"], env=environment)
    try:
        yield process, port
    finally:
        process.kill()
        process.wait()


async def test_the_process_serves_and_stops(
    running: tuple[subprocess.Popen[bytes], int], tmp_path: Path
) -> None:
    process, port = running
    async with open_channel(f"127.0.0.1:{port}") as channel:
        health = health_pb2_grpc.HealthStub(channel)

        async def serving(service: str) -> bool:
            request = health_pb2.HealthCheckRequest(service=service)
            try:
                response = await health.Check(request)
            except grpc.aio.AioRpcError:
                return False
            return bool(response.status == health_pb2.HealthCheckResponse.SERVING)

        for service in SERVICES:
            await eventually(partial(serving, service), timeout_seconds=60)
        stub: ModelServiceAsyncStub = ModelServiceStub(channel)
        texts = [f"sentence number {number} of a longer list" for number in range(200)]
        response = await stub.Embed(pb.EmbedRequest(texts=texts))
        assert len(response.vectors) == 200 * 384 * 4
        # A model that is never through with being loaded, and nobody who waits for it.
        write_scale(tmp_path / "stuck" / "1", 2)
        os.mkfifo(tmp_path / "stuck" / "config.pbtxt")
        inference: GRPCInferenceServiceAsyncStub = GRPCInferenceServiceStub(channel)
        with pytest.raises(grpc.aio.AioRpcError):
            await inference.RepositoryModelLoad(
                RepositoryModelLoadRequest(model_name="stuck"), timeout=0.5
            )
    assert psutil.Process(process.pid).memory_info().rss < MAX_MEBIBYTES * 2**20
    process.send_signal(signal.SIGTERM)
    await eventually(lambda: process.poll() is not None, timeout_seconds=30)
    assert process.returncode == 0
