"""P5, P6 and P9: what happens before what, and what is told of it."""

from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise

from tests.chaos.answers import Expected, expected
from tests.chaos.history import Event, History, TaskEnd, TaskHistory
from tests.chaos.intents import CANCELLED
from tests.chaos.oracles.common import FINAL

ENDED = {"STEP_SUCCEEDED", "STEP_SKIPPED", "STEP_FAILED"}
REASONS_TO_START_AGAIN = frozenset({"STEP_RETRYING", "STEP_FAILED", "STEP_LOST", "STEP_WAITING"})


def p5_a_join_fires_exactly_once(history: History) -> Iterator[str]:
    """A step starts when what it waits for has ended so, and again only for a reason."""
    for task in history.tasks:
        if task.end is not None:
            yield from _starts_too_early(task, task.end, expected(task.intent))
            yield from _starts_without_reason(task, task.end)


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
            recorded = end.events[watch.after : watch.after + len(watch.events)]
            if watch.events != recorded:
                seen = [event.cursor for event in watch.events]
                yield f"{task.name}: watched from {watch.after}, shown {seen}: not the record"
            elif watch.ended and not _ends_a_task(watch.events):
                yield f"{task.name}: a watch from {watch.after} ended before the task"


def _starts_too_early(task: TaskHistory, end: TaskEnd, model: Expected) -> Iterator[str]:
    succeeded: set[str] = set()
    ended: set[str] = set()
    for event in end.events:
        if event.type == "STEP_STARTED" and event.step in model.needs:
            rule, before = model.needs[event.step]
            if not _satisfied(rule, before, succeeded, ended):
                missing = ", ".join(sorted(before - succeeded))
                yield f"{task.name}: {event.step} started before {missing}"
        if event.type in ENDED:
            ended.add(event.step)
        if event.type == "STEP_SUCCEEDED":
            succeeded.add(event.step)
            if missing := ", ".join(sorted(_parts(task, event.step) - succeeded)):
                yield f"{task.name}: {event.step} was gathered without {missing}"


def _satisfied(rule: str, before: frozenset[str], succeeded: set[str], ended: set[str]) -> bool:
    match rule:
        case "ANY":
            return bool(before & succeeded)
        case "ALL_DONE":
            return before <= ended
    return before <= succeeded


def _parts(task: TaskHistory, step_id: str) -> set[str]:
    """The items, or the added steps, whose outputs a step gathers."""
    for step in task.intent.steps:
        if step.name == step_id and step.items is not None:
            return {f"{step_id}[{place}]" for place in range(len(task.intent.items))}
        if step.name == step_id and step.kind == "adds":
            return {f"{step_id}/{each.name}" for each in step.inner}
    return set()


def _starts_without_reason(task: TaskHistory, end: TaskEnd) -> Iterator[str]:
    # A start may be told of before the step has its place under its limit, and then again.
    limited = {step.name for step in task.intent.steps if step.limit is not None}
    by_step: dict[str, list[Event]] = defaultdict(list)
    for event in end.events:
        if event.step:
            by_step[event.step].append(event)
    for step_id, events in by_step.items():
        for before, event in pairwise(events):
            if event.type != "STEP_STARTED":
                continue
            if event.attempt == before.attempt and (
                before.type == "STEP_WAITING" or step_id in limited
            ):
                continue
            if before.type not in REASONS_TO_START_AGAIN:
                yield f"{task.name}: {step_id} started as {event.attempt} behind {before.type}"
            elif event.attempt <= before.attempt:
                yield f"{task.name}: {step_id} started as {event.attempt} behind {before.attempt}"


def _ends_a_task(events: tuple[Event, ...]) -> bool:
    """Whether the last that these events say of the task itself is its end.

    Behind TASK_FAILED there may be results of steps that ran at that moment.
    """
    of_task = [event.type for event in events if not event.step]
    return bool(of_task) and of_task[-1] in {f"TASK_{state}" for state in FINAL}
