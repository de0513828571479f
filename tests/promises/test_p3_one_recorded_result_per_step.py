"""P3: the attempt's number fences every write; a stale worker's result is refused.

The transitions themselves are tested in
tests/integration/executor_svc/test_executor_svc_transitions.py.
"""

import signal

from stepwire.testing.poll import eventually
from tests.integration.executor_svc.executor_functions import noted
from tests.integration.executor_svc.executor_mesh import (
    WAIT_SECONDS,
    graph,
    held_steps,
    output_of,
    state_of,
    transform,
)
from tests.integration.executor_svc.worker_process import worker_process


async def test_a_frozen_worker_is_fenced(mesh, tmp_path):
    """It comes back after others have run its steps; nothing of it is recorded."""
    what, value, path, go = held_steps(tmp_path)
    with worker_process(mesh, tmp_path / "log") as worker:
        task_id = await mesh.client.create(what, value)
        await eventually(lambda: len(noted(path)) == 4, WAIT_SECONDS)
        worker.signal(signal.SIGSTOP)
        await mesh.let_leases_run_out()
        async with mesh.worker():
            await eventually(lambda: len(noted(path)) == 7, WAIT_SECONDS)
            worker.signal(signal.SIGCONT)
            await eventually(lambda: noted(path).count("cancelled") == 3, WAIT_SECONDS)
            go.touch()
            task = await mesh.client.wait(task_id)
        # It has a new session, and is of use again.
        again = await mesh.client.run(graph(transform("a", "1")))
        assert state_of(again) == "SUCCEEDED"
        assert "the lease has run out" in worker.log.read_text()
    assert output_of(task) == [0, 1, 2]
    history = await mesh.client.history(task_id)
    assert sorted(line for line in history if line.startswith("STEP_LOST")) == [
        f"STEP_LOST held[{n}] 1" for n in range(3)
    ]
    for number in range(3):
        assert history.count(f"STEP_SUCCEEDED held[{number}] 2") == 1
        assert f"STEP_SUCCEEDED held[{number}] 1" not in history
