"""P6: once CancelTask has answered, no step of the task starts or is recorded."""

import asyncio
import random

import grpc.aio

from tests.integration.executor_svc.executor_mesh import chain, graph, state_of, transform

TASKS = 60


async def test_tasks_cancelled_at_any_moment_stay_as_they_are(mesh):
    rng = random.Random(5)
    fan = graph(
        transform("each", "item", for_each=f"{list(range(10))}"),
        transform("after", "value", depends_on=["each"]),
    )

    async def one(number):
        task_id = await mesh.client.create(fan if number % 2 else chain(10), 0)
        for _ in range(rng.randrange(10)):
            await mesh.client.get(task_id)
        try:
            return await mesh.client.cancel(task_id)
        except grpc.aio.AioRpcError:
            # It was over already.
            assert state_of(await mesh.client.get(task_id)) == "SUCCEEDED"
            return None

    async with mesh.worker(), mesh.worker():
        cancelled = [task for task in await asyncio.gather(*map(one, range(TASKS))) if task]
        assert cancelled
        # Whatever was under way has come to its end behind these.
        await asyncio.gather(*(mesh.client.run(chain(10), 0) for _ in range(10)))
    for before in cancelled:
        after = await mesh.client.get(before.task_id)
        assert state_of(after) == "CANCELLED"
        assert after.last_cursor == before.last_cursor
        assert {state_of(step) for step in after.steps} <= {"SUCCEEDED", "CANCELLED"}
        history = await mesh.client.history(before.task_id)
        assert history[-1] == "TASK_CANCELLED"
        assert history.count("TASK_CANCELLED") == 1
