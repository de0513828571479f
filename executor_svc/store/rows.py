"""Between rows of Postgres and the executor's records."""

from collections.abc import Iterable
from typing import Any

import asyncpg
import orjson

from executor_svc.engine.ports import Effects
from executor_svc.engine.records import (
    Blob,
    EventBatch,
    Failure,
    StepRef,
    TaskEvent,
    TaskRecord,
)
from stepwire.api.executor.v1.task_pb2 import TaskEventType
from stepwire.db import Queries, load_queries

queries = Queries(
    {
        **load_queries("executor_svc", "sql/steps.sql"),
        **load_queries("executor_svc", "sql/tasks.sql"),
    }
)

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
    released: list[tuple[str, str]] = []
    notices = False
    for fact in facts:
        match fact["kind"]:
            case "READY":
                ready.append(ref_of(fact))
            case "EVENTS":
                events.append(batch_of(fact))
            case "RELEASED":
                released.append((fact["tenant_id"], fact["key"]))
            case "NOTICES":
                notices = True
    return Effects(ready, events, released, notices)


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
