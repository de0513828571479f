"""Watching and waiting, with and without the event bus."""

import asyncio

import pika
import pytest

from stepwire.api.executor.v1 import executor_service_pb2 as pb
from stepwire.call import call_context
from stepwire.errors import Reason
from tests.integration.executor_svc.executor_functions import noted
from tests.integration.executor_svc.executor_mesh import (
    WAIT_SECONDS,
    chain,
    graph,
    python,
    refused,
    running_mesh,
    state_of,
    transform,
    type_of,
)


@pytest.mark.parametrize("after", [0, 1, 3])
async def test_a_watcher_sees_every_event_behind_its_cursor(client, after):
    task = await client.run(chain(3), 1)
    events = await client.events(task.task_id, after=after)
    assert [event.cursor for event in events] == list(range(after + 1, task.last_cursor + 1))
    assert type_of(events[-1]) == "TASK_SUCCEEDED"


async def test_a_watch_behind_the_end_is_empty(client):
    task = await client.run(chain(1), 1)
    assert await client.events(task.task_id, after=task.last_cursor) == []
    assert await client.events(task.task_id, after=task.last_cursor + 100) == []


async def test_a_watch_resumes_while_the_task_runs(client, tmp_path):
    """A watcher that is cut off again and again sees everything once."""
    path, go = tmp_path / "notes", tmp_path / "go"
    task_id = await client.create(
        graph(
            transform("a", "1"),
            python("slow", "await_file", depends_on=["a"], input="input"),
            transform("each", "item", for_each="[1, 2, 3]", depends_on=["slow"]),
        ),
        {"path": str(path), "awaits": str(go)},
    )
    seen = []
    while not seen or type_of(seen[-1]) != "TASK_SUCCEEDED":
        request = pb.WatchTaskRequest(task_id=task_id, after_cursor=seen[-1].cursor if seen else 0)
        with call_context(tenant_id=client.tenant):
            watch = client.stub.WatchTask(request, timeout=WAIT_SECONDS)
        seen.append((await watch.read()).event)
        watch.cancel()
        if type_of(seen[-1]) == "STEP_STARTED" and seen[-1].step_id == "slow":
            go.touch()
    assert [event.cursor for event in seen] == list(range(1, len(seen) + 1))
    assert [(type_of(e), e.step_id) for e in seen] == [
        (type_of(e), e.step_id) for e in await client.events(task_id)
    ]


async def test_many_watchers_of_a_running_task_see_the_same(client):
    task_id = await client.create(
        graph(
            transform("each", "item", for_each="input"),
            transform("after", "size(value)", depends_on=["each"]),
        ),
        list(range(100)),
    )
    watched = await asyncio.gather(*(client.events(task_id) for _ in range(10)))
    assert all(events == watched[0] for events in watched)
    assert [event.cursor for event in watched[0]] == list(range(1, len(watched[0]) + 1))
    assert len(watched[0]) == 2 + 2 + 100 * 2 + 1 + 2 + 1


async def test_gaps_of_the_bus_are_filled_from_the_record(
    database_url, rabbitmq_url, mq_namespace, tmp_path
):
    """The executor's queue is taken off the exchange: no event reaches it any more."""
    path, go = tmp_path / "notes", tmp_path / "go"
    changes = {"recheck_seconds": 0.2}
    async with (
        running_mesh(database_url, rabbitmq_url, mq_namespace, **changes) as mesh,
        mesh.worker(),
    ):
        await asyncio.to_thread(_replace_exchange, rabbitmq_url, mesh.topology.events)
        task_id = await mesh.client.create(
            graph(
                python("slow", "await_file"),
                transform("after", "1", depends_on=["slow"]),
            ),
            {"path": str(path), "awaits": str(go)},
        )
        watching = asyncio.create_task(mesh.client.events(task_id))
        waiting = asyncio.create_task(mesh.client.wait(task_id))
        await mesh.client.until(task_id, "slow", "RUNNING")
        go.touch()
        events = await watching
        assert [event.cursor for event in events] == list(range(1, len(events) + 1))
        assert type_of(events[-1]) == "TASK_SUCCEEDED"
        assert state_of(await waiting) == "SUCCEEDED"
    assert noted(path) == ["slow 1"]


def _replace_exchange(url, exchange):
    """Make the exchange anew, without the bindings that it had."""
    connection = pika.BlockingConnection(pika.URLParameters(url))
    channel = connection.channel()
    channel.exchange_delete(exchange)
    channel.exchange_declare(exchange, "topic", durable=True)
    connection.close()


async def test_a_watch_ends_when_the_executor_stops(mesh):
    task_id = await mesh.client.create(chain(1), 1)
    watch = mesh.client.stub.WatchTask(pb.WatchTaskRequest(task_id=task_id))
    assert type_of((await watch.read()).event) == "TASK_CREATED"
    async with refused() as why:
        await mesh.server.drain(grace_seconds=1)
        await watch.read()
    assert why().reason == Reason.DEPENDENCY_UNAVAILABLE
    assert why().metadata["dependency"] == "executor"
