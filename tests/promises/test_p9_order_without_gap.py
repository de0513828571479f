"""P9: a watcher sees a task's events in order and without gap, and can resume anywhere."""

import asyncio

from stepwire.testing.poll import eventually
from tests.integration.executor_svc.executor_functions import noted
from tests.integration.executor_svc.executor_mesh import (
    NO_RETRY,
    WAIT_SECONDS,
    graph,
    python,
    transform,
    type_of,
)


async def test_watchers_of_an_eventful_task_see_one_history(mesh, tmp_path):
    """A worker that goes, a failure, a retry, items: every watcher sees the same."""
    path, go, needs = tmp_path / "notes", tmp_path / "go", tmp_path / "needed"
    value = {"path": str(path), "awaits": str(go), "needs": str(needs)}
    what = graph(
        python("held", "await_file"),
        transform("each", "item", for_each=f"{list(range(20))}", depends_on=["held"]),
        python("fails", "need_file", depends_on=["held"], input="input", retry=NO_RETRY),
        transform("after", "1", depends_on=["each", "fails"]),
    )
    async with mesh.worker():
        task_id = await mesh.client.create(what, value)
        early = asyncio.create_task(mesh.client.events(task_id))
        await eventually(lambda: noted(path) == ["held 1"], WAIT_SECONDS)
    async with mesh.worker():
        go.touch()
        await mesh.client.wait(task_id)
        failed = await early
        assert "TASK_FAILED" in [type_of(event) for event in failed]
        needs.touch()
        await mesh.client.retry(task_id)
        late = asyncio.create_task(mesh.client.events(task_id, after=failed[-1].cursor))
        task = await mesh.client.wait(task_id)
        resumed = [*failed, *await late]
    whole = await mesh.client.events(task_id)
    assert resumed == whole
    assert [event.cursor for event in whole] == list(range(1, task.last_cursor + 1))
    times = [event.time.ToNanoseconds() for event in whole]
    assert times == sorted(times)
    assert "STEP_LOST" in [type_of(event) for event in whole]
    for after in range(0, task.last_cursor, 7):
        assert await mesh.client.events(task_id, after=after) == whole[after:]
