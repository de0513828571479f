"""Reading the fields of requests."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from executor_svc.engine.records import TaskState
from executor_svc.tasks.bulk import Action, Position
from executor_svc.tasks.fields import (
    action_of,
    filter_of,
    page_size_of,
    page_start,
    page_token,
    position_of,
    position_token,
    state_of,
    time_of,
    timeout_of,
)
from executor_svc.tasks.filters import TaskFilter
from stepwire.api.executor.v1 import executor_service_pb2 as pb
from stepwire.api.executor.v1 import task_pb2
from stepwire.errors import Reason, StepwireError

LIMIT = timedelta(minutes=5)
ANY = TaskFilter()
POSITION = Position(UUID(int=1), UUID(int=2))


@given(st.uuids())
def test_a_page_token_comes_back(task_id: UUID):
    token = page_token(task_id, ANY, tenant_id="t")
    assert page_start(token, ANY, tenant_id="t") == task_id


def test_no_token_is_the_first_page():
    assert page_start("", ANY, tenant_id="t") is None
    assert position_of("", ANY, Action.CANCEL, tenant_id="t") is None


@pytest.mark.parametrize(
    ("wanted", "tenant_id"), [(ANY, "other"), (TaskFilter(labels={"a": "b"}), "t")]
)
def test_a_token_of_another_tenant_or_filter_is_refused(wanted, tenant_id):
    token = page_token(UUID(int=1), wanted, tenant_id=tenant_id)
    with pytest.raises(StepwireError) as caught:
        page_start(token, ANY, tenant_id="t")
    assert caught.value.reason == Reason.PAGE_TOKEN_INVALID


@given(st.uuids(), st.uuids())
def test_a_position_comes_back(last: UUID, end: UUID):
    position = Position(last, end)
    token = position_token(position, ANY, Action.FORK, tenant_id="t")
    assert position_of(token, ANY, Action.FORK, tenant_id="t") == position


def test_the_end_has_no_token():
    assert position_token(None, ANY, Action.FORK, tenant_id="t") == ""


@pytest.mark.parametrize(
    ("wanted", "action", "tenant_id"),
    [
        (ANY, Action.CANCEL, "other"),
        (ANY, Action.PAUSE, "t"),
        (TaskFilter(state=TaskState.FAILED), Action.CANCEL, "t"),
    ],
)
def test_a_position_belongs_to_its_operation(wanted, action, tenant_id):
    token = position_token(POSITION, wanted, action, tenant_id=tenant_id)
    with pytest.raises(StepwireError) as caught:
        position_of(token, ANY, Action.CANCEL, tenant_id="t")
    assert caught.value.reason == Reason.PAGE_TOKEN_INVALID


def test_a_page_of_a_list_is_no_position():
    with pytest.raises(StepwireError):
        position_of(page_token(UUID(int=1), ANY, tenant_id="t"), ANY, Action.CANCEL, tenant_id="t")


@pytest.mark.parametrize(("asked", "given_"), [(0, 50), (1, 1), (1000, 1000), (5000, 1000)])
def test_page_sizes(asked, given_):
    assert page_size_of(asked) == given_


def test_the_default_size_of_a_page():
    assert page_size_of(0, default=7) == 7


def test_states():
    assert state_of(0) is None
    for name, number in task_pb2.TaskState.items()[1:]:
        assert state_of(number) == TaskState[name.removeprefix("TASK_STATE_")]
    with pytest.raises(StepwireError):
        state_of(77)


def test_actions():
    for name, number in pb.TaskAction.items()[1:]:
        assert action_of(number) is Action[name.removeprefix("TASK_ACTION_")]
    for number in (0, 77):
        with pytest.raises(StepwireError) as caught:
            action_of(number)
        assert [fault.field for fault in caught.value.faults] == ["action"]


def test_a_filter():
    message = pb.TaskFilter(
        state=task_pb2.TASK_STATE_FAILED,
        labels={"a": "b"},
        workflow="w",
        workflow_version="1",
        failure_reason="STEP_FAILED",
        created_from=Timestamp(seconds=1),
        created_before=Timestamp(),
    )
    assert filter_of(message) == TaskFilter(
        state=TaskState.FAILED,
        labels={"a": "b"},
        workflow="w",
        workflow_version="1",
        failure_reason="STEP_FAILED",
        created_from=datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC),
        created_before=datetime(1970, 1, 1, tzinfo=UTC),
    )
    assert filter_of(pb.TaskFilter()) == TaskFilter()


@pytest.mark.parametrize(
    ("message", "field"),
    [
        (pb.TaskFilter(state=99), "filter.state"),
        (pb.TaskFilter(labels={"": "x"}), "filter.labels['']"),
        (pb.TaskFilter(workflow="\0"), "filter.workflow"),
        (pb.TaskFilter(workflow="x" * 201), "filter.workflow"),
        (pb.TaskFilter(workflow_version="1"), "filter.workflow"),
        (pb.TaskFilter(failure_reason="x" * 201), "filter.failure_reason"),
        (pb.TaskFilter(created_from=Timestamp(nanos=-1)), "filter.created_from"),
        (pb.TaskFilter(created_before=Timestamp(seconds=2**62)), "filter.created_before"),
    ],
)
def test_bad_filters(message, field):
    with pytest.raises(StepwireError) as caught:
        filter_of(message)
    assert [fault.field for fault in caught.value.faults] == [field]


@pytest.mark.parametrize(
    "message", [Timestamp(seconds=2**62), Timestamp(nanos=10**9), Timestamp(seconds=-(2**40))]
)
def test_bad_points_in_time(message):
    with pytest.raises(StepwireError) as caught:
        time_of(message, field="there")
    assert [fault.field for fault in caught.value.faults] == ["there"]


@pytest.mark.parametrize(
    ("seconds", "expected"), [(0, LIMIT), (1, timedelta(seconds=1)), (3600, LIMIT)]
)
def test_timeouts(seconds, expected):
    assert timeout_of(Duration(seconds=seconds), limit=LIMIT) == expected


@pytest.mark.parametrize("seconds", [-1, 2**62, -(2**62)])
def test_bad_timeouts(seconds):
    with pytest.raises(StepwireError) as caught:
        timeout_of(Duration(seconds=seconds), limit=LIMIT)
    assert caught.value.reason == Reason.FIELD_INVALID
