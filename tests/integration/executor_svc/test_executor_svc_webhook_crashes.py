"""Webhooks when processes die, and when there are several: each event one delivery."""

import asyncio
import json
from contextlib import AsyncExitStack
from typing import Any

import pytest

from stepwire.api.executor.v1.executor_service_pb2_grpc import ExecutorServiceStub
from stepwire.rpc import open_channel
from stepwire.testing.poll import eventually
from tests.integration.executor_svc.executor_functions import noted
from tests.integration.executor_svc.executor_mesh import (
    FUNCTIONS,
    NO_RETRY,
    WAIT_SECONDS,
    Client,
    Mesh,
    graph,
    held_steps,
    python,
    running_mesh,
    transform,
)
from tests.integration.executor_svc.executor_process import executor_process
from tests.integration.executor_svc.subscription_client import subscription_client
from tests.integration.executor_svc.subscription_fixtures import receiver, subscriptions

__all__ = ["receiver", "subscriptions"]

ONE = graph(transform("one", "1"))
FAILING = graph(python("bad", "fail_permanently", retry=NO_RETRY))


@pytest.fixture
def shared(database_url: str, rabbitmq_url: str, mq_namespace: str) -> dict[str, str]:
    """The settings that all processes of a mesh share."""
    return {
        "postgres_url": database_url,
        "rabbitmq_url": rabbitmq_url,
        "mq_namespace": mq_namespace,
    }


@pytest.mark.parametrize("place", ["relay.taken", "relay.done"])
async def test_a_relay_that_is_killed_at_work(shared, receiver, tmp_path, place):
    """Killed before it has created a delivery, and when it has, but not yet said so."""
    count_deliveries = "SELECT 1 FROM executor.tasks WHERE labels ? 'stepwire.subscription'"
    async with AsyncExitStack() as stack:
        dying = stack.enter_context(
            executor_process(tmp_path / "log", failpoints=f"{place}=kill", **shared)
        )
        channel = await stack.enter_async_context(open_channel(dying.address))
        client = Client(ExecutorServiceStub(channel))
        subscriptions = await stack.enter_async_context(subscription_client(dying.address, client))

        async def created() -> Any:
            return await subscriptions.webhook("hook", receiver.url, request_id="r")

        secret = (await eventually_up(created)).secret
        settings = {**shared, "republish_after_seconds": 0.5, "step_modules": (FUNCTIONS,)}
        mesh = Mesh(client, *shared.values(), None, settings)
        await stack.enter_async_context(mesh.worker())
        task_id = await client.create(ONE)
        await eventually(lambda: dying._process.poll() is not None, WAIT_SECONDS)
        # The database learns of the death of its client in its own time.
        left = await mesh.fetch("SELECT kind FROM executor.notices")
        assert [row["kind"] for row in left] == ["subscription"]
        deliveries = await mesh.fetch(count_deliveries)
        assert len(deliveries) == {"relay.taken": 0, "relay.done": 1}[place]

        await stack.enter_async_context(running_mesh(*shared.values()))
        await eventually(lambda: _no_notices(mesh, "default"), WAIT_SECONDS)
        (request,) = await receiver.got()
        assert request.verified(secret).event["data"]["task_id"] == task_id
        assert len(await mesh.fetch(count_deliveries)) == 1


async def eventually_up(call: Any) -> Any:
    """Make a call again and again until the server is there."""

    async def answered() -> Any:
        try:
            return await call()
        except Exception as error:
            raise AssertionError(str(error)) from error

    return await eventually(answered, WAIT_SECONDS)


async def test_nobody_waits_for_the_relays_timer(shared, receiver, tmp_path):
    """What ends in a worker, and what ends by a call."""
    async with (
        running_mesh(*shared.values(), relay_seconds=3600) as mesh,
        mesh.worker(),
        subscription_client(mesh.server.address, mesh.client) as subscriptions,
    ):
        await subscriptions.webhook("hook", receiver.url)
        await subscriptions.tasks.run(ONE)
        await receiver.got(1)
        await subscriptions.tasks.run(FAILING, {})
        await receiver.got(2)
        what, value, path, _ = held_steps(tmp_path, 1)
        task_id = await subscriptions.tasks.create(what, value)
        await eventually(lambda: len(noted(path)) == 2, WAIT_SECONDS)
        await subscriptions.tasks.cancel(task_id)
        await receiver.got(3)


async def test_a_notice_that_is_carried_out_twice_makes_one_delivery(
    subscriptions, shared_mesh, receiver
):
    """What a relay leaves that died between the two: the delivery, and the notice still."""
    created = await subscriptions.webhook("hook", receiver.url)
    task = await subscriptions.tasks.run(ONE)
    await receiver.got()
    payload = json.dumps({"state": "SUCCEEDED", "cursor": task.last_cursor})
    again = (
        "INSERT INTO executor.notices (kind, tenant_id, task_id, payload)"
        " SELECT 'subscription', $1, $2::text::uuid, $3::text::jsonb FROM generate_series(1, 3)"
    )
    await shared_mesh.fetch(again, subscriptions.tasks.tenant, task.task_id, payload)
    await eventually(lambda: _no_notices(shared_mesh, subscriptions.tasks.tenant), WAIT_SECONDS)
    # Also if the subscription was changed meanwhile.
    await subscriptions.update("hook", "include_output", include_output=True)
    await shared_mesh.fetch(again, subscriptions.tasks.tenant, task.task_id, payload)
    await eventually(lambda: _no_notices(shared_mesh, subscriptions.tasks.tenant), WAIT_SECONDS)
    assert len(await subscriptions.started(created.subscription)) == 1
    await receiver.got(1)


async def _no_notices(mesh, tenant):
    return not await mesh.fetch("SELECT 1 FROM executor.notices WHERE tenant_id = $1", tenant)


async def test_two_executors_deliver_an_event_once(shared, receiver):
    async with (
        running_mesh(*shared.values()) as one,
        running_mesh(*shared.values()) as other,
        one.worker(),
        subscription_client(one.server.address, one.client) as subscriptions,
    ):
        created = await subscriptions.webhook("hook", receiver.url)

        async def other_knows() -> bool:
            await other.client.run(ONE)
            return len(receiver.requests) > 0

        # It is effective in the other executor within two seconds.
        await eventually(other_knows)
        before = len(receiver.requests)
        ids = [await mesh.client.create(ONE) for mesh in (one, other) for _ in range(25)]
        await asyncio.gather(*(one.client.wait(task_id) for task_id in ids))
        await eventually(lambda: len(receiver.requests) >= before + 50, WAIT_SECONDS)
        await eventually(lambda: _no_notices(one, "default"), WAIT_SECONDS)
        got = [request.event["data"]["task_id"] for request in receiver.requests]
        assert len(got) == len(set(got))
        assert set(ids) <= set(got)
        tasks = await subscriptions.started(created.subscription)
        assert len(tasks) == len(got)
