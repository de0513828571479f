"""Reading the fields of requests."""

from datetime import timedelta
from uuid import UUID

import pytest
from google.protobuf.duration_pb2 import Duration
from hypothesis import given
from hypothesis import strategies as st

from executor_svc.codec import page_size_of, page_start, page_token, state_of, timeout_of
from executor_svc.records import TaskState
from stepwire.api.executor.v1 import task_pb2
from stepwire.errors import Reason, StepwireError

LIMIT = timedelta(minutes=5)


@given(st.uuids())
def test_a_page_token_comes_back(task_id: UUID):
    token = page_token(task_id, tenant_id="t")
    assert page_start(token, tenant_id="t") == task_id


def test_no_token_is_the_first_page():
    assert page_start("", tenant_id="t") is None


def test_another_tenants_token_is_refused():
    with pytest.raises(StepwireError) as caught:
        page_start(page_token(UUID(int=1), tenant_id="other"), tenant_id="t")
    assert caught.value.reason == Reason.PAGE_TOKEN_INVALID


@pytest.mark.parametrize(("asked", "given_"), [(0, 50), (1, 1), (1000, 1000), (5000, 1000)])
def test_page_sizes(asked, given_):
    assert page_size_of(asked) == given_


def test_states():
    assert state_of(0) is None
    assert state_of(task_pb2.TASK_STATE_FAILED) == TaskState.FAILED
    with pytest.raises(StepwireError):
        state_of(77)


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
