"""What becomes of a firing while the schedule's last task runs, or when its task is refused.

No worker runs: a task ends when it is cancelled.
"""

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta

import pytest

from stepwire.errors import Reason
from stepwire.stack.postgres import PostgresServer
from stepwire.testing.postgres import fresh_database
from tests.integration.executor_svc.executor_mesh import graph, refused, transform
from tests.integration.executor_svc.schedule_client import (
    EVERY_SECOND,
    ONCE_A_YEAR,
    ScheduleMesh,
    config_of,
    outcome_of,
    outcomes,
    running_schedules,
    task_of,
)

MINUTE = timedelta(minutes=1)
EVERY_MINUTE = "* * * * *"


@pytest.fixture(scope="module")
async def fired(postgres: PostgresServer, rabbitmq_url: str) -> AsyncIterator[ScheduleMesh]:
    """One executor for all tests here; each takes a name of its own for its schedule."""
    with fresh_database(postgres) as url:
        namespace = f"test-{uuid.uuid4().hex[:12]}"
        async with running_schedules(url, rabbitmq_url, namespace) as mesh:
            yield mesh


@pytest.fixture
async def name(fired: ScheduleMesh) -> AsyncIterator[str]:
    """The name of the test's schedule, which is deleted afterwards."""
    name = f"n{uuid.uuid4().hex[:12]}"
    yield name
    await fired.schedules.delete(name)


async def skip_waits_for_the_end_of_the_last_task(fired: ScheduleMesh, name: str) -> None:
    await fired.schedules.create(name, config_of(EVERY_SECOND, "SKIP"))
    found = await fired.until(name, "STARTED", "SKIPPED", "SKIPPED")
    assert len(await fired.tasks(name)) == 1
    await fired.mesh.client.cancel(found.last_task_id)
    await fired.until_tasks(name, 2)
    assert [state for _, state in await fired.tasks(name)] == ["CANCELLED", "PENDING"]


async def allow_does_not_wait(fired: ScheduleMesh, name: str) -> None:
    await fired.schedules.create(name, config_of(EVERY_SECOND, "ALLOW"))
    await fired.until(name, *["STARTED"] * 3)
    assert {state for _, state in await fired.tasks(name)} == {"PENDING"}


async def cancel_other_leaves_one_task(fired: ScheduleMesh, name: str) -> None:
    await fired.schedules.create(name, config_of(EVERY_SECOND, "CANCEL_OTHER"))
    await fired.until(name, *["STARTED"] * 3)
    await fired.schedules.pause(name)
    *others, last = [state for _, state in await fired.tasks(name)]
    assert (set(others), last) == ({"CANCELLED"}, "PENDING")


async def one_firing_waits(fired: ScheduleMesh, name: str) -> None:
    await fired.schedules.create(name, config_of(EVERY_SECOND, "BUFFER_ONE"))
    found = await fired.until(name, "STARTED", "BUFFERED", "SKIPPED")
    waiting = found.buffered_time
    await fired.mesh.client.cancel(found.last_task_id)
    await fired.until_tasks(name, 2)
    await fired.schedules.pause(name)
    time = datetime.fromisoformat((await fired.tasks(name))[1][0])
    assert time == waiting.ToDatetime(tzinfo=UTC)


async def a_task_that_is_refused_is_told_and_the_next_one_tried(
    fired: ScheduleMesh, name: str
) -> None:
    await fired.schedules.create(name, config_of(EVERY_SECOND, "ALLOW"))
    task = task_of(graph(transform("a", "input", queue="gone")))
    await fired.mesh.fetch(
        "UPDATE executor.schedules SET task = $1 WHERE name = $2", task.SerializeToString(), name
    )
    found = await fired.until(name, "FAILED", "FAILED")
    run = found.recent_runs[0]
    assert (outcome_of(run), run.failure.reason) == ("FAILED", "FIELD_INVALID")
    assert "queue" in run.failure.message
    async with refused() as error:
        await fired.schedules.trigger(name)
    assert error().reason is Reason.FIELD_INVALID
    await fired.schedules.update(name, config_of(), ["task"])
    await fired.until_tasks(name, 1)


SCENARIOS = (
    skip_waits_for_the_end_of_the_last_task,
    allow_does_not_wait,
    cancel_other_leaves_one_task,
    one_firing_waits,
    a_task_that_is_refused_is_told_and_the_next_one_tried,
)


async def test_firings_of_each_second(fired: ScheduleMesh) -> None:
    """All at once, since what they wait for is the clock."""
    async with asyncio.TaskGroup() as group:
        for scenario in SCENARIOS:
            group.create_task(with_a_name(fired, scenario), name=scenario.__name__)


async def with_a_name(
    fired: ScheduleMesh, scenario: Callable[[ScheduleMesh, str], Awaitable[None]]
) -> None:
    name = f"n{uuid.uuid4().hex[:12]}"
    await scenario(fired, name)
    await fired.schedules.delete(name)


async def test_cancel_other_makes_up_for_the_newest_alone(fired: ScheduleMesh, name: str) -> None:
    await fired.schedules.create(
        name, config_of(EVERY_MINUTE, "CANCEL_OTHER", catch_up_window=60 * MINUTE, max_catch_up=9)
    )
    await fired.fall_due(name, late=10 * MINUTE, every=MINUTE)
    await fired.look()
    assert outcomes(await fired.until(name, "STARTED")) == ["MISSED", "STARTED"]
    assert [state for _, state in await fired.tasks(name)] == ["PENDING"]


@pytest.mark.parametrize("silent", [False, True], ids=["told-by-the-event", "found-by-a-look"])
async def test_one_firing_waits_for_the_end_of_the_last_task(
    fired: ScheduleMesh, name: str, *, silent: bool
) -> None:
    await fired.schedules.create(name, config_of(ONCE_A_YEAR, "BUFFER_ONE"))
    first = await fired.schedules.trigger(name)
    waiting = await fired.schedules.trigger(name)
    skipped = await fired.schedules.trigger(name)
    kinds = [outcome_of(run) for run in (first, waiting, skipped)]
    assert kinds == ["STARTED", "BUFFERED", "SKIPPED"]
    found = await fired.schedules.get(name)
    assert found.buffered_time == waiting.nominal_time
    if silent:
        # As if the event had been lost.
        await fired.mesh.fetch(
            "UPDATE executor.tasks SET state = 'CANCELLED', ended_at = now() WHERE task_id = $1",
            first.task_id,
        )
        await fired.look()
    else:
        await fired.mesh.client.cancel(first.task_id)
    found = await fired.until(name, "STARTED", "STARTED")
    assert not found.HasField("buffered_time")
    # In the place of the firing that waited is what became of it.
    assert outcomes(found) == ["STARTED", "SKIPPED", "STARTED"]
    assert found.recent_runs[0].nominal_time == waiting.nominal_time
    assert found.recent_runs[0].task_id == found.last_task_id != first.task_id
    assert len(await fired.tasks(name)) == 2
