"""A whole local stack for a benchmark, and what reaches it."""

import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg

from stepwire.api.executor.v1.executor_service_pb2_grpc import ExecutorServiceStub
from stepwire.rpc import open_channel
from stepwire.stack.daemon import StackError
from stepwire.stack.detached import start_detached, stop_stack
from stepwire.stack.plan import DATABASE, StackOptions
from stepwire.stack.postgres import url_of
from stepwire.stack.secrets import stack_secrets
from stepwire.stack.state import StackState, read_state

# No worker serves this queue: what waits in it waits for good.
UNSERVED = "gpu"
SAMPLED_PERCENT = 0.1
START_ATTEMPTS = 5
SETTINGS = {
    "STEPWIRE_WORKER_STEP_MODULES": '["stepwire.sdk.library", "bench.steps"]',
    "STEPWIRE_WORKER_SLOTS": "12000",
    "STEPWIRE_WORKER_QUEUES": '["default", "llm"]',
    "STEPWIRE_GATEWAY_ACCESS_LOG": "",
    # One call in a thousand is traced, as where there are many of them.
    "STEPWIRE_GATEWAY_TRACE_SAMPLING_PERCENT": str(SAMPLED_PERCENT),
    "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
    "OTEL_TRACES_SAMPLER_ARG": str(SAMPLED_PERCENT / 100),
}


@dataclass
class Bench:
    """A running stack and what reaches it."""

    executor: Any
    record: asyncpg.Connection
    state: Callable[[], StackState]
    home: Path


def started(home: Path, workers: int) -> StackState:
    """Start a stack on ports that are free; others come and go on a machine in use."""
    for attempt in range(START_ATTEMPTS):
        offset = 2_000 + (os.getpid() + 997 * attempt) % 5_000
        options = StackOptions(home=home, port_offset=offset, workers=workers)
        try:
            return start_detached(options, on_change=lambda _: None)
        except StackError as error:
            if "needs port" not in str(error) or attempt == START_ATTEMPTS - 1:
                raise
    raise AssertionError("unreachable")


@asynccontextmanager
async def stack(workers: int) -> AsyncIterator[Bench]:
    """Run a stack until the block ends; its data is gone afterwards."""
    home = Path(tempfile.mkdtemp(prefix="stepwire-bench-"))
    os.environ.update(SETTINGS)
    try:
        state = started(home, workers)
        postgres = state.part("postgres")
        assert postgres is not None
        port = next(iter(postgres.ports.values()))
        url = url_of(port, stack_secrets(home).postgres_password, DATABASE)
        record = await asyncpg.connect(url)
        async with open_channel(state.gateway) as channel:

            def current() -> StackState:
                now = read_state(home)
                assert now is not None
                return now

            yield Bench(ExecutorServiceStub(channel), record, current, home)
        await record.close()
    finally:
        stop_stack(home)
        shutil.rmtree(home, ignore_errors=True)
