"""When those who wait for a task, or watch it, look into the record."""

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from executor_svc.engine.records import EventBatch, TaskEvent
from executor_svc.tasks.events import EventHub
from executor_svc.tasks.recent import MAX_REMEMBERED, Recent, RecentTasks
from executor_svc.tasks.tasks import TaskView
from executor_svc.tasks.watching import Watches
from stepwire.api.executor.v1.task_pb2 import TaskEventType

TASK_ID = UUID(int=1)
NOW = datetime.now(UTC)
LONG = timedelta(minutes=1)
CREATED = TaskEventType.TASK_EVENT_TYPE_TASK_CREATED
FAILED = TaskEventType.TASK_EVENT_TYPE_TASK_FAILED
RETRIED = TaskEventType.TASK_EVENT_TYPE_TASK_RETRIED
SUCCEEDED = TaskEventType.TASK_EVENT_TYPE_TASK_SUCCEEDED


class State:
    def __init__(self, *, is_final):
        self.is_final = is_final


class Task:
    """A task as far as a watch looks at it."""

    def __init__(self, last_cursor, *, is_final, graph_hash=b""):
        self.last_cursor = last_cursor
        self.graph_hash = graph_hash
        self.state = State(is_final=is_final)


class Record:
    """A record that is further on each time its task is read."""

    def __init__(self, *moments):
        self._moments = list(moments)
        self._events = []

    async def get(self, task_id, *, tenant_id):
        task, events = self._moments.pop(0)
        self._events += events
        return task

    async def events(self, task, *, after, limit):
        return [
            TaskEvent(TASK_ID, cursor, type_, "", 0, {}, NOW)
            for cursor, type_ in enumerate(self._events, start=1)
            if cursor > after
        ][:limit]


class Reader:
    """A record that counts the looks into it; its task has ended by the `ends`-th look."""

    def __init__(self, *, ends=1):
        self.looks = 0
        self._ends = ends

    async def view(self, task_id, *, tenant_id):
        self.looks += 1
        return TaskView(Task(0, is_final=self.looks >= self._ends, graph_hash=b""))

    async def view_ended(self, task_id, sinks, *, tenant_id):
        assert sinks == ["last"]
        return await self.view(task_id, tenant_id=tenant_id)

    async def sinks_of(self, graph_hash):
        return ["last"]


def ending_of(task_id):
    return EventBatch(task_id, 3, NOW, '[[2,"",0],[3,"",0]]')


async def waiting(reader, *, recheck, recent, tenant="default", at_most=LONG):
    hub = EventHub()
    watches = Watches(reader, reader, hub, recent, recheck=recheck)
    waits = asyncio.create_task(watches.wait(TASK_ID, tenant_id=tenant, at_most=at_most))
    await asyncio.sleep(0)
    return hub, waits


def accepted_here(tenant="default"):
    recent = RecentTasks()
    recent.remember(TASK_ID, Recent(tenant, ["last"]))
    return recent


async def test_who_waits_for_a_task_made_here_looks_once_it_has_ended():
    reader = Reader()
    hub, waits = await waiting(reader, recheck=LONG, recent=accepted_here())
    assert (reader.looks, waits.done()) == (0, False)
    hub.deliver([ending_of(TASK_ID)])
    assert (await waits).task.state.is_final
    assert reader.looks == 1


async def test_who_waits_for_a_task_made_here_looks_though_its_end_was_missed():
    _, waits = await waiting(Reader(), recheck=timedelta(0), recent=accepted_here())
    assert (await waits).task.state.is_final


async def test_who_waits_for_a_task_that_has_ended_is_answered_at_once():
    recent = accepted_here()
    recent.deliver([ending_of(UUID(int=2)), ending_of(TASK_ID)])
    _, waits = await waiting(Reader(), recheck=LONG, recent=recent)
    assert (await waits).task.state.is_final


async def test_another_tenant_does_not_profit_from_what_is_known_of_a_task():
    reader = Reader()
    _, waits = await waiting(reader, recheck=LONG, recent=accepted_here("other"))
    await waits
    assert reader.looks == 1


async def test_who_waits_too_long_is_answered_with_the_task_as_it_is():
    reader = Reader(ends=9)
    _, waits = await waiting(reader, recheck=LONG, recent=accepted_here(), at_most=timedelta(0))
    assert not (await waits).task.state.is_final


def test_the_oldest_task_is_forgotten_when_there_are_too_many():
    recent = RecentTasks()
    for number in range(MAX_REMEMBERED + 1):
        recent.remember(UUID(int=number), Recent("default", ["last"]))
    assert recent.find(UUID(int=0), tenant_id="default") is None
    assert recent.find(UUID(int=1), tenant_id="default") is not None


async def watched(record, after=0, *, hub=None, recheck=timedelta(0)):
    watches = Watches(record, record, hub or EventHub(), RecentTasks(), recheck=recheck)
    return [
        (event.cursor, event.type)
        async for event in watches.watch(TASK_ID, tenant_id="default", after=after)
    ]


async def test_a_watch_goes_on_when_the_task_is_retried_while_it_reads_the_failure():
    record = Record(
        (Task(2, is_final=True), [CREATED, FAILED, RETRIED]),
        (Task(3, is_final=False), []),
        (Task(4, is_final=True), [SUCCEEDED]),
    )
    assert await watched(record) == [(1, CREATED), (2, FAILED), (3, RETRIED), (4, SUCCEEDED)]


async def test_a_watch_that_reads_the_end_waits_for_nothing():
    """The event itself may come by the bus as well, or may have been lost there."""
    record = Record(
        (Task(1, is_final=False), [CREATED, SUCCEEDED]),
        (Task(2, is_final=True), []),
    )
    hub = EventHub()
    watch = asyncio.create_task(watched(record, hub=hub, recheck=LONG))
    await asyncio.sleep(0)
    # Who still listens is told that the service stops.
    hub.close()
    assert await watch == [(1, CREATED), (2, SUCCEEDED)]


@pytest.mark.parametrize("after", [0, 1, 2, 9])
async def test_a_watch_of_a_task_that_has_ended_ends(after):
    record = Record((Task(2, is_final=True), [CREATED, FAILED]))
    assert await watched(record, after) == [(1, CREATED), (2, FAILED)][after:]
