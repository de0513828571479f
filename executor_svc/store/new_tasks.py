"""From tasks that are to be created to the parameters of `create_tasks`."""

from collections.abc import Collection, Sequence
from datetime import timedelta

from executor_svc.engine.records import NewTask, StepRef
from executor_svc.store.rows import json_text


def create_arguments(
    tasks: Sequence[NewTask],
    *,
    inline_bytes: int,
    unpublished: Collection[str],
    republish_after: timedelta,
) -> list[object]:
    """Return the parameters in order; inputs larger than `inline_bytes` are kept apart."""
    apart = [task for task in tasks if len(task.input.data) > inline_bytes]
    return [
        *_task_columns(tasks, inline_bytes),
        *_step_columns(tasks),
        unpublished,
        republish_after,
        *_request_columns([task for task in tasks if task.request_id is not None]),
        [task.task_id for task in apart],
        [task.input.data for task in apart],
        *_place_columns(tasks),
        [task.timeout for task in tasks],
        *_parent_columns(tasks),
    ]


def _task_columns(tasks: Sequence[NewTask], inline_bytes: int) -> list[object]:
    return [
        [task.task_id for task in tasks],
        [task.tenant_id for task in tasks],
        [task.graph_hash for task in tasks],
        [task.open_sinks for task in tasks],
        [int(task.traits) for task in tasks],
        [task.priority for task in tasks],
        [None if len(task.input.data) > inline_bytes else task.input.data for task in tasks],
        [task.input.content_type for task in tasks],
        [json_text(task.labels) if task.labels else None for task in tasks],
        [task.traceparent for task in tasks],
        [task.workflow or None for task in tasks],
        [task.workflow_version or None for task in tasks],
        [None if task.parent is None else task.parent.task_id for task in tasks],
        [None if task.parent is None else task.parent.step_id for task in tasks],
        [task.depth for task in tasks],
        [task.deadline for task in tasks],
        [task.created_at for task in tasks],
    ]


def _step_columns(tasks: Sequence[NewTask]) -> list[object]:
    steps = [(task, step) for task in tasks for step in task.steps]
    return [
        [task.task_id for task, _ in steps],
        [task.tenant_id for task, _ in steps],
        [step.step_id for _, step in steps],
        [step.ordinal for _, step in steps],
        [step.needs for _, step in steps],
        [step.open for _, step in steps],
        [step.queue for _, step in steps],
        [step.priority for _, step in steps],
        [step.lifetime for _, step in steps],
        [task.start_after for task, _ in steps],
        [task.place is not None for task, _ in steps],
    ]


def _request_columns(tasks: Sequence[NewTask]) -> list[object]:
    return [
        [task.tenant_id for task in tasks],
        [task.request_id for task in tasks],
        [task.task_id for task in tasks],
        [task.digest for task in tasks],
    ]


def _parent_columns(tasks: Sequence[NewTask]) -> Sequence[object]:
    parents = parents_of(tasks)
    if not parents:
        return (None, None, None)
    return (
        [parent.task_id for parent, _ in parents],
        [parent.step_id for parent, _ in parents],
        [parent.attempt for parent, _ in parents],
    )


def parents_of(tasks: Sequence[NewTask]) -> Sequence[tuple[StepRef, NewTask]]:
    """Return the attempts that make subtasks, in the order of `create_tasks`, each with its own."""
    return [(task.parent, task) for task in tasks if task.parent is not None]


def _place_columns(tasks: Sequence[NewTask]) -> list[object]:
    placed = [(task, task.place) for task in tasks if task.place is not None]
    return [
        [task.tenant_id for task, _ in placed],
        [place.key for _, place in placed],
        [task.priority for task, _ in placed],
        [task.task_id for task, _ in placed],
        [place.policy for _, place in placed],
        [place.max_running for _, place in placed],
        [task.start_after for task, _ in placed],
    ]
