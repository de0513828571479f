"""Steps that a worker runs side by side share what they read: recorded outputs alone."""

from datetime import timedelta
from uuid import UUID

import pytest

from executor_svc.engine.records import StepAddress
from executor_svc.store.steps import PostgresStepStore
from executor_svc.work import dispatch
from stepwire.api.executor.v1 import graph_pb2
from stepwire.db import open_pool
from stepwire.testing.poll import eventually
from tests.integration.executor_svc.executor_functions import noted
from tests.integration.executor_svc.executor_mesh import (
    WAIT_SECONDS,
    graph,
    output_of,
    python,
    transform,
)

ANY = {"mode": graph_pb2.JOIN_MODE_ANY}


@pytest.fixture(autouse=True)
def forks_stay_here(monkeypatch):
    """As in a worker that has much to do: what follows a step runs where it ran."""
    monkeypatch.setattr(dispatch, "BUSY_ATTEMPTS", 0)


def side(tmp_path, name: str) -> dict[str, str]:
    return {"path": str(tmp_path / "notes"), "awaits": str(tmp_path / name)}


async def test_a_result_that_was_refused_is_not_what_other_steps_see(mesh, tmp_path, caplog):
    what = graph(
        transform("first", "1"),
        python("one", "attempt", depends_on=["first"], input="input.one"),
        python("two", "attempt", depends_on=["first"], input="input.two"),
        transform("last", "[steps.one, steps.two]", depends_on=["one", "two"]),
    )
    value = {name: side(tmp_path, name) for name in ("one", "two")}
    notes = tmp_path / "notes"
    async with mesh.worker(), open_pool(mesh.database_url, application_name="test") as pool:
        task_id = await mesh.client.create(what, value)
        await eventually(lambda: len(noted(notes)) == 2, WAIT_SECONDS)
        running = "SELECT DISTINCT session_id FROM executor.steps WHERE state = 'RUNNING'"
        [session] = await mesh.fetch(running)
        store = PostgresStepStore(pool, republish_after=timedelta(0), inline_bytes=1000)
        two = StepAddress(UUID(task_id), "two")
        await store.give_back_unknown(session["session_id"], lambda: [two], older_than=timedelta(0))
        again = await mesh.client.until(task_id, "one", "SUCCEEDED")
        assert again.attempt == 2
        (tmp_path / "one").touch()
        await eventually(lambda: "a result was refused" in caplog.text, WAIT_SECONDS)
        (tmp_path / "two").touch()
        task = await mesh.client.wait(task_id)
    assert output_of(task) == [2, 1]


async def test_what_a_step_did_not_wait_for_is_seen_by_those_that_do(mesh, tmp_path):
    what = graph(
        python("quick", "echo"),
        python("slow", "attempt", input="input.slow"),
        python(
            "either",
            "await_file",
            depends_on=["quick", "slow"],
            join=ANY,
            input="{'path': input.either.path, 'awaits': input.either.awaits,"
            " 'result': steps.slow}",
        ),
        transform("both", "[steps.either, steps.slow]", depends_on=["either", "slow"]),
    )
    value = {name: side(tmp_path, name) for name in ("slow", "either")}
    async with mesh.worker():
        task_id = await mesh.client.create(what, value)
        await eventually(lambda: len(noted(tmp_path / "notes")) == 2, WAIT_SECONDS)
        (tmp_path / "slow").touch()
        await mesh.client.until(task_id, "slow", "SUCCEEDED")
        (tmp_path / "either").touch()
        task = await mesh.client.wait(task_id)
    assert output_of(task) == [None, 1]
