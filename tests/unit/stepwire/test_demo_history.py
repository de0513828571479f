"""The check of the crash demo must turn red on every kind of bad history."""

from collections.abc import Sequence

import pytest

from stepwire.api.executor.v1.task_pb2 import StepRun, StepState, Task, TaskEvent, TaskEventType
from stepwire.demo.history import Findings, check_history
from stepwire.demo.ledger import Execution

STARTED, SUCCEEDED, LOST = "STEP_STARTED", "STEP_SUCCEEDED", "STEP_LOST"
GOOD = [
    ("TASK_CREATED", "", 0),
    (STARTED, "split", 1),
    (LOST, "split", 1),
    (STARTED, "split", 2),
    (SUCCEEDED, "split", 2),
    (STARTED, "embed", 1),
    (SUCCEEDED, "embed", 1),
    ("TASK_SUCCEEDED", "", 0),
]
LEDGER = [Execution("t", "split", 1), Execution("t", "split", 2)]


def events(rows: Sequence[tuple[str, str, int]]) -> list[TaskEvent]:
    return [
        TaskEvent(
            task_id="t",
            cursor=cursor,
            type=TaskEventType.Value(f"TASK_EVENT_TYPE_{kind}"),
            step_id=step,
            attempt=attempt,
        )
        for cursor, (kind, step, attempt) in enumerate(rows, start=1)
    ]


def task(rows: Sequence[tuple[str, str, int]], *, split_attempt: int = 2) -> Task:
    done = StepState.STEP_STATE_SUCCEEDED
    return Task(
        task_id="t",
        last_cursor=len(rows),
        steps=[
            StepRun(step_id="split", state=done, attempt=split_attempt),
            StepRun(step_id="embed", state=done, attempt=1),
        ],
    )


def check(
    rows: Sequence[tuple[str, str, int]] = GOOD,
    ledger: Sequence[Execution] = LEDGER,
    *,
    split_attempt: int = 2,
) -> Findings:
    return check_history(
        [task(rows, split_attempt=split_attempt)],
        events={"t": events(rows)},
        ledger=ledger,
        ledgered_steps={"split"},
    )


def test_a_good_history_with_a_lost_attempt_passes() -> None:
    assert check() == Findings(
        violations=(), completed_steps=2, lost_attempts=1, rerun_steps=1, executions=2
    )


def test_an_attempt_that_was_lost_before_its_function_ran_is_no_violation() -> None:
    assert check(ledger=LEDGER[1:]).violations == ()


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [
        ([*GOOD[:5], (SUCCEEDED, "split", 2), *GOOD[5:]], "2 events STEP_SUCCEEDED"),
        ([row for row in GOOD if row != (SUCCEEDED, "embed", 1)], "0 events STEP_SUCCEEDED"),
        ([*GOOD[:5], (STARTED, "split", 3), *GOOD[5:]], "started after the step was completed"),
        ([*GOOD[:4], (STARTED, "split", 2), *GOOD[4:]], "attempt 2 started 2 times"),
    ],
    ids=["completed twice", "not completed", "started again", "attempt started twice"],
)
def test_a_bad_record_is_found(rows: list[tuple[str, str, int]], complaint: str) -> None:
    violations = check(rows).violations
    assert len(violations) == 1
    assert complaint in violations[0]


def test_a_success_of_another_attempt_than_the_recorded_one_is_found() -> None:
    violations = check(split_attempt=1).violations
    assert any("the record says attempt 1 completed it, the event says 2" in v for v in violations)


def test_a_gap_in_the_events_is_found() -> None:
    found = check_history(
        [task(GOOD)],
        events={"t": [event for event in events(GOOD) if event.cursor != 3]},
        ledger=LEDGER,
        ledgered_steps={"split"},
    )
    assert any("not numbered 1 to 8" in violation for violation in found.violations)


def test_a_task_without_events_is_found() -> None:
    found = check_history([task(GOOD)], events={}, ledger=LEDGER, ledgered_steps={"split"})
    assert len(found.violations) == 3


@pytest.mark.parametrize(
    ("ledger", "complaint"),
    [
        ([*LEDGER, Execution("t", "split", 2)], "attempt 2: executed 2 times"),
        ([*LEDGER, Execution("t", "split", 3)], "although attempt 2 completed the step"),
        ([*LEDGER, Execution("u", "split", 1)], "for a task that was not part of the run"),
        (LEDGER[:1], "the ledger has no such execution"),
        ([], "the ledger has no such execution"),
    ],
    ids=["executed twice", "executed after completion", "foreign", "not executed", "empty"],
)
def test_bad_side_effects_are_found(ledger: list[Execution], complaint: str) -> None:
    violations = check(ledger=ledger).violations
    assert len(violations) == 1
    assert complaint in violations[0]


def test_a_lost_attempt_without_a_later_success_is_no_rerun() -> None:
    rows = GOOD[:3]
    unfinished = Task(
        task_id="t",
        last_cursor=3,
        steps=[StepRun(step_id="split", state=StepState.STEP_STATE_READY, attempt=2)],
    )
    found = check_history(
        [unfinished], events={"t": events(rows)}, ledger=LEDGER[:1], ledgered_steps={"split"}
    )
    assert (found.violations, found.lost_attempts, found.rerun_steps) == ((), 1, 0)
