"""A worker that is cut off or frozen stops its steps before others take them."""

import signal

import pytest

from stepwire.testing.poll import eventually
from tests.integration.executor_svc.executor_functions import noted
from tests.integration.executor_svc.executor_mesh import (
    WAIT_SECONDS,
    graph,
    output_of,
    python,
    steps_of,
)
from tests.integration.executor_svc.worker_process import worker_process
from tests.integration.tcp_gate import gate_to

# Long enough for a busy machine to stop a step within the margin.
LEASE = {"lease_seconds": 4, "renew_seconds": 0.2, "lease_margin_share": 0.5}


@pytest.fixture
def ticking(tmp_path):
    """A task whose step notes that it runs, again and again, until a file is there."""
    path, go = tmp_path / "notes", tmp_path / "go"
    what = graph(python("tick", "tick_until_file"))
    return what, {"path": str(path), "awaits": str(go), "result": 1}, path, go


def next_note(path):
    """Return a step's note right after it, so that it sleeps and is not in the middle of one."""
    while True:
        before = path.stat().st_size
        while path.stat().st_size == before:
            pass
        if (note := noted(path)[-1]) != "cancelled":
            return note


def lost(worker):
    """How many leases a worker has noticed to have run out."""
    return worker.log.read_text().count("the lease has run out")


async def test_a_worker_that_is_cut_off_stops_before_another_one_starts(mesh, ticking):
    """False death: the worker is well, and knows nothing of what others decide."""
    what, value, path, go = ticking
    async with gate_to(mesh.database_url) as gate, mesh.worker(postgres_url=gate.url, **LEASE):
        task_id = await mesh.client.create(what, value)
        await eventually(lambda: "tick 1" in noted(path), WAIT_SECONDS)
        await gate.shut()
        async with mesh.worker(**LEASE):
            await eventually(lambda: "tick 2" in noted(path), WAIT_SECONDS)
            lines = noted(path)
            go.touch()
            assert output_of(await mesh.client.wait(task_id)) == 1
        await gate.open()
    assert lines.index("cancelled") < lines.index("tick 2")
    assert "tick 1" not in noted(path)[lines.index("cancelled") :]


async def test_a_worker_that_was_frozen_does_nothing_for_its_old_steps(mesh, ticking, tmp_path):
    """It wakes up with everything it was about to do; the step has another owner by then."""
    what, value, path, go = ticking
    with worker_process(mesh, tmp_path / "log", **LEASE) as frozen:
        task_id = await mesh.client.create(what, value)
        await eventually(lambda: "tick 1" in noted(path), WAIT_SECONDS)
        # Its second attempt or a later one, where the machine stood still for longer than a lease.
        old = next_note(path)
        frozen.signal(signal.SIGSTOP)
        attempt = int(old.removeprefix("tick "))
        cancelled, losses = noted(path).count("cancelled"), lost(frozen)
        async with mesh.worker():
            await eventually(lambda: f"tick {attempt + 1}" in noted(path), WAIT_SECONDS)
            before = noted(path).count(old)
            frozen.signal(signal.SIGCONT)
            await eventually(lambda: noted(path).count("cancelled") > cancelled, WAIT_SECONDS)
            assert noted(path).count(old) == before
            await eventually(lambda: lost(frozen) > losses, WAIT_SECONDS)
            go.touch()
            task = await mesh.client.wait(task_id)
        assert output_of(task) == 1
        assert steps_of(task)["tick"].attempt == attempt + 1
        # It is none the worse for it.
        go.unlink()
        before = noted(path).count("tick 1")
        again = await mesh.client.create(what, value)
        await eventually(lambda: noted(path).count("tick 1") > before, WAIT_SECONDS)
        go.touch()
        assert output_of(await mesh.client.wait(again)) == 1
