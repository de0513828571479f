"""Which tasks somebody asks for."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from executor_svc.engine.records import TaskState
from executor_svc.tasks.filters import IdRange, TaskFilter
from executor_svc.tasks.task_ids import FIRST_ID, LAST_ID, created_at
from stepwire.ids import uuid7

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
CONDITIONS = [
    TaskFilter(state=TaskState.RUNNING),
    TaskFilter(labels={"a": "b"}),
    TaskFilter(labels={"a": "", "b": ""}),
    TaskFilter(workflow="w"),
    TaskFilter(workflow_version="w"),
    TaskFilter(failure_reason="w"),
    TaskFilter(created_from=NOON),
    TaskFilter(created_before=NOON),
]


def test_a_filter_without_conditions_is_empty():
    assert TaskFilter().is_empty
    assert not any(each.is_empty for each in CONDITIONS)


def test_each_filter_has_a_key_of_its_own():
    assert len({each.key for each in [TaskFilter(), *CONDITIONS]}) == len(CONDITIONS) + 1


def test_the_order_of_labels_makes_no_other_key():
    one, other = TaskFilter(labels={"a": "1", "b": "2"}), TaskFilter(labels={"b": "2", "a": "1"})
    assert one.key == other.key


@pytest.mark.parametrize(
    ("wanted", "mark"),
    [
        (TaskFilter(), None),
        (TaskFilter(state=TaskState.RUNNING), None),
        (TaskFilter(state=TaskState.SUCCEEDED), None),
        (TaskFilter(state=TaskState.PAUSED), TaskState.PAUSED),
        (TaskFilter(state=TaskState.CANCELLED), TaskState.CANCELLED),
        (TaskFilter(state=TaskState.FAILED), TaskState.FAILED),
        (TaskFilter(failure_reason="STEP_FAILED"), TaskState.FAILED),
    ],
)
def test_what_is_indexed_by_mark(wanted, mark):
    assert wanted.mark is mark


def test_only_what_has_failed_has_a_reason():
    assert TaskFilter(state=TaskState.PAUSED, failure_reason="X").selects_nothing
    assert not TaskFilter(state=TaskState.FAILED, failure_reason="X").selects_nothing
    assert not TaskFilter(failure_reason="X").selects_nothing


def test_a_span_of_time_is_a_range_of_ids():
    task_id = uuid7()
    moment = created_at(task_id)
    one = timedelta(microseconds=1)

    def holds(ids):
        return ids.first <= task_id < ids.end

    assert holds(TaskFilter().ids)
    assert holds(TaskFilter(created_from=moment).ids)
    assert not holds(TaskFilter(created_from=moment + one).ids)
    assert holds(TaskFilter(created_before=moment + one).ids)
    assert not holds(TaskFilter(created_before=moment).ids)


def test_parts_of_a_range():
    ids = IdRange(UUID(int=10), UUID(int=20))
    assert ids.before(None) == ids
    assert ids.before(UUID(int=15)) == IdRange(UUID(int=10), UUID(int=15))
    assert ids.before(LAST_ID) == ids
    assert ids.since(UUID(int=15)) == IdRange(UUID(int=15), UUID(int=20))
    assert ids.since(FIRST_ID) == ids
