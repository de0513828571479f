"""P4 and compensation: every task comes to its end, and to the right one."""

from collections.abc import Iterator, Sequence

from tests.chaos.answers import Expected, expected
from tests.chaos.history import History, TaskEnd, TaskHistory
from tests.chaos.intents import FAILED, SUCCEEDED, StepIntent
from tests.chaos.oracles.common import FINAL, UNDO, UNFINISHED, step_of
from tests.chaos.values import digest, without_nonces


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
        model = expected(task.intent)
        yield from _wrong_answers(task.name, end, model)
        if end.state == SUCCEEDED:
            yield from _wrong_states(task.name, end, model)


def what_failed_is_undone(history: History) -> Iterator[str]:
    """A failed task's completed steps are undone once, the last one first; no other task's."""
    for task in history.tasks:
        end = task.end
        if end is None:
            continue
        undone = [step.step for step in end.steps if step.step.startswith(UNDO)]
        if end.state == FAILED:
            yield from _not_undone(task, end)
        elif undone:
            yield f"{task.name}: {end.state}, and yet undone: {', '.join(undone)}"


def _left(end: TaskEnd) -> str:
    left = UNFINISHED if end.state in FINAL else {*UNFINISHED, "WAITING", "BLOCKED"}
    return ", ".join(f"{step.step} {step.state}" for step in end.steps if step.state in left)


def _wrong_answers(name: str, end: TaskEnd, model: Expected) -> Iterator[str]:
    for step in end.steps:
        if step.state != SUCCEEDED or step.step.startswith(UNDO):
            continue
        if step.step not in model.answers:
            yield f"{name}: {step.step} is no step of it"
        elif without_nonces(step.output) != model.answers[step.step]:
            yield f"{name}: {step.step} gave {step.output}, which is not the right answer"


def _wrong_states(name: str, end: TaskEnd, model: Expected) -> Iterator[str]:
    found = {step.step: step.state for step in end.steps}
    for step_id, states in model.states.items():
        if found.get(step_id) not in states:
            yield f"{name}: SUCCEEDED, and {step_id} is {found.get(step_id, 'not there')}"


def _compensated(steps: Sequence[StepIntent], prefix: str = "") -> Iterator[str]:
    """Ids of the steps that can be undone, and of those that they add."""
    for step in steps:
        if step.undone:
            yield prefix + step.name
        if step.kind == "adds":
            yield from _compensated(step.inner, f"{prefix}{step.name}/")


def _not_undone(task: TaskHistory, end: TaskEnd) -> Iterator[str]:
    compensated = set(_compensated(task.intent.steps))
    model = expected(task.intent)
    done_at = {each.step: each.at for each in end.events if each.type == "STEP_SUCCEEDED"}
    started = {each.step: each.cursor for each in end.events if each.type == "STEP_STARTED"}
    undos: dict[str, str] = {}
    for step in end.steps:
        if step.step.partition("[")[0] not in compensated or step.state != SUCCEEDED:
            continue
        if step.step not in model.functions:
            # Of a for_each step the items are undone.
            continue
        undo_id = f"~undo/{step.step.replace('[', '_').replace('/', '_').rstrip(']')}"
        undos[step.step] = undo_id
        undo = step_of(end, undo_id)
        if undo is None or undo.state != SUCCEEDED:
            yield f"{task.name}: {step.step} was not undone"
        elif without_nonces(undo.output) != digest(undo_id, without_nonces(step.output)):
            yield f"{task.name}: {step.step} was undone with {undo.output}"
    for one, undo_one in undos.items():
        for other, undo_other in undos.items():
            if done_at[one] < done_at[other] and started.get(undo_one, 0) < started.get(
                undo_other, 0
            ):
                yield f"{task.name}: {one} was undone before {other}, and ended before it too"
