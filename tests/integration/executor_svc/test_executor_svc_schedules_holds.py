"""Schedules that are held: who comes late changes nothing, and who asks twice is heard once."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import pytest

from executor_svc.engine.records import NewTask
from executor_svc.schedules.ports import Busy
from executor_svc.schedules.registry import Schedules
from executor_svc.schedules.store import PostgresScheduleStore
from executor_svc.store import PostgresTaskStore
from stepwire.errors import Reason
from stepwire.ids import uuid7
from stepwire.testing.poll import eventually
from tests.integration.executor_svc.executor_mesh import WAIT_SECONDS, refused
from tests.integration.executor_svc.schedule_client import (
    EVERY_SECOND,
    ONCE_A_YEAR,
    ScheduleMesh,
    config_of,
    outcome_of,
    outcomes,
)
from tests.integration.executor_svc.schedule_fixtures import LEASE, fired, let_go, store

__all__ = ["fired", "store"]


async def test_what_a_dead_executor_held_is_left_to_another(
    fired: ScheduleMesh, store: PostgresScheduleStore
) -> None:
    await fired.schedules.create("n")
    late = await store.take("default", "n", lease=LEASE)
    await let_go(fired)
    other = await store.take("default", "n", lease=LEASE)
    await store.record([(late, replace(late.schedule, last_task_id=uuid7()))])
    with pytest.raises(Busy):
        await store.take("default", "n", lease=LEASE)
    await store.record([(other, other.schedule)])
    assert (await fired.schedules.get("n")).last_task_id == ""
    await store.take("default", "n", lease=LEASE)


async def test_a_change_waits_for_a_firing_that_is_carried_out(
    fired: ScheduleMesh, store: PostgresScheduleStore
) -> None:
    await fired.schedules.create("n", config_of(ONCE_A_YEAR))
    held = await store.take("default", "n", lease=timedelta(minutes=1))
    changes = [
        asyncio.create_task(fired.schedules.pause("n")),
        asyncio.create_task(fired.schedules.trigger("n")),
    ]
    await asyncio.wait(changes, timeout=0.2)
    assert not any(change.done() for change in changes)
    assert not (await fired.schedules.get("n")).paused
    await store.record([(held, held.schedule)])
    await asyncio.gather(*changes)
    assert (await fired.schedules.get("n")).paused
    await fired.schedules.delete("n")


async def test_who_comes_late_does_not_undo_a_change(
    fired: ScheduleMesh, store: PostgresScheduleStore
) -> None:
    """An executor that stood still for longer than it held the schedule."""
    await fired.schedules.create("n")
    late = await store.take("default", "n", lease=LEASE)
    await let_go(fired)
    paused = await fired.schedules.pause("n")
    await store.record([(late, late.schedule)])
    assert await fired.schedules.get("n") == paused
    await store.put_back([late], pause=timedelta(minutes=1))
    assert not (await fired.schedules.resume("n")).paused, "nobody holds it"


async def test_a_task_of_an_executor_that_died_is_known_though_another_firing_is_due(
    fired: ScheduleMesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It died before it had recorded the task; meanwhile the next firings came."""

    async def die(*_: object) -> None:
        raise ConnectionError("the executor has died")

    policies = ("SKIP", "BUFFER_ONE", "CANCEL_OTHER")
    with monkeypatch.context() as dying:
        dying.setattr(PostgresScheduleStore, "record", die)
        for policy in policies:
            await fired.schedules.create(policy.lower(), config_of(EVERY_SECOND, policy))
            await fired.until_tasks(policy.lower(), 1)

        async def others_are_due() -> bool:
            (row,) = await fired.mesh.fetch(
                "SELECT bool_and(next_at <= now() - interval '2 s') AS due FROM executor.schedules"
            )
            due: bool = row["due"]
            return due

        await eventually(others_are_due, WAIT_SECONDS)
    await let_go(fired)
    await fired.look()
    for name in ("skip", "buffer_one"):
        await fired.until(name, "SKIPPED")
        assert [state for _, state in await fired.tasks(name)] == ["PENDING"]
    first, *_ = await fired.until_tasks("cancel_other", 2)
    assert first[1] == "CANCELLED"


async def test_a_trigger_that_is_sent_twice_at_once_fires_once(
    fired: ScheduleMesh, store: PostgresScheduleStore
) -> None:
    policies = ["SKIP", "BUFFER_ONE", "ALLOW", "CANCEL_OTHER"]
    names = [policy.lower() for policy in policies]
    for name, policy in zip(names, policies, strict=True):
        await fired.schedules.create(name, config_of(ONCE_A_YEAR, policy))
    held = [await store.take("default", name, lease=timedelta(minutes=1)) for name in names]
    calls = [
        asyncio.create_task(fired.schedules.trigger(name, request_id=f"{name} once"))
        for name in names * 2
    ]
    await asyncio.wait(calls, timeout=0.2)
    assert not any(call.done() for call in calls)
    await store.record([(each, each.schedule) for each in held])
    runs = await asyncio.gather(*calls)
    assert runs[: len(names)] == runs[len(names) :]
    for name, run in zip(names, runs, strict=False):
        assert outcome_of(run) == "STARTED"
        found = await fired.schedules.get(name)
        assert (outcomes(found), found.HasField("buffered_time")) == (["STARTED"], False)
        assert [state for _, state in await fired.tasks(name)] == ["PENDING"]


async def test_a_trigger_whose_executor_died_is_made_once(
    fired: ScheduleMesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def die(*_: object) -> None:
        raise ConnectionError("the executor has died")

    await fired.schedules.create("n", config_of(ONCE_A_YEAR, "ALLOW"))
    with monkeypatch.context() as dying:
        dying.setattr(PostgresScheduleStore, "record_trigger", die)
        async with refused() as error:
            await fired.schedules.trigger("n", request_id="once")
    assert error().reason is Reason.INTERNAL
    await let_go(fired)
    again = await fired.schedules.trigger("n", request_id="once")
    assert await fired.schedules.trigger("n", request_id="once") == again
    assert len(await fired.tasks("n")) == 1
    assert (await fired.schedules.get("n")).last_task_id == again.task_id


@dataclass
class Caller:
    """What an executor has heard of the caller of a trigger."""

    came: asyncio.Event = field(default_factory=asyncio.Event)
    gone: asyncio.Event = field(default_factory=asyncio.Event)


@pytest.fixture
def caller(monkeypatch: pytest.MonkeyPatch) -> Caller:
    heard, trigger = Caller(), Schedules.trigger

    async def listening(self: Schedules, *given: Any, **named: Any) -> Any:
        heard.came.set()
        try:
            return await trigger(self, *given, **named)
        except asyncio.CancelledError:
            heard.gone.set()
            raise

    monkeypatch.setattr(Schedules, "trigger", listening)
    return heard


async def test_a_trigger_of_who_goes_away_is_known_to_the_schedule(
    fired: ScheduleMesh, caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The task is created all the same; the next firing must see that it runs."""
    begun, go_on = asyncio.Event(), asyncio.Event()
    create = PostgresTaskStore.create

    async def create_later(self: PostgresTaskStore, tasks: Sequence[NewTask], **named: Any) -> bool:
        # The executor that tests share creates tasks of other tenants meanwhile.
        if tasks[0].tenant_id == "default":
            begun.set()
            await go_on.wait()
        return await create(self, tasks, **named)

    monkeypatch.setattr(PostgresTaskStore, "create", create_later)
    await fired.schedules.create("n", config_of(ONCE_A_YEAR, "SKIP"))
    call = asyncio.create_task(fired.schedules.trigger("n"))
    await asyncio.wait_for(begun.wait(), WAIT_SECONDS)
    call.cancel()
    await asyncio.wait_for(caller.gone.wait(), WAIT_SECONDS)
    go_on.set()
    await fired.until_tasks("n", 1)
    assert outcome_of(await fired.schedules.trigger("n")) == "SKIPPED"
    assert outcomes(await fired.schedules.get("n")) == ["STARTED", "SKIPPED"]


async def test_a_trigger_of_who_goes_away_before_it_begins_is_not_carried_out(
    fired: ScheduleMesh, store: PostgresScheduleStore, caller: Caller
) -> None:
    await fired.schedules.create("n", config_of(ONCE_A_YEAR, "ALLOW"))
    held = await store.take("default", "n", lease=timedelta(minutes=1))
    call = asyncio.create_task(fired.schedules.trigger("n"))
    await asyncio.wait_for(caller.came.wait(), WAIT_SECONDS)
    call.cancel()
    await asyncio.wait_for(caller.gone.wait(), WAIT_SECONDS)
    await store.record([(held, held.schedule)])
    for _ in range(5):
        await fired.schedules.trigger("n")
    assert len(await fired.tasks("n")) == 5
