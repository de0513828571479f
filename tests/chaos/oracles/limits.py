"""P7: limits hold in the whole cluster, also where a process was only taken for dead.

What counts is what really runs, by the ledgers. A step is counted once, however many of its
attempts overlap: its place belongs to the step.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from tests.chaos.history import History, TaskEnd
from tests.chaos.intents import CANCELLED
from tests.chaos.ledger import Execution

NEVER = float("inf")
FAILURES = frozenset({"TASK_FAILED", "TASK_COMPENSATING"})
Times = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Span:
    """A time in which the holder of a place ran."""

    holder: str
    begun: float
    ended: float


def p7_limits_hold(history: History) -> Iterator[str]:
    """Never do more steps, or tasks, of a key run at once than its limit allows."""
    halts = _halts(history)
    spans: dict[tuple[str, int], list[Span]] = {}
    for task in history.tasks:
        if task.end is None:
            continue
        # What is cancelled gives its place up at once, and is stopped a moment later.
        cancelled = {step.step for step in task.end.steps if step.state == CANCELLED}
        own = [each for each in history.executions if each.task == task.recorded[0]]
        without_place = _times_without_place(task.end, own)
        limits = {step.name: step.limit for step in task.intent.steps if step.limit is not None}
        for each in own:
            if each.step in cancelled:
                continue
            begun, ended = each.begun, _end_of(each, halts)
            if limit := limits.get(each.step):
                holder = f"{task.name} {each.step}"
                spans.setdefault(limit, []).append(Span(holder, begun, ended))
            if few := task.intent.concurrency:
                spans.setdefault(few, []).extend(
                    Span(task.name, *times) for times in _less((begun, ended), without_place)
                )
    for (key, most), of_key in spans.items():
        holders = _most_at_once(of_key)
        if len(holders) > most:
            yield f"limit {key!r} of {most}: at once ran {', '.join(sorted(holders))}"


def _halts(history: History) -> Mapping[int, list[float]]:
    halts: dict[int, list[float]] = {}
    for halt in history.halts:
        halts.setdefault(halt.pid, []).append(halt.at)
    return halts


def _end_of(execution: Execution, halts: Mapping[int, list[float]]) -> float:
    """When an execution did its last: it ended, or its process halted and it was cut off."""
    ended = NEVER if execution.ended is None else execution.ended
    if execution.ended is not None and not execution.failed:
        return ended
    return min([ended, *(at for at in halts.get(execution.pid, ()) if at >= execution.begun)])


def _times_without_place(end: TaskEnd, executions: Sequence[Execution]) -> list[Times]:
    """When a task may have been without its own place, in order.

    It gives the place up when a step fails it, and what runs of it at that moment goes on. It has
    one again when a retry has begun that step anew.
    """
    times: list[Times] = []
    failed: tuple[str, int] = ("", 0)
    for event in end.events:
        if event.type == "STEP_FAILED":
            failed = event.step, event.attempt
        elif event.type in FAILURES:
            step, attempt = failed
            tries = [each for each in executions if each.step == step]
            ends = [each.ended for each in tries if each.attempt == attempt and each.ended]
            again = [each.begun for each in tries if each.attempt > attempt]
            times.append((min(ends, default=-NEVER), min(again, default=NEVER)))
    return times


def _less(times: Times, without: Sequence[Times]) -> Iterator[Times]:
    """What is left of a time without others, which are in order."""
    begun, ended = times
    for away, back in without:
        if begun < min(away, ended):
            yield begun, min(away, ended)
        begun = max(begun, back)
    if begun < ended:
        yield begun, ended


def _most_at_once(spans: list[Span]) -> set[str]:
    """The holders that ran at once when most did."""
    most: set[str] = set()
    for span in spans:
        at_once = {each.holder for each in spans if each.begun <= span.begun < each.ended}
        if len(at_once) > len(most):
            most = at_once
    return most
