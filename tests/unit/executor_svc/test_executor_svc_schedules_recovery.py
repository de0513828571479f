"""What a schedule learns of firings whose executor died before it had recorded them."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from executor_svc.schedules.records import Config, Held, Outcome, OverlapPolicy, Run, Schedule
from executor_svc.schedules.recovery import may_have_begun, recovered

MINUTE = timedelta(minutes=1)
NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
ONE = UUID(int=1)


def held(policy=OverlapPolicy.SKIP, *, lost=True, **fields):
    config = Config("* * * * *", "UTC", b"", policy, MINUTE, 1)
    fields = {"next_at": NOON, "due_at": NOON, **fields}
    schedule = Schedule(UUID(int=9), "default", "n", config, **fields)
    return Held(schedule, UUID(int=8), running=False, lost=lost, now=NOON + 9 * MINUTE)


@pytest.mark.parametrize(
    ("policy", "lost", "asks"),
    [
        (OverlapPolicy.SKIP, True, True),
        (OverlapPolicy.SKIP, False, False),
        (OverlapPolicy.ALLOW, True, False),
    ],
)
def test_who_takes_over_asks_where_tasks_exclude_each_other(policy, lost, asks):
    assert may_have_begun(held(policy, lost=lost)) is asks


def test_the_next_firing_is_behind_the_one_that_has_its_task():
    new = recovered(held(), {NOON + 2 * MINUTE: ONE})
    assert (new.next_at, new.last_task_id) == (NOON + 3 * MINUTE, ONE)
    started, missed = new.recent
    assert (started.outcome, started.nominal_at) == (Outcome.STARTED, NOON + 2 * MINUTE)
    assert (missed.outcome, missed.until_at) == (Outcome.MISSED, started.nominal_at)


def test_a_firing_that_waited_waits_no_more():
    waiting = held(OverlapPolicy.BUFFER_ONE, buffered_at=NOON - MINUTE)
    new = recovered(waiting, {NOON - MINUTE: ONE})
    assert (new.buffered_at, new.next_at, new.last_task_id) == (None, NOON, ONE)


def test_a_trigger_stands_for_no_other_firing():
    asked_at = NOON + timedelta(microseconds=1)
    known = Run(asked_at, Outcome.STARTED, asked_at, task_id=ONE, manual=True)
    new = recovered(held(recent=[known]), {asked_at: ONE})
    assert (new.next_at, new.last_task_id, new.recent) == (NOON, ONE, [known])
