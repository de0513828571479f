"""P6: once CancelTask has answered, no step of the task starts or is recorded."""

import asyncio
import random

import grpc.aio

from tests.integration.executor_svc.executor_mesh import chain, graph, state_of, transform

TASKS = 60


async def test_tasks_cancelled_at_any_moment_stay_as_they_are(mesh):
    """Some race their cancellation; others cannot end by themselves, however slow it is."""
    rng = random.Random(5)
    fan = graph(
        transform("each", "item", for_each=f"{list(range(10))}"),
        transform("after", "value", depends_on=["each"]),
    )
    never = {"name": "never", "depends_on": ["s8"], "wait_signal": {"name": "never"}}
    endless = chain(9)
    endless.steps.add(**never)
    shapes = (chain(10), fan, endless)

    async def one(number):
        what = shapes[number % len(shapes)]
        task_id = await mesh.client.create(what, 0)
        for _ in range(rng.randrange(10)):
            await mesh.client.get(task_id)
        try:
            return await mesh.client.cancel(task_id)
        except grpc.aio.AioRpcError:
            # It was over already.
            assert what is not endless
            assert state_of(await mesh.client.get(task_id)) == "SUCCEEDED"
            return None

    async with mesh.worker(), mesh.worker():
        cancelled = [task for task in await asyncio.gather(*map(one, range(TASKS))) if task]
        assert len(cancelled) >= TASKS // len(shapes)
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
