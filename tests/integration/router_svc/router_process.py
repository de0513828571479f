"""A router as a process of its own, to be killed or stopped."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc.aio

from stepwire.testing.poll import eventually
from tests.integration.router_svc.running_router import KEY, NO_MODEL_SERVICE

ROOT = Path(__file__).parents[3]
START_SECONDS = 60


@dataclass
class RouterProcess:
    """A running `python -m router_svc`, and a channel to it."""

    process: "subprocess.Popen[bytes]"
    channel: grpc.aio.Channel

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)


@asynccontextmanager
async def router_process(
    log: Path, catalogue: Path, **settings: object
) -> AsyncIterator[RouterProcess]:
    """Starts a router; it is killed at the end if it is still there."""
    fields = {
        "port": 0,
        "http_port": 0,
        "catalogue_path": catalogue,
        "model_target": NO_MODEL_SERVICE,
        "embedding_deadline_seconds": 0,
        **settings,
    }
    kept = {key: value for key, value in os.environ.items() if not key.startswith("STEPWIRE_")}
    wanted = {f"STEPWIRE_ROUTER_{name.upper()}": str(value) for name, value in fields.items()}
    with log.open("wb") as output:
        process = await asyncio.to_thread(
            subprocess.Popen,
            [sys.executable, "-m", "router_svc"],
            cwd=ROOT,
            env={**kept, "PYTHONPATH": str(ROOT), "CHAT_KEY": KEY, **wanted},
            stderr=output,
        )
    try:
        ready = await eventually(lambda: _line(log, "is ready on"), START_SECONDS)
        target = json.loads(ready)["message"].split()[-1]
        async with grpc.aio.insecure_channel(target) as channel:
            yield RouterProcess(process, channel)
    finally:
        process.kill()
        process.wait()


def _line(log: Path, text: str) -> str:
    """Returns the first whole line with a text; empty when there is none."""
    whole = log.read_text("utf-8").rpartition("\n")[0]
    return next((line for line in whole.splitlines() if text in line), "")
