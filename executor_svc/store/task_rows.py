"""From rows of Postgres to tasks and steps as their owner sees them."""

import orjson

from executor_svc.engine.records import (
    Blob,
    Phase,
    StepAddress,
    StepRecord,
    StepState,
    TaskRecord,
    TaskState,
    Trait,
)
from executor_svc.store.rows import Row, blob_of, failure_of
from executor_svc.tasks.retry import Left
from stepwire.payload import JSON


def task_of(row: Row) -> TaskRecord:
    """Read a row of get_task; a list's row lacks what lists leave out."""
    whole = "graph_hash" in row.keys()  # noqa: SIM118 - a Record is no mapping
    parent = row["parent_task_id"]
    return TaskRecord(
        task_id=row["task_id"],
        tenant_id=row["tenant_id"],
        state=TaskState(row["state"]),
        labels=orjson.loads(row["labels"]) if row["labels"] else {},
        failure=failure_of(row["failure"]),
        traceparent=row["traceparent"],
        last_cursor=row["last_cursor"],
        created_at=row["created_at"],
        started_at=row["started_at"],
        ended_at=row["ended_at"],
        priority=row["priority"],
        workflow=row["workflow"] or "",
        workflow_version=row["workflow_version"] or "",
        parent=None if parent is None else StepAddress(parent, row["parent_step_id"]),
        forked_from=row["forked_from"],
        deadline=row["deadline"],
        timeout=row["timeout"] if whole else None,
        traits=Trait(row["traits"]) if whole else Trait.NONE,
        graph_hash=row["graph_hash"] if whole else b"",
        input=blob_of(row["input"], row["input_type"]) if whole else None,
        retry_request_id=row["retry_request_id"] if whole else None,
        pause_request_id=row["pause_request_id"] if whole else None,
        resume_request_id=row["resume_request_id"] if whole else None,
    )


def step_of(row: Row) -> StepRecord:
    """Read a row of list_steps."""
    waits = row["state"] == StepState.WAITING
    return StepRecord(
        step_id=row["step_id"],
        ordinal=row["ordinal"],
        item=row["item"],
        items=row["items"],
        state=StepState(row["state"]),
        attempt=row["attempt"],
        queue=row["queue"],
        waits_for=row["waits_for"] or "",
        due_at=row["due_at"] if waits else None,
        failure=failure_of(row["failure"]),
        started_at=row["started_at"],
        ended_at=row["ended_at"],
        output=blob_of(row["output"], row["output_type"]),
        heartbeat=None if row["heartbeat"] is None else Blob(row["heartbeat"], JSON),
        scope=row["scope"] or "",
        graph_hash=row["graph_hash"],
    )


def left_of(row: Row) -> Left:
    """Read a row of left_steps."""
    return Left(
        step_id=row["step_id"],
        ordinal=row["ordinal"],
        item=row["item"],
        items=row["items"],
        scope=row["scope"] or "",
        added_graph=row["added_graph"],
        state=StepState(row["state"]),
        tolerated=row["tolerated"],
        needs=row["needs"],
        open=row["open"],
        phase=Phase(row["phase"]),
        started=row["started"],
    )
