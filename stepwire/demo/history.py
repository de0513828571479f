"""Checks that no completed step ran twice: on the record, and on the side effects. Pure."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from stepwire.api.executor.v1.task_pb2 import (
    StepRun,
    StepState,
    Task,
    TaskEvent,
    TaskEventType,
)
from stepwire.demo.ledger import Execution

_STARTED = TaskEventType.TASK_EVENT_TYPE_STEP_STARTED
_SUCCEEDED = TaskEventType.TASK_EVENT_TYPE_STEP_SUCCEEDED
_LOST = TaskEventType.TASK_EVENT_TYPE_STEP_LOST


@dataclass(frozen=True, slots=True)
class Findings:
    """What the check of a run found.

    Attributes:
        violations: Each broken rule, for people; empty if all holds.
        completed_steps: Steps that the record says were completed.
        lost_attempts: Attempts that were lost with their worker.
        rerun_steps: Steps that lost an attempt and were completed by a later one.
        executions: Lines in the ledger.
    """

    violations: tuple[str, ...]
    completed_steps: int
    lost_attempts: int
    rerun_steps: int
    executions: int


def check_history(
    tasks: Iterable[Task],
    *,
    events: Mapping[str, Sequence[TaskEvent]],
    ledger: Sequence[Execution],
    ledgered_steps: Collection[str],
) -> Findings:
    """Checks finished tasks against their events and against the ledger.

    By the record, each task's events are numbered without gap; each step that SUCCEEDED has
    exactly one event STEP_SUCCEEDED, of the recorded attempt, and no STEP_STARTED behind it;
    no attempt starts twice. By the ledger, no attempt was executed twice, none after the one
    that completed the step, and that one was executed.

    Args:
        tasks: The tasks, with their steps.
        events: The events of each task by its id, in order.
        ledger: The executions that were counted.
        ledgered_steps: Names of the steps that count their executions.
    """
    known = {task.task_id: task for task in tasks}
    violations: list[str] = []
    for task_id, task in known.items():
        violations += _by_the_record(task, events.get(task_id, ()))
    violations += _by_the_ledger(known, ledger, ledgered_steps)
    lost = [
        (event.task_id, event.step_id)
        for task_id in known
        for event in events.get(task_id, ())
        if event.type == _LOST
    ]
    completed = {
        (task_id, step.step_id) for task_id, task in known.items() for step in _completed(task)
    }
    return Findings(
        violations=tuple(violations),
        completed_steps=len(completed),
        lost_attempts=len(lost),
        rerun_steps=len(set(lost) & completed),
        executions=len(ledger),
    )


def _by_the_record(task: Task, events: Sequence[TaskEvent]) -> Iterator[str]:
    cursors = [event.cursor for event in events]
    if cursors != list(range(1, task.last_cursor + 1)):
        yield f"task {task.task_id}: its events are not numbered 1 to {task.last_cursor}: {cursors}"
    starts = Counter((event.step_id, event.attempt) for event in events if event.type == _STARTED)
    for (step_id, attempt), times in starts.items():
        if times > 1:
            yield (f"task {task.task_id}, step {step_id}: attempt {attempt} started {times} times")
    by_step: dict[str, list[TaskEvent]] = {}
    for event in events:
        by_step.setdefault(event.step_id, []).append(event)
    for step in _completed(task):
        yield from _completed_once(task.task_id, step, by_step.get(step.step_id, []))


def _completed_once(task_id: str, step: StepRun, events: Sequence[TaskEvent]) -> Iterator[str]:
    where = f"task {task_id}, step {step.step_id}"
    successes = [event for event in events if event.type == _SUCCEEDED]
    if len(successes) != 1:
        yield f"{where}: it has {len(successes)} events STEP_SUCCEEDED instead of one"
        return
    success = successes[0]
    if success.attempt != step.attempt:
        yield (
            f"{where}: the record says attempt {step.attempt} completed it, "
            f"the event says {success.attempt}"
        )
    for event in events:
        if event.type == _STARTED and event.cursor > success.cursor:
            yield f"{where}: attempt {event.attempt} started after the step was completed"


def _by_the_ledger(
    tasks: Mapping[str, Task], ledger: Sequence[Execution], ledgered_steps: Collection[str]
) -> Iterator[str]:
    for execution, times in Counter(ledger).items():
        if times > 1:
            yield f"{_name(execution)}: executed {times} times"
    completed = {
        (task_id, step.step_id): step.attempt
        for task_id, task in tasks.items()
        for step in _completed(task)
    }
    for execution in dict.fromkeys(ledger):
        attempt = completed.get((execution.task_id, execution.step_id))
        if execution.task_id not in tasks:
            yield f"{_name(execution)}: executed for a task that was not part of the run"
        elif attempt is not None and execution.attempt > attempt:
            yield f"{_name(execution)}: executed although attempt {attempt} completed the step"
    executed = frozenset(ledger)
    for (task_id, step_id), attempt in completed.items():
        execution = Execution(task_id=task_id, step_id=step_id, attempt=attempt)
        if step_id in ledgered_steps and execution not in executed:
            yield f"{_name(execution)}: completed the step, but the ledger has no such execution"


def _completed(task: Task) -> list[StepRun]:
    return [step for step in task.steps if step.state == StepState.STEP_STATE_SUCCEEDED]


def _name(execution: Execution) -> str:
    return f"task {execution.task_id}, step {execution.step_id}, attempt {execution.attempt}"
