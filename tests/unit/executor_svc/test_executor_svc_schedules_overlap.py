"""What becomes of firings while the last task runs, and how it is remembered."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from executor_svc.engine.records import Failure
from executor_svc.schedules.overlap import Decision, decide
from executor_svc.schedules.records import MAX_RECENT, Outcome, OverlapPolicy, Run, with_runs

SKIP, BUFFER_ONE = OverlapPolicy.SKIP, OverlapPolicy.BUFFER_ONE
ALLOW, CANCEL_OTHER = OverlapPolicy.ALLOW, OverlapPolicy.CANCEL_OTHER
A, B, C, D = (datetime(2025, 1, 1, hour, tzinfo=UTC) for hour in range(4))
RECORDED = datetime(2025, 1, 2, tzinfo=UTC)


@pytest.mark.parametrize(
    ("policy", "running", "decision"),
    [
        (SKIP, False, Decision(starts=[A], skipped=[B, C])),
        (SKIP, True, Decision(skipped=[A, B, C])),
        (BUFFER_ONE, False, Decision(starts=[A], buffered=B, skipped=[C])),
        (BUFFER_ONE, True, Decision(buffered=A, skipped=[B, C])),
        (ALLOW, False, Decision(starts=[A, B, C])),
        (ALLOW, True, Decision(starts=[A, B, C])),
        (CANCEL_OTHER, False, Decision(starts=[C], skipped=[A, B])),
        (CANCEL_OTHER, True, Decision(starts=[C], cancels=True, skipped=[A, B])),
    ],
)
def test_what_becomes_of_firings(policy, running, decision):
    found = decide(policy, [A, B, C], running=running)
    assert list(found.starts) == list(decision.starts)
    assert list(found.skipped) == list(decision.skipped)
    assert (found.cancels, found.buffered) == (decision.cancels, decision.buffered)


@pytest.mark.parametrize("policy", OverlapPolicy)
@pytest.mark.parametrize("running", [False, True])
def test_without_firings_nothing_happens(policy, running):
    found = decide(policy, [], running=running)
    assert [*found.starts, *found.skipped] == []
    assert (found.cancels, found.buffered) == (False, None)


def test_a_firing_that_has_waited_goes_first():
    found = decide(BUFFER_ONE, [B, C], running=False, buffered=A)
    assert (found.starts, found.buffered, found.skipped) == ([A], B, [C])


def test_a_firing_that_waits_keeps_its_place():
    found = decide(BUFFER_ONE, [B], running=True, buffered=A)
    assert (found.starts, found.buffered, found.skipped) == ([], A, [B])


def run(nominal_at: datetime, outcome: Outcome = Outcome.STARTED) -> Run:
    return Run(nominal_at, outcome, RECORDED)


def test_runs_are_remembered_newest_first_and_not_for_ever():
    hours = [A + place * timedelta(hours=1) for place in range(MAX_RECENT + 3)]
    recent = []
    for hour in hours:
        recent = with_runs(recent, [run(hour)])
    assert [each.nominal_at for each in recent] == hours[:2:-1]
    assert with_runs(recent, [run(each) for each in hours]) == recent


def test_a_firing_that_waited_is_remembered_once():
    recent = with_runs([], [run(A), run(B, Outcome.BUFFERED)])
    recent = with_runs(recent, [run(C, Outcome.SKIPPED)])
    recent = with_runs(recent, [run(B), run(D, Outcome.BUFFERED)])
    assert [(each.nominal_at, each.outcome) for each in recent] == [
        (D, Outcome.BUFFERED),
        (B, Outcome.STARTED),
        (C, Outcome.SKIPPED),
        (A, Outcome.STARTED),
    ]


@pytest.mark.parametrize(
    "one",
    [
        run(A),
        Run(A, Outcome.STARTED, RECORDED, task_id=UUID(int=1), manual=True),
        Run(A, Outcome.MISSED, RECORDED, until_at=B),
        Run(A, Outcome.FAILED, RECORDED, failure=Failure("R", "m", {"k": "v"})),
    ],
)
def test_a_run_is_read_as_it_was_written(one):
    assert Run.from_json(one.to_json()) == one
