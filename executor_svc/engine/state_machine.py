"""What follows from how an attempt ended. Pure.

`settle` turns an outcome into a settlement: the step's new state, the steps that it adds,
the joins it arrives at, the events it leaves. The store carries it out in one transaction,
if the attempt is still the one that runs the step.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import orjson

from executor_svc.engine.outcomes import (
    Added,
    Compensated,
    Expanded,
    Failed,
    Outcome,
    Skipped,
    Succeeded,
    Waits,
)
from executor_svc.engine.records import Attempt, Blob, Failure, Phase, StepState, Trait
from executor_svc.graphs.graph import Graph, JoinMode, Step, item_step_id
from executor_svc.graphs.retry import RetryPolicy
from stepwire.api.executor.v1.task_pb2 import TaskEventType as Type
from stepwire.errors import Reason
from stepwire.payload import JSON

EMPTY_LIST = Blob(b"[]", JSON)
# Settlements and what they hold are made for every step; freezing them would cost more than
# deciding them.

# What begins with it belongs to a task's compensation.
UNDO_MARK = "~"
# Kinds that are over as soon as they begin: a fork of them is not worth a message each.
INSTANT_KINDS = frozenset({"transform"})
# Most steps that a worker goes on with by itself after one settlement.
MAX_CLAIMS = 64


@dataclass(slots=True)
class NextStep:
    """A step that gets its row by a settlement.

    Attributes:
        needs: how many it waits for must succeed; with `open` 0, it is ready.
        open: how many it waits for have not ended.
        input: value of the item as JSON, for an item.
        lifetime: its schedule_to_close.
        scope: the step that adds it at run time, and the hash of the graph it adds.
        claim: whether the worker wants to run it itself.
    """

    step_id: str
    ordinal: int
    queue: str
    priority: int
    claim: bool = False
    item: int | None = None
    input: bytes | None = None
    needs: int = 0
    open: int = 0
    lifetime: timedelta | None = None
    phase: Phase = Phase.NEW
    scope: tuple[str, bytes] | None = None


@dataclass(slots=True)
class Arrival:
    """A step that counts a settlement as ended, and if `counts` as one of those it needs."""

    step_id: str
    counts: bool
    claim: bool


@dataclass(slots=True)
class Settlement:
    """What is recorded for an attempt.

    Attributes:
        retry: whether another attempt follows.
        fatal: whether it fails the task.
        waits_for, wait, until: what a WAITING step waits for, and how long at most, counted
            from the commit, or until when.
        items: number of items or added sinks started; None if none are.
        needs: how many of them must succeed.
        released: how many of them may run at once; None for all.
        prune: whether those that are left over are cancelled.
        sink: whether the task waits for this step, and it has ended well.
        inbox, added: input and hash of a graph that the step adds.
        compensates: whether steps of that graph can be undone.
        events: each [type, step_id, attempt, detail?] as JSON.
        next: steps that it adds.
        joins: steps that count it.
    """

    attempt: Attempt
    state: StepState
    events: Sequence[str]
    output: Blob | None = None
    failure: Failure | None = None
    retry: bool = False
    fatal: bool = False
    waits_for: str | None = None
    wait: timedelta | None = None
    until: datetime | None = None
    items: int | None = None
    needs: int | None = None
    released: int | None = None
    prune: bool = False
    sink: bool = False
    inbox: bytes | None = None
    added: bytes | None = None
    compensates: bool = False
    next: Sequence[NextStep] = ()
    joins: Sequence[Arrival] = ()


def settle(
    graph: Graph,
    attempt: Attempt,
    outcome: Outcome,
    *,
    now: datetime,
    rng: random.Random,
    claims: int,
    announced: bool = False,
) -> Settlement:
    """Decide what follows from `outcome`.

    Args:
        graph: the graph that the step is a step of.
        attempt: the attempt that ended.
        outcome: how it ended.
        now: the time at which it ended.
        rng: source of jitter.
        claims: how many of the steps that follow the worker wants to run itself; of those
            that are over as soon as they begin, it wants more.
        announced: whether the attempt's start is recorded already.
    """
    step = graph.steps[attempt.ordinal]
    match outcome:
        case Succeeded(output):
            settlement = _succeed(graph, step, attempt, output, claims=claims)
        case Skipped():
            settlement = _skip(graph, step, attempt, claims=claims)
        case Expanded(items) if 0 < len(items) >= step.items_join.needs(len(items)):
            settlement = _expand(step, attempt, items, claims=claims)
        case Expanded(items):
            short = _without_items(step, len(items))
            return settle(
                graph,
                attempt,
                short,
                now=now,
                rng=rng,
                claims=claims,
                announced=announced,
            )
        case Added():
            settlement = _add(attempt, outcome, claims=claims)
        case Waits():
            settlement = settle_wait(attempt, outcome)
        case Failed():
            settlement = _fail(graph, step, attempt, outcome, now=now, rng=rng)
        case Compensated():
            raise AssertionError("only a task's compensation ends so")
    declined = settlement.waits_for == "worker"
    if announced or declined or attempt.phase > Phase.PLACED or isinstance(outcome, Skipped):
        return settlement
    started = _event(Type.TASK_EVENT_TYPE_STEP_STARTED, attempt)
    settlement.events = [started, *settlement.events]
    return settlement


def settle_undo(
    attempt: Attempt, outcome: Outcome, *, rng: random.Random, claims: int
) -> Settlement:
    """Decide what follows from an attempt of the step that plans a task's compensation.

    It never fails: a plan that cannot be made ends the compensation, and the task's failure
    says why.
    """
    match outcome:
        case Added():
            return _add(attempt, outcome, claims=claims)
        case Waits():
            return settle_wait(attempt, outcome)
        case Failed() if outcome.retryable:
            wait = RetryPolicy().backoff(failures=attempt.failures + 1, rng=rng)
            if wait is not None:
                return _retry(attempt, outcome.failure, wait)
    remark = None
    if isinstance(outcome, Failed):
        remark = Failure("", "", {"compensation_failed": outcome.failure.message})
    elif isinstance(outcome, Compensated) and outcome.failed:
        remark = Failure("", "", {"compensation_failed": ", ".join(outcome.failed)})
    return Settlement(
        attempt=attempt,
        state=StepState.SUCCEEDED,
        events=[_event(Type.TASK_EVENT_TYPE_STEP_SUCCEEDED, attempt)],
        failure=remark,
    )


def settle_wait(attempt: Attempt, waits: Waits) -> Settlement:
    """Decide what follows from a wait, for which the graph need not be known."""
    detail: dict[str, object] = {"for": waits.waits_for}
    return Settlement(
        attempt=attempt,
        state=StepState.WAITING,
        events=[_event(Type.TASK_EVENT_TYPE_STEP_WAITING, attempt, detail)],
        waits_for=waits.waits_for,
        wait=waits.wait,
        until=waits.until,
        inbox=waits.keep,
    )


def _succeed(
    graph: Graph, step: Step, attempt: Attempt, output: Blob | None, *, claims: int
) -> Settlement:
    following, joins = _follow(graph, step, attempt, succeeded=True, claims=claims)
    return Settlement(
        attempt=attempt,
        state=StepState.SUCCEEDED,
        events=[_event(Type.TASK_EVENT_TYPE_STEP_SUCCEEDED, attempt)],
        output=output,
        prune=_leaves_items(step, attempt),
        sink=_closes_task(step, attempt),
        next=following,
        joins=joins,
    )


def _skip(graph: Graph, step: Step, attempt: Attempt, *, claims: int) -> Settlement:
    following, joins = _follow(graph, step, attempt, succeeded=False, claims=claims)
    return Settlement(
        attempt=attempt,
        state=StepState.SKIPPED,
        events=[_event(Type.TASK_EVENT_TYPE_STEP_SKIPPED, attempt)],
        sink=_closes_task(step, attempt),
        next=following,
        joins=joins,
    )


def _follow(
    graph: Graph, step: Step, attempt: Attempt, *, succeeded: bool, claims: int
) -> tuple[Sequence[NextStep], Sequence[Arrival]]:
    """Return what starts because the step has ended so, and what counts it."""
    if attempt.item is not None:
        counts = step.items_join.counts(succeeded=succeeded)
        return (), [Arrival(attempt.sibling(step.name), counts, claims > 0)]
    if step.is_sink:
        # A step that was skipped leaves nothing to be done for the one that added it.
        return (), _arrival_at_scope(attempt, claims=claims)
    following: list[NextStep] = []
    joins: list[Arrival] = []
    claimed = 0
    for ordinal in step.successors:
        successor = graph.steps[ordinal]
        claim = successor.queue == step.queue and claimed < _claims_of(successor, claims)
        claimed += claim
        counts = successor.join.counts(succeeded=succeeded)
        if successor.is_join or attempt.attempt > 1:
            joins.append(Arrival(attempt.sibling(successor.name), counts, claim))
        # One that has run before may be followed by what waits for it a second time.
        if not successor.is_join:
            following.append(
                NextStep(
                    attempt.sibling(successor.name),
                    ordinal,
                    successor.queue,
                    successor.priority or attempt.task.priority,
                    claim=claim,
                    lifetime=successor.lifetime,
                    phase=Phase.NEW if counts else Phase.UNSATISFIED,
                    scope=_scope_of(attempt),
                )
            )
    return following, joins


def _arrival_at_scope(attempt: Attempt, *, claims: int) -> Sequence[Arrival]:
    if attempt.scope is None:
        return ()
    return [Arrival(attempt.scope.step_id, counts=True, claim=claims > 0)]


def _expand(step: Step, attempt: Attempt, items: Sequence[bytes], *, claims: int) -> Settlement:
    bounded = 0 < step.max_parallel < len(items)
    released = step.max_parallel if bounded else len(items)
    claimed = min(_claims_of(step, claims), released)
    name = attempt.sibling(step.name)
    return Settlement(
        attempt=attempt,
        state=StepState.WAITING,
        events=[_event(Type.TASK_EVENT_TYPE_STEP_EXPANDED, attempt, {"items": len(items)})],
        waits_for="items",
        items=len(items),
        needs=step.items_join.needs(len(items)),
        released=released if bounded else None,
        next=[
            NextStep(
                item_step_id(name, index),
                step.ordinal,
                step.queue,
                step.priority or attempt.task.priority,
                claim=index < claimed,
                item=index,
                input=item,
                needs=int(index >= released),
                open=int(index >= released),
                lifetime=step.lifetime,
                scope=_scope_of(attempt),
            )
            for index, item in enumerate(items)
        ],
    )


def _add(attempt: Attempt, added: Added, *, claims: int) -> Settlement:
    graph = added.graph
    scope = (attempt.step_id, graph.graph_hash)
    names = [step.name for step in graph.steps]
    new = graph.new_steps(attempt.task.priority)
    # This worker may not serve another queue.
    ready = [step for step in new if step.needs + step.open == 0 and step.queue == attempt.queue]
    return Settlement(
        attempt=attempt,
        state=StepState.WAITING,
        events=[_event(Type.TASK_EVENT_TYPE_STEP_EXPANDED, attempt, {"steps": names})],
        waits_for="steps",
        items=len(graph.sinks),
        needs=len(graph.sinks),
        inbox=added.input,
        added=graph.graph_hash,
        # What undoes a task is not undone.
        compensates=bool(graph.traits & Trait.COMPENSATES)
        and not attempt.step_id.startswith(UNDO_MARK),
        next=[
            NextStep(
                f"{attempt.step_id}/{step.step_id}",
                step.ordinal,
                step.queue,
                step.priority,
                claim=step in ready[:claims],
                needs=step.needs,
                open=step.open,
                lifetime=step.lifetime,
                scope=scope,
            )
            for step in new
        ],
    )


def _fail(
    graph: Graph,
    step: Step,
    attempt: Attempt,
    failed: Failed,
    *,
    now: datetime,
    rng: random.Random,
) -> Settlement:
    failure = failed.failure
    if failed.retryable and not _is_final(step, failure):
        wait = step.retry.backoff(failures=attempt.failures + 1, rng=rng)
        if wait is not None:
            wait = max(wait, failed.retry_after or wait)
            if attempt.expires_at is None or now + wait < attempt.expires_at:
                return _retry(attempt, failure, wait)
    undoing = attempt.step_id.startswith(UNDO_MARK)
    tolerated = step.tolerated if attempt.item is None else step.items_join.tolerates_failure
    following: Sequence[NextStep] = ()
    joins: Sequence[Arrival] = ()
    if tolerated or (undoing and attempt.item is None):
        following, joins = _follow(graph, step, attempt, succeeded=False, claims=0)
    return Settlement(
        attempt=attempt,
        state=StepState.FAILED,
        events=[_event(Type.TASK_EVENT_TYPE_STEP_FAILED, attempt, failure.to_json())],
        failure=failure,
        fatal=not tolerated and not undoing,
        prune=attempt.items is not None,
        next=following,
        joins=joins,
    )


def _retry(attempt: Attempt, failure: Failure, wait: timedelta) -> Settlement:
    return Settlement(
        attempt=attempt,
        state=StepState.WAITING,
        events=[_event(Type.TASK_EVENT_TYPE_STEP_RETRYING, attempt, failure.to_json())],
        failure=failure,
        retry=True,
        waits_for="retry",
        wait=wait,
    )


def _is_final(step: Step, failure: Failure) -> bool:
    """Whether the step's policy says that no other attempt could mend the failure."""
    finals = step.retry.non_retryable_reasons
    return failure.reason in finals or failure.metadata.get("exception") in finals


def _without_items(step: Step, items: int) -> Outcome:
    """Return how a for_each step ends that has no items, or fewer than must succeed."""
    at_least = step.items_join.needs(items)
    if items >= at_least:
        return Succeeded(EMPTY_LIST)
    message = f"{at_least} items must succeed, and there are {items}"
    metadata = {"items": str(items), "at_least": str(at_least)}
    return Failed(Failure(Reason.JOIN_UNSATISFIED, message, metadata), retryable=False)


def _claims_of(step: Step, claims: int) -> int:
    """How many of steps such as `step` a worker wants that wants `claims` of any."""
    return MAX_CLAIMS if claims and step.kind in INSTANT_KINDS else claims


def _closes_task(step: Step, attempt: Attempt) -> bool:
    return step.is_sink and attempt.item is None and attempt.scope is None


def _leaves_items(step: Step, attempt: Attempt) -> bool:
    """Whether items or added steps may still be under way when their step has ended."""
    if attempt.added_graph is not None:
        return True
    return attempt.items is not None and step.items_join.mode is JoinMode.AT_LEAST


def _scope_of(attempt: Attempt) -> tuple[str, bytes] | None:
    scope = attempt.scope
    return None if scope is None else (scope.step_id, scope.graph_hash)


def _event(type_: Type.ValueType, attempt: Attempt, detail: dict[str, object] | None = None) -> str:
    """Write an event as it is recorded. Step ids need no escaping."""
    head = f'[{type_},"{attempt.step_id}",{attempt.attempt}'
    return f"{head}]" if detail is None else f"{head},{orjson.dumps(detail).decode()}]"
