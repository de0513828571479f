"""P2: what was recorded is never done again, whatever happens to the task afterwards."""

import signal

from stepwire.testing.poll import eventually
from tests.integration.executor_svc.executor_functions import noted
from tests.integration.executor_svc.executor_mesh import (
    NO_RETRY,
    WAIT_SECONDS,
    graph,
    python,
    state_of,
)
from tests.integration.executor_svc.worker_process import worker_process


async def test_a_task_continues_behind_its_last_completed_step(mesh, tmp_path):
    """Its worker is killed, its next step fails, it is retried: each step completes once."""
    path, go, needs = tmp_path / "notes", tmp_path / "go", tmp_path / "needed"
    steps = [python("s0", "note", input="input")]
    steps += [
        python(f"s{n}", "note", depends_on=[f"s{n - 1}"], input="input") for n in range(1, 10)
    ]
    steps += [
        python("held", "await_file", depends_on=["s9"], input="input"),
        python("fails", "need_file", depends_on=["held"], input="input", retry=NO_RETRY),
        python("last", "note", depends_on=["fails"], input="input"),
    ]
    value = {"path": str(path), "awaits": str(go), "needs": str(needs)}
    with worker_process(mesh, tmp_path / "log") as worker:
        task_id = await mesh.client.create(graph(*steps), value)
        await eventually(lambda: "held 1" in noted(path), WAIT_SECONDS)
        worker.signal(signal.SIGKILL)
        worker.wait()
    await mesh.let_leases_run_out()
    async with mesh.worker():
        await eventually(lambda: "held 2" in noted(path), WAIT_SECONDS)
        go.touch()
        assert state_of(await mesh.client.wait(task_id)) == "FAILED"
        needs.touch()
        await mesh.client.retry(task_id)
        assert state_of(await mesh.client.wait(task_id)) == "SUCCEEDED"
    assert noted(path) == [
        *(f"s{n} 1" for n in range(10)),
        "held 1",
        "held 2",
        "fails 1",
        "fails 2",
        "last 1",
    ]
