"""From settlements to the arguments of settle_v1."""

from collections.abc import Sequence

from executor_svc.engine.records import Failure, Phase
from executor_svc.engine.state_machine import Arrival, NextStep, Settlement
from executor_svc.store.rows import json_text

Columns = list[object]


def settle_arguments(
    settlements: Sequence[Settlement], *, inline_bytes: int
) -> tuple[Columns, Columns | None]:
    """Return the arguments of settle_v1 behind its first two, and those of add_payloads.

    Outputs larger than `inline_bytes` are among the latter, which are None if there are none.
    """
    apart = [
        each
        for each in settlements
        if each.output is not None and len(each.output.data) > inline_bytes
    ]
    limited = any(each.attempt.phase is Phase.PLACED for each in settlements)
    columns: Columns = [limited]
    columns += _own(settlements, inline_bytes)
    numbered = list(enumerate(settlements, start=1))
    columns += _next([(place, step) for place, each in numbered for step in each.next])
    columns += _joins([(place, join) for place, each in numbered for join in each.joins])
    if not apart:
        return columns, None
    return columns, [
        [each.attempt.task.task_id for each in apart],
        [each.attempt.step_id for each in apart],
        [each.attempt.attempt for each in apart],
        [each.output.data for each in apart if each.output is not None],
    ]


def _own(settlements: Sequence[Settlement], inline_bytes: int) -> Columns:
    outputs = [each.output for each in settlements]
    return [
        [each.attempt.task.task_id for each in settlements],
        [each.attempt.step_id for each in settlements],
        [each.attempt.attempt for each in settlements],
        _sparse([each.attempt.phase >= Phase.CAME for each in settlements]),
        [each.state for each in settlements],
        _sparse([each.retry for each in settlements]),
        _sparse(
            [
                output.data if output is not None and len(output.data) <= inline_bytes else None
                for output in outputs
            ]
        ),
        _sparse([None if output is None else output.content_type for output in outputs]),
        _sparse([_failure(each.failure) for each in settlements]),
        _sparse([each.fatal for each in settlements]),
        _sparse([each.waits_for for each in settlements]),
        _sparse([each.wait for each in settlements]),
        _sparse([each.until for each in settlements]),
        _sparse([each.items for each in settlements]),
        _sparse([each.needs for each in settlements]),
        _sparse([each.released for each in settlements]),
        _sparse([each.prune for each in settlements]),
        _sparse([each.sink for each in settlements]),
        _sparse([each.inbox for each in settlements]),
        _sparse([each.added for each in settlements]),
        _sparse([each.compensates for each in settlements]),
        [",".join(each.events) for each in settlements],
        [len(each.events) for each in settlements],
    ]


def _sparse(column: Sequence[object]) -> Sequence[object] | None:
    """Return a column, or None if nothing stands in it: most are empty, and cost their length.

    In a column of which something stands, what is empty stands as it is.
    """
    return column if any(each is not None and each is not False for each in column) else None


def _failure(failure: Failure | None) -> str | None:
    if failure is None:
        return None
    # The remark on a compensation adds to the metadata of the task's own failure.
    return json_text(failure.to_json() if failure.reason else dict(failure.metadata))


def _next(steps: Sequence[tuple[int, NextStep]]) -> Columns:
    return [
        [place for place, _ in steps],
        [step.step_id for _, step in steps],
        [step.ordinal for _, step in steps],
        _sparse([step.item for _, step in steps]),
        [step.queue for _, step in steps],
        [step.priority for _, step in steps],
        _sparse([step.input for _, step in steps]),
        _sparse([step.needs or None for _, step in steps]),
        _sparse([step.open or None for _, step in steps]),
        _sparse([step.lifetime for _, step in steps]),
        _sparse([step.phase or None for _, step in steps]),
        _sparse([None if step.scope is None else step.scope[0] for _, step in steps]),
        _sparse([None if step.scope is None else step.scope[1] for _, step in steps]),
        _sparse([step.claim for _, step in steps]),
    ]


def _joins(joins: Sequence[tuple[int, Arrival]]) -> Columns:
    return [
        [place for place, _ in joins],
        [join.step_id for _, join in joins],
        [join.counts for _, join in joins],
        [join.claim for _, join in joins],
    ]
