"""The promises as oracles: each reads a run's history and says what breaks its promise. Pure.

What an oracle trusts: the ledgers, which step functions write themselves, and the answers
that clients were given. Against these it holds the record and its events.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from tests.chaos.history import Event, History, StepEnd, TaskEnd, TaskHistory
from tests.chaos.intents import CANCELLED, FAILED, SUCCEEDED
from tests.chaos.ledger import Execution
from tests.chaos.values import nonces, without_nonces

FINAL = frozenset({SUCCEEDED, FAILED, CANCELLED})
# States in which a step of a task that has ended would be forgotten work.
UNFINISHED = frozenset({"READY", "RUNNING"})
ENDED_BADLY = frozenset({"STEP_RETRYING", "STEP_FAILED", "STEP_LOST"})
ENDED = frozenset({"STEP_SUCCEEDED", "STEP_EXPANDED", *ENDED_BADLY})


@dataclass(frozen=True, slots=True)
class Violation:
    """A promise that was not kept."""

    oracle: str
    what: str


Oracle = Callable[[History], Iterator[str]]


def p1_accepted_is_never_lost(history: History) -> Iterator[str]:
    """Every task whose acceptance was answered is in the record."""
    for task in history.tasks:
        for task_id in sorted(set(task.answers) - set(task.recorded)):
            yield f"{task.name}: accepted as {task_id}, and the record does not know it"
        if task.answers:
            for refusal in task.refusals:
                yield f"{task.name}: accepted, and then refused: {refusal}"


def p2_a_completed_step_never_runs_again(history: History) -> Iterator[str]:
    """No attempt starts behind a step's completion, by the events or by the ledgers."""
    ends = _ends(history)
    for name, end in ends.values():
        completed: set[str] = set()
        for event in end.events:
            if event.type == "STEP_STARTED" and event.step in completed:
                yield f"{name}: {event.step} started as {event.attempt} after it had succeeded"
            if event.type == "STEP_SUCCEEDED":
                completed.add(event.step)
    times = Counter((each.task, each.step, each.attempt) for each in history.executions)
    for (task_id, step_id, attempt), count in times.items():
        name, end = ends.get(task_id, (task_id, None))
        if end is None:
            yield f"{name}: {step_id} was executed for a task that the record does not have"
            continue
        step = _step(end, step_id)
        where = f"{name}: {step_id}, attempt {attempt},"
        if count > 1:
            yield f"{where} was executed {count} times"
        if step is None:
            yield f"{where} was executed, and the record has no such step"
        elif attempt > step.attempt:
            yield f"{where} was executed, and the record knows of {step.attempt} attempts"


def p3_one_recorded_result_per_step(history: History) -> Iterator[str]:
    """A step has one result: that of the attempt recorded; nobody saw another."""
    executions: dict[str, list[Execution]] = defaultdict(list)
    for each in history.executions:
        executions[each.task].append(each)
    for task_id, (name, end) in _ends(history).items():
        yield from _results_after_the_end_of_an_attempt(name, end)
        yield from _one_success_each(name, end)
        yield from _results_of_others(name, end, executions[task_id])


def p4_nothing_is_stranded(history: History) -> Iterator[str]:
    """Every request is answered, every task ends as it should, with the right answers."""
    for task in history.tasks:
        if task.unanswered:
            yield f"{task.name}: {task.unanswered} requests were never answered"
        end = task.end
        if end is None:
            continue
        if end.state not in FINAL:
            yield f"{task.name}: still {end.state}: {_left(end)}"
            continue
        if end.state not in task.intent.ends:
            ends = " or ".join(task.intent.ends)
            yield f"{task.name}: {end.state} ({end.failure}) instead of {ends}"
        if left := _left(end):
            yield f"{task.name}: {end.state}, and steps are left behind: {left}"
        yield from _wrong_answers(task, end)


def p5_a_join_fires_exactly_once(history: History) -> Iterator[str]:
    """A step starts when all that it waits for has succeeded, and again only for a reason."""
    for task in history.tasks:
        if task.end is None:
            continue
        needs = {step.name: step.depends_on for step in task.intent.steps}
        items = {step.name for step in task.intent.steps if step.items is not None}
        done: set[str] = set()
        for event in task.end.events:
            if event.type == "STEP_STARTED" and (missing := set(needs.get(event.step, ())) - done):
                yield f"{task.name}: {event.step} started before {', '.join(sorted(missing))}"
            if event.type == "STEP_SUCCEEDED":
                done.add(event.step)
                if event.step in items:
                    yield from _gathered(task, event, done)
        yield from _starts_without_reason(task.name, task.end)


def p6_cancel_is_final(history: History) -> Iterator[str]:
    """Once a cancellation was answered, nothing of the task is recorded any more."""
    for task in history.tasks:
        end = task.end
        if end is None:
            continue
        types = [event.type for event in end.events]
        if "TASK_CANCELLED" in types[:-1]:
            place = types.index("TASK_CANCELLED")
            behind = ", ".join(f"{each.type} {each.step}" for each in end.events[place + 1 :])
            yield f"{task.name}: recorded after the cancellation: {behind}"
        if task.cancelled is None:
            continue
        if end.state != CANCELLED:
            yield f"{task.name}: cancelled, and yet {end.state}"
        if end.last_cursor != task.cancelled:
            yield (
                f"{task.name}: cancelled at cursor {task.cancelled}, and now at {end.last_cursor}"
            )


def p8_the_same_request_id_gives_the_same_task(history: History) -> Iterator[str]:
    """However often a request is sent, one task is made and answered."""
    for task in history.tasks:
        if len(set(task.answers)) > 1:
            yield f"{task.name}: one request, several tasks answered"
        if len(task.recorded) > 1:
            yield f"{task.name}: one request, {len(task.recorded)} tasks in the record"


def p9_order_without_gap(history: History) -> Iterator[str]:
    """A watcher sees exactly the task's events, in order, without gap."""
    for task in history.tasks:
        end = task.end
        if end is None:
            continue
        cursors = [event.cursor for event in end.events]
        if cursors != list(range(1, end.last_cursor + 1)):
            yield f"{task.name}: events numbered {cursors}, and last_cursor is {end.last_cursor}"
        for watch in task.watches:
            expected = end.events[watch.after : watch.after + len(watch.events)]
            if watch.events != expected:
                seen = [event.cursor for event in watch.events]
                yield f"{task.name}: watched from {watch.after}, shown {seen}: not the record"
            elif watch.ended and not _ends_a_task(watch.events):
                yield f"{task.name}: a watch from {watch.after} ended before the task"


def a_blocked_loop_keeps_its_lease(history: History) -> Iterator[str]:
    """What a process ran while its event loop stood still was not taken from it."""
    ran = {(each.task, each.step, each.attempt): each.pid for each in history.executions}
    for task_id, (name, end) in _ends(history).items():
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


ORACLES: Mapping[str, Oracle] = {
    "P1": p1_accepted_is_never_lost,
    "P2": p2_a_completed_step_never_runs_again,
    "P3": p3_one_recorded_result_per_step,
    "P4": p4_nothing_is_stranded,
    "P5": p5_a_join_fires_exactly_once,
    "P6": p6_cancel_is_final,
    "P8": p8_the_same_request_id_gives_the_same_task,
    "P9": p9_order_without_gap,
    "lease": a_blocked_loop_keeps_its_lease,
}


def judge(history: History) -> list[Violation]:
    """Ask all oracles."""
    return [Violation(name, what) for name, oracle in ORACLES.items() for what in oracle(history)]


def _ends(history: History) -> dict[str, tuple[str, TaskEnd]]:
    """The recorded end of each task by its id, with the name for violations."""
    return {
        task.recorded[0]: (task.name, task.end)
        for task in history.tasks
        if task.end is not None and task.recorded
    }


def _step(end: TaskEnd, step_id: str) -> StepEnd | None:
    return next((step for step in end.steps if step.step == step_id), None)


def _results_after_the_end_of_an_attempt(name: str, end: TaskEnd) -> Iterator[str]:
    over: dict[tuple[str, int], str] = {}
    for event in end.events:
        attempt = event.step, event.attempt
        if event.type not in ENDED:
            continue
        before = over.get(attempt)
        # A for_each step ends twice: when it has started its items, and when it has
        # gathered what they gave.
        if before not in {None, "STEP_EXPANDED"}:
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


def _results_of_others(name: str, end: TaskEnd, executions: list[Execution]) -> Iterator[str]:
    made: dict[tuple[str, int], set[str]] = defaultdict(set)
    for each in executions:
        made[each.step, each.attempt].add(each.nonce)
    recorded: set[str] = set()
    for step in end.steps:
        # The output of a for_each step is its items'.
        if step.state == SUCCEEDED and isinstance(step.output, dict):
            own = set(nonces(step.output))
            recorded |= own
            if not own <= made[step.step, step.attempt]:
                yield f"{name}: {step.step} has the result of another attempt than {step.attempt}"
    for each in executions:
        if unknown := set(each.saw) - recorded:
            yield (
                f"{name}: {each.step}, attempt {each.attempt}, was given a result that is not"
                f" the recorded one ({', '.join(sorted(unknown))})"
            )


def _left(end: TaskEnd) -> str:
    left = UNFINISHED if end.state in FINAL else {*UNFINISHED, "WAITING", "BLOCKED"}
    return ", ".join(f"{step.step} {step.state}" for step in end.steps if step.state in left)


def _wrong_answers(task: TaskHistory, end: TaskEnd) -> Iterator[str]:
    expected: dict[str, Any] = dict(task.intent.answers())
    found = {step.step: step for step in end.steps}
    if end.state == SUCCEEDED:
        gathered = {step.name for step in task.intent.steps if step.items is not None}
        if found.keys() != expected.keys() | gathered:
            yield f"{task.name}: SUCCEEDED with the steps {sorted(found)}"
        for step in end.steps:
            if step.state != SUCCEEDED:
                yield f"{task.name}: SUCCEEDED, and {step.step} is {step.state}"
    for step_id, answer in expected.items():
        step = found.get(step_id)
        if step is None or step.state != SUCCEEDED:
            continue
        if without_nonces(step.output) != answer:
            yield f"{task.name}: {step_id} gave {step.output}, which is not the right answer"


def _gathered(task: TaskHistory, event: Event, done: set[str]) -> Iterator[str]:
    items = {f"{event.step}[{place}]" for place in range(len(task.intent.items))}
    if missing := items - done:
        yield f"{task.name}: {event.step} was gathered without {', '.join(sorted(missing))}"


def _starts_without_reason(name: str, end: TaskEnd) -> Iterator[str]:
    by_step: dict[str, list[Event]] = defaultdict(list)
    for event in end.events:
        if event.step:
            by_step[event.step].append(event)
    for step_id, events in by_step.items():
        for before, event in pairwise(events):
            if event.type == "STEP_STARTED" and before.type not in ENDED_BADLY:
                yield f"{name}: {step_id} started as {event.attempt} behind {before.type}"
            if event.type == "STEP_STARTED" and event.attempt <= before.attempt:
                yield f"{name}: {step_id} started as {event.attempt} behind {before.attempt}"


def _ends_a_task(events: tuple[Event, ...]) -> bool:
    """Whether the last that these events say of the task itself is its end.

    Behind TASK_FAILED there may be results of steps that ran at that moment.
    """
    of_task = [event.type for event in events if not event.step]
    return bool(of_task) and of_task[-1] in {f"TASK_{state}" for state in FINAL}
