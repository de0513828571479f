"""A tenant with very many tasks, and one with a single task, over real servers."""

import pytest

from stepwire.api.executor.v1 import executor_service_pb2 as pb
from stepwire.testing.poll import eventually
from tests.integration.executor_svc.executor_mesh import (
    WAIT_SECONDS,
    create_request,
    graph,
    running_mesh,
    state_of,
    transform,
)

# More steps than are published together, whatever waits.
WIDTH = 300
MANY = 100_000
# Most steps that are to wait in RabbitMQ.
MAX_PUBLISHED = 256
# What may go before: what waits in RabbitMQ, what workers have taken from there and not
# claimed yet (4 messages of 64 steps for each of 2 workers), and two turns of the releaser,
# of which others get half.
BOUND = MAX_PUBLISHED + 2 * 4 * 64 + 2 * MAX_PUBLISHED


@pytest.fixture
async def busy_mesh(database_url, rabbitmq_url, mq_namespace):
    """An executor with the tasks of the tenant `many`, and workers that are at them."""
    async with running_mesh(
        database_url, rabbitmq_url, mq_namespace, max_published_steps=MAX_PUBLISHED
    ) as mesh:
        many = mesh.client.of("many")
        # Without a worker yet: it stays the oldest.
        task_id = await many.create(graph(transform("a", "1")))
        await mesh.fetch(
            "INSERT INTO executor.tasks (task_id, tenant_id, graph_hash, open_sinks, priority,"
            " input, input_type, traceparent) SELECT uuidv7(), tenant_id, graph_hash, 1, priority,"
            " input, input_type, '' FROM executor.tasks, generate_series(1, $2)"
            " WHERE task_id = $1",
            task_id,
            MANY,
        )
        await mesh.fetch(
            "INSERT INTO executor.steps (task_id, step_id, ordinal, state, tenant_id, queue,"
            " priority, ready_at) SELECT task_id, 'a', 0, 'READY', tenant_id, 'default', priority,"
            " now() FROM executor.tasks WHERE task_id <> $1",
            task_id,
        )
        async with mesh.worker(), mesh.worker():
            await many.wait(task_id)
            yield mesh


async def overtaken_by(mesh, task_id):
    """How many steps of `many` started between a task's creation and its start."""
    (row,) = await mesh.fetch(
        "SELECT count(*) FILTER (WHERE o.started_at > t.created_at"
        " AND o.started_at < s.started_at) AS before,"
        " count(*) FILTER (WHERE o.state = 'READY') AS waiting"
        " FROM executor.tasks t JOIN executor.steps s USING (task_id)"
        " CROSS JOIN executor.steps o"
        " WHERE t.task_id = $1 AND o.tenant_id = 'many' AND o.task_id <> $1",
        task_id,
    )
    # Else it need not have overtaken anything.
    assert row["waiting"] > 2 * BOUND
    return row["before"]


@pytest.mark.timeout(300)
async def test_a_single_task_is_not_held_up_by_many_of_another_tenant(busy_mesh):
    one = busy_mesh.client.of("one")
    for _ in range(3):
        task = await one.run(graph(transform("a", "1")))
        assert state_of(task) == "SUCCEEDED"
        assert await overtaken_by(busy_mesh, task.task_id) <= BOUND


@pytest.mark.timeout(300)
async def test_an_urgent_task_overtakes_many_of_its_own_tenant(busy_mesh):
    many = busy_mesh.client.of("many")
    task = await many.run(graph(transform("a", "1")), priority=1)
    assert state_of(task) == "SUCCEEDED"
    assert await overtaken_by(busy_mesh, task.task_id) <= BOUND
    # As it is, the step that was created last goes last.
    usual = await many.create(graph(transform("a", "1")))
    assert state_of(await many.get(usual)) == "PENDING"
    steps = (await many.get(usual)).steps
    assert [state_of(step) for step in steps] == ["READY"]


async def counts(mesh, queue):
    """How many steps of a queue have a message, and how many wait in the record."""
    (row,) = await mesh.fetch(
        "SELECT count(due_at) AS published, count(*) - count(due_at) AS waiting"
        " FROM executor.steps WHERE state = 'READY' AND queue = $1",
        queue,
    )
    return row["published"], row["waiting"]


@pytest.mark.parametrize("source", ["fan-out", "tasks"])
async def test_what_is_much_waits_in_the_record(database_url, rabbitmq_url, mq_namespace, source):
    """Whether one task fans out or many are created, in a queue that nobody serves yet."""
    few = {"max_published_steps": 16}
    names = [f"s{number}" for number in range(WIDTH)]
    async with (
        running_mesh(database_url, rabbitmq_url, mq_namespace, **few) as mesh,
        mesh.worker(queues=("default",), **few),
    ):
        if source == "fan-out":
            behind = [transform(name, "1", queue="gpu", depends_on=["first"]) for name in names]
            ids = [await mesh.client.create(graph(transform("first", "1"), *behind))]
        else:
            request = create_request(graph(transform("a", "1", queue="gpu")))
            batch = pb.BatchCreateTasksRequest(requests=[request] * WIDTH)
            ids = (await mesh.client.call("BatchCreateTasks", batch)).task_ids

        async def some_published():
            published, waiting = await counts(mesh, "gpu")
            return published + waiting == WIDTH and published

        assert await eventually(some_published, WAIT_SECONDS) < WIDTH / 2
        async with mesh.worker(queues=("gpu",), **few):
            tasks = [await mesh.client.wait(task_id) for task_id in ids]
    assert {state_of(task) for task in tasks} == {"SUCCEEDED"}
