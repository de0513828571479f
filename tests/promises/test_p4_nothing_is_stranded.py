"""P4: whatever dies, every accepted task ends; a dead worker's steps run again elsewhere.

Postgres and RabbitMQ that go away are in
tests/integration/executor_svc/test_executor_svc_outages.py.
"""

import signal

from executor_svc.settings import ExecutorSettings, WorkerSettings
from stepwire.testing.poll import eventually
from tests.integration.executor_svc.executor_functions import noted
from tests.integration.executor_svc.executor_mesh import (
    WAIT_SECONDS,
    held_steps,
    output_of,
    steps_of,
)
from tests.integration.executor_svc.worker_process import worker_process


def test_a_death_is_noticed_within_ten_seconds():
    """A lease that has just been renewed runs out, and the sweep comes round."""
    assert WorkerSettings().lease_seconds + ExecutorSettings().sweep_seconds <= 10


async def test_the_steps_of_a_killed_worker_run_again_elsewhere(mesh, tmp_path):
    what, value, path, go = held_steps(tmp_path, 5)
    with worker_process(mesh, tmp_path / "log") as worker:
        task_id = await mesh.client.create(what, value)
        await eventually(lambda: len(noted(path)) == 6, WAIT_SECONDS)
        worker.signal(signal.SIGKILL)
        worker.wait()
    await mesh.let_leases_run_out()
    async with mesh.worker():
        await eventually(lambda: len(noted(path)) == 11, WAIT_SECONDS)
        go.touch()
        task = await mesh.client.wait(task_id)
    assert output_of(task) == list(range(5))
    history = await mesh.client.history(task_id)
    for number in range(5):
        assert history.count(f"STEP_LOST held[{number}] 1") == 1
        assert history.count(f"STEP_SUCCEEDED held[{number}] 2") == 1
        assert steps_of(task)[f"held[{number}]"].attempt == 2
    assert history.count("STEP_SUCCEEDED before 1") == 1


async def test_a_worker_killed_at_any_moment_leaves_nothing_behind(mesh, tmp_path):
    """Killed in the midst of many short tasks, when claims and commits are under way."""
    what, value, _, go = held_steps(tmp_path, 2)
    go.touch()
    ids: list[str] = []
    for _ in range(2):
        with worker_process(mesh, tmp_path / "log") as worker:
            ids.append(await mesh.client.create(what, value))
            await mesh.client.wait(ids[-1])
            ids += [await mesh.client.create(what, value) for _ in range(30)]
            worker.signal(signal.SIGKILL)
            worker.wait()
        await mesh.let_leases_run_out()
    async with mesh.worker():
        tasks = [await mesh.client.wait(task_id) for task_id in ids]
    assert [output_of(task) for task in tasks] == [[0, 1]] * len(ids)
    for task in tasks:
        history = await mesh.client.history(task.task_id)
        done = [line.split()[1] for line in history if line.startswith("STEP_SUCCEEDED")]
        assert sorted(done) == ["after", "before", "held", "held[0]", "held[1]"]
