"""Steps that wait for their limit when their task fails: they must not wait for ever."""

import pytest

from stepwire.testing.poll import eventually
from tests.integration.executor_svc.executor_functions import noted
from tests.integration.executor_svc.executor_mesh import (
    NO_RETRY,
    WAIT_SECONDS,
    graph,
    python,
    state_of,
)

NARROW = {"key": "'narrow'", "max_running": 1}


@pytest.mark.parametrize("concurrent", [False, True])
async def test_a_step_that_waits_for_its_limit_when_its_task_fails_runs_after_a_retry(
    concurrent, mesh, tmp_path
):
    """Also in a task whose end frees a place of its own, under its concurrency key."""
    path, go, needs, begin = (tmp_path / name for name in ("notes", "go", "needed", "begin"))
    value = {"path": str(path), "awaits": str(go), "needs": str(needs), "begin": str(begin)}
    what = graph(
        python("holds", "await_file", input="input", limit=NARROW),
        python("waits", "note", depends_on=["before"], input="input", limit=NARROW),
        python("before", "await_file", input="{'path': input.path, 'awaits': input.begin}"),
        python("bad", "need_file", depends_on=["before"], input="input", retry=NO_RETRY),
    )
    if concurrent:
        what.concurrency.key, what.concurrency.max_running = "'few'", 2
    async with mesh.worker():
        task_id = await mesh.client.create(what, value)
        await eventually(lambda: "holds 1" in noted(path), WAIT_SECONDS)
        begin.touch()
        await mesh.client.until(task_id, "waits", "WAITING")
        await mesh.client.until(task_id, "bad", "FAILED")
        needs.touch()
        await mesh.client.retry(task_id)
        go.touch()
        assert state_of(await mesh.client.wait(task_id)) == "SUCCEEDED"
    assert "waits 1" in noted(path)
