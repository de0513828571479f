"""Real routers, one killed and one stopped, ask no more of a model at once than it may be asked."""

import asyncio
import signal
from collections import Counter
from contextlib import AsyncExitStack, suppress
from functools import partial
from pathlib import Path

import asyncpg
import grpc.aio
import pytest
import yaml

from stepwire.api.router.v1.router_service_pb2_grpc import RouterServiceStub
from stepwire.testing.fleet import EndpointPlan, SimulatedEndpoint, Turn, running_fleet
from stepwire.testing.fleet.latency import Uniform
from stepwire.testing.poll import eventually
from tests.integration.router_svc.router_process import router_process
from tests.integration.router_svc.running_router import ask, chat_model

LIMIT = 3
CALLERS = 6
LEASE_SECONDS, TIMEOUT_SECONDS = 1, 5
# Longer than a lease, so that a slot that is given away too early is seen at the provider,
# and shorter than a try may take.
LONG = Turn(times=LIMIT, latency_seconds=3.5)
WAIT_SECONDS = 60.0


def asked_last(provider: SimulatedEndpoint, *, after: int) -> str:
    """Returns who asked last; empty while nobody has asked since so many had."""
    if provider.account.totals.requests <= after:
        return ""
    return str(provider.seen[-1].body["messages"][-1]["content"])


async def is_caught(provider: SimulatedEndpoint, name: str) -> None:
    """Waits until an instance has begun a call that takes long."""
    while True:
        asked = partial(asked_last, provider, after=provider.account.totals.requests)
        provider.then(LONG)
        if await eventually(asked, WAIT_SECONDS) == name:
            return


@pytest.mark.timeout(180)
async def test_no_more_calls_at_once_than_the_limit_whoever_dies(
    tmp_path: Path, database_url: str
) -> None:
    plan = EndpointPlan(name="east", latency_seconds=Uniform(low=0.01, high=0.1))
    answered: Counter[str] = Counter()

    async def call(name: str, channel: grpc.aio.Channel) -> None:
        stub = RouterServiceStub(channel)
        while True:
            with suppress(grpc.aio.AioRpcError):
                await stub.Generate(ask(name), wait_for_ready=True)
                answered[name] += 1

    async with AsyncExitStack() as stack:
        provider = (await stack.enter_async_context(running_fleet(plan)))["east"]
        limits = {"limits": {"concurrency": LIMIT}, "timeout_seconds": TIMEOUT_SECONDS}
        model = chat_model("only", provider.base_url, **limits)
        model["provider"]["model"] = "small"
        catalogue = tmp_path / "models.yaml"
        catalogue.write_text(yaml.safe_dump({"models": [model]}))
        settings = {"postgres_url": database_url, "slot_lease_seconds": LEASE_SECONDS}
        names = ["first", "second", "third"]
        running = [router_process(tmp_path / name, catalogue, **settings) for name in names]
        first, second, third = [await stack.enter_async_context(each) for each in running]
        calling = [
            asyncio.create_task(call(name, each.channel))
            for name, each in zip(names, [first, second, third], strict=True)
            for _ in range(CALLERS)
        ]
        stack.callback(lambda: [task.cancel() for task in calling])
        connection = await asyncpg.connect(database_url)
        stack.push_async_callback(connection.close)
        # Nobody starves, though each could use all there is.
        await eventually(lambda: len(answered) == len(names), WAIT_SECONDS)
        await is_caught(provider, "second")
        second.signal(signal.SIGSTOP)
        await is_caught(provider, "first")
        first.signal(signal.SIGKILL)

        async def held() -> list[int]:
            rows = await connection.fetch("SELECT held FROM router.slots WHERE held > 0")
            return [row["held"] for row in rows]

        async def has_all() -> bool:
            return await held() == [LIMIT]

        # What the dead held comes back, and what the stopped one held.
        await eventually(has_all, WAIT_SECONDS)
        before = answered["second"]
        second.signal(signal.SIGCONT)
        await eventually(lambda: answered["second"] > before + CALLERS, WAIT_SECONDS)
        # Who is told to stop leaves what it held at once.
        third.signal(signal.SIGTERM)
        await eventually(has_all, WAIT_SECONDS)
    totals = provider.account.totals
    assert totals.most_in_flight == LIMIT
