"""P5: a step that waits for several starts once, when the last of them has succeeded."""

import asyncio

from tests.integration.executor_svc.executor_functions import noted
from tests.integration.executor_svc.executor_mesh import graph, output_of, python, transform

WIDTH = 20
TASKS = 20


async def test_joins_fire_once_under_many_workers(mesh, tmp_path):
    path = tmp_path / "notes"
    names = [f"s{number}" for number in range(WIDTH)]
    what = graph(
        *(transform(name, "1") for name in names),
        transform("each", "item", for_each=f"{list(range(WIDTH))}"),
        python("join", "note", depends_on=[*names, "each"], input="input"),
        transform("last", "steps.each", depends_on=["join", "each"]),
    )
    async with mesh.worker(), mesh.worker(), mesh.worker():
        tasks = await asyncio.gather(
            *(mesh.client.run(what, {"path": str(path)}) for _ in range(TASKS))
        )
    assert [output_of(task) for task in tasks] == [list(range(WIDTH))] * TASKS
    assert noted(path) == ["join 1"] * TASKS
    for task in tasks:
        history = await mesh.client.history(task.task_id)
        for step in ("join", "each", "last"):
            assert history.count(f"STEP_STARTED {step} 1") == 1
            assert history.count(f"STEP_SUCCEEDED {step} 1") == 1
