"""What only the sweeper finds, over real servers."""

import asyncio

import pika

from executor_svc.waking.window import FIRST_STEPS
from stepwire.mq import AmqpConnection
from stepwire.testing.poll import eventually
from tests.integration.executor_svc.executor_functions import noted
from tests.integration.executor_svc.executor_mesh import (
    NO_RETRY,
    WAIT_SECONDS,
    chain,
    graph,
    output_of,
    python,
    state_of,
    transform,
)


def in_queue(mesh, queue, work):
    """Do something with a queue of the broker, over a connection of its own."""

    def run():
        connection = pika.BlockingConnection(pika.URLParameters(mesh.rabbitmq_url))
        try:
            return work(connection.channel(), mesh.topology.queue(queue))
        finally:
            connection.close()

    return asyncio.to_thread(run)


async def lose_message(mesh, queue):
    await eventually(
        lambda: in_queue(mesh, queue, lambda c, q: c.queue_purge(q).method.message_count)
    )


async def publications(mesh, task_id):
    (row,) = await mesh.fetch("SELECT publications FROM executor.steps WHERE task_id = $1", task_id)
    return row["publications"]


async def test_a_lost_message_is_sent_again_though_others_wait(mesh):
    task_id = await mesh.client.create(graph(transform("a", "1", queue="gpu")))
    await lose_message(mesh, "gpu")
    await mesh.client.create(graph(transform("b", "1", queue="gpu")))
    await eventually(lambda: publications(mesh, task_id))
    async with mesh.worker():
        assert state_of(await mesh.client.wait(task_id)) == "SUCCEEDED"


async def test_a_crowded_queue_gets_no_more_messages(mesh):
    """Nobody serves it; a message for each step is enough."""
    async with AmqpConnection(mesh.rabbitmq_url, name="test") as amqp:
        name = mesh.topology.queue("gpu")
        await asyncio.gather(
            *(amqp.publish("", name, b"{}", durable=False) for _ in range(2 * FIRST_STEPS + 1))
        )
    crowded = await mesh.client.create(graph(transform("a", "1", queue="gpu")))
    usual = await mesh.client.create(graph(transform("a", "1", queue="llm")))
    await eventually(lambda: publications(mesh, usual), 30)
    assert await publications(mesh, crowded) == 0


async def test_the_attempts_of_a_task_that_is_too_late_are_stopped(mesh, tmp_path):
    path, go = tmp_path / "notes", tmp_path / "go"
    what = graph(python("a", "await_file", retry=NO_RETRY))
    what.timeout.seconds = 3600
    async with mesh.worker():
        task_id = await mesh.client.create(what, {"path": str(path), "awaits": str(go)})
        await eventually(lambda: noted(path) == ["a 1"], WAIT_SECONDS)
        await mesh.fetch("UPDATE executor.deadlines SET deadline = now() - interval '1 s'")
        task = await mesh.client.wait(task_id)
        assert state_of(task) == "FAILED"
        assert task.failure.reason == "TASK_TIMED_OUT"
        await eventually(lambda: "cancelled" in noted(path))
        # The worker is of use still.
        assert output_of(await mesh.client.run(chain(2), 1)) == 3
