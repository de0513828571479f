"""What follows from how an attempt ended. Pure.

`settle` turns an outcome into a settlement: the step's new state, the steps it makes
ready, the joins it arrives at, the event it leaves. The store carries it out in one
transaction, if the attempt is still the one that runs the step.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import orjson

from executor_svc.graph import Graph, Step, item_step_id
from executor_svc.records import Attempt, Blob, Failure, StepState
from stepwire.api.executor.v1.task_pb2 import TaskEventType
from stepwire.payload import JSON

EMPTY_LIST = Blob(b"[]", JSON)


@dataclass(frozen=True, slots=True)
class Succeeded:
    """The attempt gave an output; None for a for_each step whose items have it."""

    output: Blob | None


@dataclass(frozen=True, slots=True)
class Expanded:
    """The attempt of a for_each step gave its items, each as JSON."""

    items: Sequence[bytes]


@dataclass(frozen=True, slots=True)
class Failed:
    """The attempt failed.

    Attributes:
        retryable: whether another attempt could succeed.
        retry_after: shortest wait before it, as the failure itself asks for.
    """

    failure: Failure
    retryable: bool = True
    retry_after: timedelta | None = None


Outcome = Succeeded | Expanded | Failed


@dataclass(frozen=True, slots=True)
class NextStep:
    """A step that gets its row by a settlement, ready to run."""

    step_id: str
    ordinal: int
    item: int | None
    queue: str
    input: bytes | None
    claim: bool


@dataclass(frozen=True, slots=True)
class Arrival:
    """A step that counts a settlement as one of those it waits for."""

    step_id: str
    claim: bool


@dataclass(frozen=True, slots=True)
class Settlement:
    """What is recorded for an attempt.

    Attributes:
        due_at: when the next attempt is due; None if there is none.
        items: number of items started; None if none are.
        sink: whether the task waits for this step, and it succeeded or failed for good.
        event: [type, step_id, attempt, detail?] as JSON.
        next: steps made ready. `claim` in it and in `joins` asks to continue with the step
            in the same session.
        joins: steps that count this one as arrived.
    """

    attempt: Attempt
    state: StepState
    event: str
    output: Blob | None = None
    failure: Failure | None = None
    due_at: datetime | None = None
    items: int | None = None
    sink: bool = False
    next: Sequence[NextStep] = ()
    joins: Sequence[Arrival] = ()


def settle(
    graph: Graph,
    attempt: Attempt,
    outcome: Outcome,
    *,
    now: datetime,
    rng: random.Random,
    may_continue: bool,
) -> Settlement:
    """Decide what follows from `outcome`.

    Args:
        graph: the task's graph.
        attempt: the attempt that ended.
        outcome: how it ended.
        now: the time from which waits are counted.
        rng: source of jitter.
        may_continue: whether the worker wants to run what follows itself.
    """
    step = graph.steps[attempt.ordinal]
    match outcome:
        case Succeeded(output):
            return _succeed(graph, step, attempt, output, may_continue=may_continue)
        case Expanded(items) if items:
            return _expand(step, attempt, items, may_continue=may_continue)
        case Expanded():
            return _succeed(graph, step, attempt, EMPTY_LIST, may_continue=may_continue)
        case Failed():
            return _fail(step, attempt, outcome, now=now, rng=rng)


def _succeed(
    graph: Graph, step: Step, attempt: Attempt, output: Blob | None, *, may_continue: bool
) -> Settlement:
    event = _event(TaskEventType.TASK_EVENT_TYPE_STEP_SUCCEEDED, attempt)
    if attempt.item is not None:
        return Settlement(
            attempt=attempt,
            state=StepState.SUCCEEDED,
            event=event,
            output=output,
            joins=[Arrival(step.name, may_continue)],
        )
    following = [graph.steps[ordinal] for ordinal in step.successors]
    # A chain stays where it is; a fork is spread over the workers by its messages.
    claim = may_continue and len(following) == 1 and following[0].queue == step.queue
    return Settlement(
        attempt=attempt,
        state=StepState.SUCCEEDED,
        event=event,
        output=output,
        sink=step.is_sink,
        next=[
            NextStep(successor.name, successor.ordinal, None, successor.queue, None, claim)
            for successor in following
            if len(successor.depends_on) == 1
        ],
        joins=[
            Arrival(successor.name, claim)
            for successor in following
            if len(successor.depends_on) > 1
        ],
    )


def _expand(
    step: Step, attempt: Attempt, items: Sequence[bytes], *, may_continue: bool
) -> Settlement:
    claim = may_continue and len(items) == 1
    return Settlement(
        attempt=attempt,
        state=StepState.WAITING,
        event=_event(TaskEventType.TASK_EVENT_TYPE_STEP_EXPANDED, attempt, {"items": len(items)}),
        items=len(items),
        next=[
            NextStep(item_step_id(step.name, index), step.ordinal, index, step.queue, item, claim)
            for index, item in enumerate(items)
        ],
    )


def _fail(
    step: Step, attempt: Attempt, outcome: Failed, *, now: datetime, rng: random.Random
) -> Settlement:
    wait = None
    if outcome.retryable:
        wait = step.retry.backoff(failures=attempt.failures + 1, rng=rng)
    detail = outcome.failure.to_json()
    if wait is None:
        return Settlement(
            attempt=attempt,
            state=StepState.FAILED,
            event=_event(TaskEventType.TASK_EVENT_TYPE_STEP_FAILED, attempt, detail),
            failure=outcome.failure,
        )
    wait = max(wait, outcome.retry_after or wait)
    return Settlement(
        attempt=attempt,
        state=StepState.WAITING,
        event=_event(TaskEventType.TASK_EVENT_TYPE_STEP_RETRYING, attempt, detail),
        failure=outcome.failure,
        due_at=now + wait,
    )


def _event(
    type_: TaskEventType.ValueType, attempt: Attempt, detail: dict[str, object] | None = None
) -> str:
    head = [type_, attempt.step_id, attempt.attempt]
    return orjson.dumps(head if detail is None else [*head, detail]).decode()
