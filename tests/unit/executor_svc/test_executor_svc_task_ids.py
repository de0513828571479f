"""Ids as points in time."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from executor_svc.tasks.task_ids import FIRST_ID, LAST_ID, created_at, first_id_at, next_id
from stepwire.ids import uuid7

MICROSECOND = timedelta(microseconds=1)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
TIMES = st.timedeltas(timedelta(0), timedelta(days=365 * 8000)).map(lambda span: EPOCH + span)
VERSION = 0x7 << 76
# Every part of an id but its version: milliseconds, fraction of one, what is random.
IDS = st.builds(
    lambda milliseconds, fraction, rest: UUID(
        int=milliseconds << 80 | VERSION | fraction << 64 | rest
    ),
    st.integers(0, 253_402_300_799_000),
    st.integers(0, 4095),
    st.integers(0, 2**64 - 1),
)


@given(IDS)
def test_an_id_lies_in_the_range_of_its_time(task_id):
    moment = created_at(task_id)
    assert first_id_at(moment) <= task_id
    assert task_id < first_id_at(moment + MICROSECOND)


@given(TIMES)
def test_the_first_id_of_a_time_is_made_then(moment):
    assert created_at(first_id_at(moment)) == moment


def test_an_id_is_made_now():
    before = datetime.now(UTC)
    moment = created_at(uuid7())
    # The clock of an id is read in nanoseconds, and cut.
    assert before - MICROSECOND <= moment <= datetime.now(UTC)


@pytest.mark.parametrize(
    ("moment", "task_id"),
    [
        (datetime(1, 1, 1, tzinfo=UTC), FIRST_ID),
        (datetime(1969, 12, 31, tzinfo=UTC), FIRST_ID),
    ],
)
def test_times_without_ids(moment, task_id):
    assert first_id_at(moment) == task_id


def test_the_next_id():
    assert next_id(UUID(int=5)) == UUID(int=6)
    assert next_id(LAST_ID) == LAST_ID
