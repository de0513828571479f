"""What only the sweeper finds, over real servers."""

import asyncio

import pika

from executor_svc.window import FIRST_STEPS
from stepwire.mq import AmqpConnection
from stepwire.testing.poll import eventually
from tests.integration.executor_svc.executor_functions import noted
from tests.integration.executor_svc.executor_mesh import (
    NO_RETRY,
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


async def test_a_turn_that_was_missed_is_given(mesh, tmp_path):
    """Whoever freed the place died before it could tell."""
    path, go = tmp_path / "notes", tmp_path / "go"
    limit = {"key": "'k'", "max_running": 1}
    what = graph(python("a", "await_file", limit=limit))
    async with mesh.worker():
        first = await mesh.client.create(what, {"path": str(path), "awaits": str(go)})
        await mesh.client.until(first, "a", "RUNNING")
        second = await mesh.client.create(what, {"path": str(path), "awaits": str(go)})
        waiting = await mesh.client.until(second, "a", "WAITING")
        assert waiting.waits_for == "limit:k"
        assert "STEP_WAITING a 1" in await seen(mesh, second)
        await mesh.fetch("DELETE FROM executor.limit_holders WHERE task_id = $1", first)
        await mesh.client.until(second, "a", "RUNNING")
        go.touch()
        for task_id in (first, second):
            assert state_of(await mesh.client.wait(task_id)) == "SUCCEEDED"


async def seen(mesh, task_id):
    """What has happened to a task so far."""
    rows = await mesh.fetch(
        "SELECT e.value ->> 1 AS step, e.value ->> 2 AS attempt FROM executor.task_events v,"
        " json_array_elements(v.events::json) AS e WHERE v.task_id = $1"
        " AND (e.value ->> 0)::integer = 17",
        task_id,
    )
    return [f"STEP_WAITING {row['step']} {row['attempt']}" for row in rows]


async def test_a_start_under_a_rate_comes_by_the_clock(mesh):
    limit = {"key": "'k'", "max_starts": 1, "period": {"nanos": 200_000_000}}
    what = graph(transform("a", "input", limit=limit))
    async with mesh.worker():
        tasks = await asyncio.gather(*(mesh.client.run(what, number) for number in range(8)))
    assert [output_of(task) for task in tasks] == list(range(8))
    starts = sorted(task.steps[0].start_time.ToMicroseconds() for task in tasks)
    # Not all at once: a start that comes late by up to a second counts for its own time.
    assert starts[-1] - starts[0] >= (7 * 0.2 - 1) * 1e6


async def test_the_attempts_of_a_task_that_is_too_late_are_stopped(mesh, tmp_path):
    path, go = tmp_path / "notes", tmp_path / "go"
    what = graph(python("a", "await_file", retry=NO_RETRY))
    what.timeout.FromMilliseconds(500)
    async with mesh.worker():
        task = await mesh.client.run(what, {"path": str(path), "awaits": str(go)})
        assert state_of(task) == "FAILED"
        assert task.failure.reason == "TASK_TIMED_OUT"
        await eventually(lambda: "cancelled" in noted(path))
        # The worker is of use still.
        assert output_of(await mesh.client.run(chain(2), 1)) == 3
