"""Reading the outputs of steps, and the inputs of tasks that are kept apart."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import asyncpg

from executor_svc.engine.records import Blob, StepAddress
from executor_svc.graphs.graph import item_range, scope_in
from executor_svc.store.rows import Row, queries
from stepwire.payload import JSON, NULL


async def read_outputs(pool: asyncpg.Pool, wanted: Sequence[StepAddress]) -> Sequence[Blob | None]:
    """Return the outputs of succeeded steps, None for any other.

    The output of a for_each step is not stored a second time: it is put together from its
    items here.
    """
    if not wanted:
        return []
    rows = await pool.fetch(
        queries.read_outputs,
        [address.task_id for address in wanted],
        [address.step_id for address in wanted],
    )
    found = {
        StepAddress(row["task_id"], row["step_id"]): (
            row["items"],
            row["output_type"],
            row["output"],
        )
        for row in rows
    }
    return [await _output(pool, address, found.get(address)) for address in wanted]


async def outputs_of(
    pool: asyncpg.Pool, task_id: UUID, step_ids: Sequence[str], rows: Sequence[Row]
) -> Sequence[Blob | None]:
    """Like `read_outputs`, for steps of one task whose rows were read together with it."""
    found = {step_id: kept for step_id, *kept in rows}
    return [
        await _output(pool, StepAddress(task_id, step_id), found.get(step_id))
        for step_id in step_ids
    ]


async def _output(
    pool: asyncpg.Pool, address: StepAddress, kept: Sequence[Any] | None
) -> Blob | None:
    """Return an output; `kept` are the step's number of items, output type and output."""
    if kept is None:
        return None
    items, output_type, output = kept
    if output_type is None:
        return await _read_items(pool, address) if items is not None else None
    return Blob(output, output_type)


async def _read_items(pool: asyncpg.Pool, address: StepAddress) -> Blob:
    step_id = address.step_id
    rows = await pool.fetch(
        queries.read_item_outputs, address.task_id, *item_range(step_id), scope_in(step_id)
    )
    # Outputs of steps are JSON, so their list is one by joining their texts.
    return Blob(b"[" + b",".join(row["output"] or NULL for row in rows) + b"]", JSON)


async def read_task_inputs(pool: asyncpg.Pool, task_ids: Sequence[UUID]) -> Mapping[UUID, bytes]:
    """Return the inputs of tasks that are kept apart."""
    rows = await pool.fetch(queries.read_task_inputs, task_ids)
    return {row["task_id"]: row["data"] for row in rows}
