"""Messages are only hints: doubled, garbled and lost ones change nothing but time."""

import asyncio
import json

import pika
import pytest

from stepwire.mq import AmqpConnection, encode_message
from stepwire.testing.poll import eventually
from tests.integration.executor_svc.executor_functions import noted
from tests.integration.executor_svc.executor_mesh import (
    chain,
    graph,
    output_of,
    python,
    running_mesh,
    state_of,
    transform,
)


async def send(mesh, argument, *, actor=None):
    queue = mesh.topology.queue("default")
    body = encode_message(
        queue=queue, actor=actor or mesh.topology.actor("default"), argument=argument
    )
    async with AmqpConnection(mesh.rabbitmq_url, name="test") as amqp:
        await amqp.publish("", queue, body, durable=True)


async def purge(mesh):
    def work():
        connection = pika.BlockingConnection(pika.URLParameters(mesh.rabbitmq_url))
        connection.channel().queue_purge(mesh.topology.queue("default"))
        connection.close()

    await asyncio.to_thread(work)


async def test_doubled_messages_run_a_step_once(mesh, tmp_path):
    path = tmp_path / "notes"
    task_id = await mesh.client.create(graph(python("a", "note")), {"path": str(path)})
    bundle = [[task_id, "a", 1]]
    for _ in range(5):
        await send(mesh, bundle * 3)
    async with mesh.worker(), mesh.worker():
        await mesh.client.wait(task_id)
        await send(mesh, bundle)
        await mesh.client.run(chain(1), 1)
    assert noted(path) == ["a 1"]


async def test_a_message_for_another_attempt_is_passed_over(mesh, tmp_path):
    path = tmp_path / "notes"
    async with mesh.worker():
        task_id = await mesh.client.create(
            graph(
                python(
                    "a",
                    "fail",
                    retry={"initial_backoff": {"seconds": 3600}, "max_backoff": {"seconds": 3600}},
                )
            ),
            {"path": str(path)},
        )
        await mesh.client.until(task_id, "a", "WAITING")
        for attempt in (1, 2, 3):
            await send(mesh, [[task_id, "a", attempt]])
        await mesh.client.run(chain(1), 1)
    assert noted(path) == ["a 1"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
async def test_garbage_does_no_harm(mesh):
    some_id = "01890a5d-ac96-774b-bcce-b302099a8057"
    async with mesh.worker():
        for argument in (
            None,
            7,
            "text",
            {},
            [],
            [[]],
            [["not an id", "a", 1]],
            [[some_id, "a", 2**40]],
            [[some_id, "a\0", 1]],
            [[some_id, "a", "1"]],
            [[some_id, "a", 1]],
        ):
            await send(mesh, argument)
        await send(mesh, [], actor="no-such-actor")
        async with AmqpConnection(mesh.rabbitmq_url, name="test") as amqp:
            for body in (b"", b"\xff", b"{}", b"[1]", json.dumps([["x"]]).encode()):
                await amqp.publish("", mesh.topology.queue("default"), body, durable=True)
                await amqp.publish(mesh.topology.events, "progress", body, durable=False)
                await amqp.publish(mesh.topology.events, "cancelled", body, durable=False)
        tasks = await asyncio.gather(*(mesh.client.run(chain(2), n) for n in range(5)))
    assert [output_of(task) for task in tasks] == [2, 3, 4, 5, 6]


async def test_the_sweeper_repeats_a_lost_wakeup(mesh):
    task_id = await mesh.client.create(chain(3), 1)
    await purge(mesh)
    async with mesh.worker():
        task = await mesh.client.wait(task_id)
    assert state_of(task) == "SUCCEEDED"
    assert await mesh.client.history(task_id) == await mesh.client.history(task_id)
    assert task.steps[0].attempt == 1


async def test_a_worker_that_stops_sends_on_what_it_cannot_run(
    database_url, rabbitmq_url, mq_namespace, tmp_path
):
    """One slot: messages wait in the actors of a worker, and must not be lost with it."""
    path, go = tmp_path / "notes", tmp_path / "go"
    value = {"path": str(path), "awaits": str(go)}
    changes = {"republish_after_seconds": 3600}
    async with running_mesh(database_url, rabbitmq_url, mq_namespace, **changes) as mesh:
        async with mesh.worker(slots=1):
            ids = [
                await mesh.client.create(graph(python("a", "await_file")), value) for _ in range(6)
            ]
            await eventually(lambda: len(noted(path)) == 1)
        go.touch()
        async with mesh.worker():
            tasks = [await mesh.client.wait(task_id) for task_id in ids]
    assert {state_of(task) for task in tasks} == {"SUCCEEDED"}


async def test_a_queue_is_served_by_the_workers_that_name_it(mesh):
    task_id = await mesh.client.create(graph(transform("a", "1", queue="gpu")))
    async with mesh.worker(queues=("default",)):
        await mesh.client.run(chain(1), 1)
        assert state_of(await mesh.client.step(task_id, "a")) == "READY"
        async with mesh.worker(queues=("gpu",)):
            assert state_of(await mesh.client.wait(task_id)) == "SUCCEEDED"


async def test_a_chain_over_two_queues(mesh):
    what = graph(
        transform("a", "1"),
        transform("b", "value + 1", depends_on=["a"], queue="gpu"),
        transform("c", "value + 1", depends_on=["b"]),
    )
    async with mesh.worker(queues=("default",)), mesh.worker(queues=("gpu",)):
        assert output_of(await mesh.client.run(what)) == 3
