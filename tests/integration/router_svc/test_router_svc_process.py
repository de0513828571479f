"""The router as a process: it starts, answers, and stops; or says why not."""

import asyncio
import json
import os
import signal
import sys

import grpc.aio

from stepwire.api.router.v1 import router_service_pb2 as pb
from stepwire.api.router.v1.router_service_pb2_grpc import RouterServiceStub

START_SECONDS = 60


async def start(**settings: str) -> asyncio.subprocess.Process:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("STEPWIRE_")}
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "router_svc",
        env=kept | {f"STEPWIRE_ROUTER_{name}": value for name, value in settings.items()},
        stderr=asyncio.subprocess.PIPE,
    )


async def line_with(process: asyncio.subprocess.Process, text: str) -> str:
    assert process.stderr is not None
    seen = []
    async with asyncio.timeout(START_SECONDS):
        while line := await process.stderr.readline():
            seen.append(line.decode())
            if text in seen[-1]:
                return seen[-1]
    raise AssertionError(f"{text!r} is not among the lines {seen}")


async def test_it_serves_until_it_is_told_to_stop() -> None:
    process = await start(
        PORT="0", HTTP_PORT="0", OPENAI_MODEL="m", OPENAI_BASE_URL="http://127.0.0.1:1/v1"
    )
    try:
        ready = json.loads(await line_with(process, "is ready on"))
        target = ready["message"].split()[-1]
        async with grpc.aio.insecure_channel(target) as channel:
            listed = await RouterServiceStub(channel).ListModels(pb.ListModelsRequest())
        assert [model.name for model in listed.models] == ["extractive-minilm", "openai"]
        process.send_signal(signal.SIGTERM)
        await line_with(process, "has stopped")
        assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
