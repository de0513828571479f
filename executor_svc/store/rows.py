"""Between rows of Postgres and the executor's records."""

from collections.abc import Iterable
from typing import Any

import asyncpg
import orjson

from executor_svc.ports import Effects
from executor_svc.records import (
    Blob,
    EventBatch,
    Failure,
    StepRecord,
    StepRef,
    StepState,
    TaskEvent,
    TaskRecord,
    TaskState,
)
from stepwire.api.executor.v1.task_pb2 import TaskEventType
from stepwire.db import load_queries

queries = load_queries("executor_svc")

Row = asyncpg.Record


def json_text(value: Any) -> str:
    """Return the JSON text that asyncpg takes for a json or jsonb parameter."""
    return orjson.dumps(value).decode()


def failure_of(text: str | None) -> Failure | None:
    """Read a failure column."""
    return None if text is None else Failure.from_json(orjson.loads(text))


def blob_of(data: bytes | None, content_type: str | None) -> Blob | None:
    """Read a pair of payload columns."""
    return None if data is None or content_type is None else Blob(data, content_type)


def task_of(row: Row) -> TaskRecord:
    """Read a row of executor.tasks; a list's row lacks what lists leave out."""
    whole = "graph_hash" in row.keys()  # noqa: SIM118 - a Record is no mapping
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
        graph_hash=row["graph_hash"] if whole else b"",
        input=Blob(row["input"], row["input_type"]) if whole else None,
        retry_request_id=row["retry_request_id"] if whole else None,
    )


def step_of(row: Row) -> StepRecord:
    """Read a row of list_steps."""
    return StepRecord(
        step_id=row["step_id"],
        ordinal=row["ordinal"],
        item=row["item"],
        items=row["items"],
        state=StepState(row["state"]),
        attempt=row["attempt"],
        queue=row["queue"],
        due_at=row["due_at"] if row["state"] == StepState.WAITING else None,
        failure=failure_of(row["failure"]),
        started_at=row["started_at"],
        ended_at=row["ended_at"],
        output=blob_of(row["output"], row["output_type"]),
    )


def ref_of(row: Row) -> StepRef:
    """Read the columns that name an attempt."""
    return StepRef(row["task_id"], row["step_id"], row["attempt"], row["queue"])


def batch_of(row: Row) -> EventBatch:
    """Read the columns of a transaction's events."""
    return EventBatch(row["task_id"], row["last_cursor"], row["recorded_at"], row["events"])


def effects_of(facts: Iterable[Row]) -> Effects:
    """Gather what rows of executor.fact ask for."""
    ready: list[StepRef] = []
    events: list[EventBatch] = []
    for fact in facts:
        if fact["kind"] == "READY":
            ready.append(ref_of(fact))
        elif fact["kind"] == "EVENTS":
            events.append(batch_of(fact))
    return Effects(ready, events)


def created_event(task: TaskRecord) -> TaskEvent:
    """Return the event that every task begins with; it is not stored on its own."""
    return TaskEvent(
        task_id=task.task_id,
        cursor=1,
        type=TaskEventType.TASK_EVENT_TYPE_TASK_CREATED,
        step_id="",
        attempt=0,
        detail={},
        recorded_at=task.created_at,
    )
