"""From rows of Postgres to attempts."""

from collections.abc import Mapping
from uuid import UUID

from executor_svc.engine.records import Attempt, Blob, Phase, Scope, TaskContext
from executor_svc.store.rows import Row
from stepwire.payload import JSON, NULL


def context_of(row: Row, inputs: Mapping[UUID, bytes]) -> TaskContext:
    """Read what a row of claim_v1 says of the task; `inputs` are those kept apart."""
    task_id = row["task_id"]
    data = inputs[task_id] if row["input"] is None else row["input"]
    return TaskContext(
        task_id=task_id,
        tenant_id=row["tenant_id"],
        graph_hash=row["graph_hash"],
        input=Blob(data, row["input_type"]),
        traceparent=row["traceparent"],
        priority=row["priority"],
        depth=row["depth"],
    )


def claimed_attempt(row: Row, task: TaskContext) -> Attempt:
    """Read a row of claim_v1."""
    return Attempt(
        task=task,
        step_id=row["step_id"],
        ordinal=row["ordinal"],
        attempt=row["attempt"],
        phase=Phase(row["phase"]),
        item=row["item"],
        items=row["items"],
        item_input=row["item_input"],
        inbox=row["inbox"],
        added_graph=row["added_graph"],
        failures=row["failures"],
        losses=row["losses"],
        heartbeat=row["heartbeat"],
        expires_at=row["expires_at"],
        ready_at=row["ready_at"],
        queue=row["queue"],
        scope=_scope(row),
    )


def started_attempt(fact: Row, task: TaskContext, added_input: bytes | None) -> Attempt:
    """Read a STARTED fact: a step of the same task as a settlement.

    `added_input` is the input of its graph, if the same settlement added that.
    """
    row = fact["started"]
    return Attempt(
        task=task,
        step_id=fact["step_id"],
        ordinal=row["ordinal"],
        attempt=fact["attempt"],
        phase=Phase(row["phase"]),
        item=row["item"],
        items=row["items"],
        item_input=row["item_input"],
        inbox=row["inbox"],
        added_graph=row["added_graph"],
        failures=row["failures"],
        losses=row["losses"],
        heartbeat=row["heartbeat"],
        expires_at=row["expires_at"],
        queue=fact["queue"],
        scope=_scope(row, added_input),
    )


def _scope(row: Row, added_input: bytes | None = None) -> Scope | None:
    if row["scope"] is None:
        return None
    input_ = added_input or row["scope_input"] or NULL
    return Scope(row["scope"], row["scope_graph"], Blob(input_, JSON))
