"""What a watch does when a task is retried between two of its looks into the record."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from executor_svc.engine.records import TaskEvent
from executor_svc.tasks.events import EventHub
from executor_svc.tasks.watching import Watches
from stepwire.api.executor.v1.task_pb2 import TaskEventType

TASK_ID = UUID(int=1)
NOW = datetime.now(UTC)
CREATED = TaskEventType.TASK_EVENT_TYPE_TASK_CREATED
FAILED = TaskEventType.TASK_EVENT_TYPE_TASK_FAILED
RETRIED = TaskEventType.TASK_EVENT_TYPE_TASK_RETRIED
SUCCEEDED = TaskEventType.TASK_EVENT_TYPE_TASK_SUCCEEDED


class State:
    def __init__(self, *, is_final):
        self.is_final = is_final


class Task:
    """A task as far as a watch looks at it."""

    def __init__(self, last_cursor, *, is_final):
        self.last_cursor = last_cursor
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


async def watched(record, after=0):
    watches = Watches(record, record, EventHub(), recheck=timedelta(0))
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


@pytest.mark.parametrize("after", [0, 1, 2, 9])
async def test_a_watch_of_a_task_that_has_ended_ends(after):
    record = Record((Task(2, is_final=True), [CREATED, FAILED]))
    assert await watched(record, after) == [(1, CREATED), (2, FAILED)][after:]
