"""P2, P3 and the lease: what runs, how often, and whose result counts."""

from collections import Counter, defaultdict
from collections.abc import Iterator

from tests.chaos.answers import expected
from tests.chaos.history import History, TaskEnd, TaskHistory
from tests.chaos.intents import SUCCEEDED
from tests.chaos.ledger import Execution
from tests.chaos.oracles.common import ends_by_id, step_of
from tests.chaos.values import nonces

ENDED = frozenset({"STEP_SUCCEEDED", "STEP_EXPANDED", "STEP_RETRYING", "STEP_FAILED", "STEP_LOST"})
# After these an attempt goes on: when what it waits for has come.
PARTLY = frozenset({"STEP_EXPANDED"})


def p2_a_completed_step_never_runs_again(history: History) -> Iterator[str]:
    """No attempt starts behind a step's completion, and none twice, by events and ledgers."""
    ends = ends_by_id(history)
    for name, end in ends.values():
        yield from _starts_after_success(name, end)
    runs: dict[tuple[str, str, int], list[Execution]] = defaultdict(list)
    for each in history.executions:
        runs[each.task, each.step, each.attempt].append(each)
    for (task_id, step_id, attempt), executions in runs.items():
        if task_id not in ends:
            yield f"{task_id}: {step_id} was executed for a task that the record does not have"
            continue
        name, end = ends[task_id]
        where = f"{name}: {step_id}, attempt {attempt},"
        if len(executions) > 1:
            yield f"{where} was executed {len(executions)} times"
        step = step_of(end, step_id)
        if step is None:
            yield f"{where} was executed, and the record has no such step"
        elif attempt > step.attempt:
            yield f"{where} was executed, and the record knows of {step.attempt} attempts"


def p3_one_recorded_result_per_step(history: History) -> Iterator[str]:
    """A step has one result: that of the attempt recorded; nobody saw another."""
    executions: dict[str, list[Execution]] = defaultdict(list)
    for each in history.executions:
        executions[each.task].append(each)
    for task in history.tasks:
        if task.end is not None:
            yield from _results_after_the_end_of_an_attempt(task.name, task.end)
            yield from _one_success_each(task.name, task.end)
            yield from _results_of_others(task, task.end, executions[task.recorded[0]])


def a_blocked_loop_keeps_its_lease(history: History) -> Iterator[str]:
    """What a process ran while its event loop stood still was not taken from it."""
    ran = {(each.task, each.step, each.attempt): each.pid for each in history.executions}
    for task_id, (name, end) in ends_by_id(history).items():
        for event in end.events:
            if event.type != "STEP_LOST":
                continue
            pid = ran.get((task_id, event.step, event.attempt))
            for block in history.blocks:
                if pid == block.pid and 0 < event.at - block.at < block.ended - block.begun:
                    yield (
                        f"{name}: {event.step}, attempt {event.attempt}, was taken from process"
                        f" {pid}, whose event loop was only blocked"
                    )


def _starts_after_success(name: str, end: TaskEnd) -> Iterator[str]:
    completed: set[str] = set()
    for event in end.events:
        if event.type == "STEP_STARTED" and event.step in completed:
            yield f"{name}: {event.step} started as {event.attempt} after it had succeeded"
        if event.type == "STEP_SUCCEEDED":
            completed.add(event.step)


def _results_after_the_end_of_an_attempt(name: str, end: TaskEnd) -> Iterator[str]:
    over: dict[tuple[str, int], str] = {}
    for event in end.events:
        attempt = event.step, event.attempt
        if event.type not in ENDED:
            continue
        before = over.get(attempt)
        if before is not None and before not in PARTLY:
            yield (
                f"{name}: {event.step}, attempt {event.attempt}, is {event.type} after it was"
                f" {before}"
            )
        over[attempt] = event.type


def _one_success_each(name: str, end: TaskEnd) -> Iterator[str]:
    successes = Counter(event.step for event in end.events if event.type == "STEP_SUCCEEDED")
    for step_id, count in successes.items():
        if count > 1:
            yield f"{name}: {step_id} succeeded {count} times"
    for step in end.steps:
        if step.state == SUCCEEDED and successes[step.step] == 0:
            yield f"{name}: {step.step} has succeeded without an event"


def _results_of_others(
    task: TaskHistory, end: TaskEnd, executions: list[Execution]
) -> Iterator[str]:
    functions = expected(task.intent).functions
    made: dict[tuple[str, int], set[str]] = defaultdict(set)
    for each in executions:
        made[each.step, each.attempt].add(each.nonce)
    recorded: set[str] = set()
    for step in end.steps:
        if step.state != SUCCEEDED:
            continue
        own = set(nonces(step.output))
        recorded |= own
        if step.step in functions and not own <= made[step.step, step.attempt]:
            yield f"{task.name}: {step.step} has the result of another attempt than {step.attempt}"
    for each in executions:
        if unknown := set(each.saw) - recorded:
            yield (
                f"{task.name}: {each.step}, attempt {each.attempt}, was given a result that is"
                f" not the recorded one ({', '.join(sorted(unknown))})"
            )
