"""Reading the outputs of steps."""

from collections.abc import Sequence
from uuid import UUID

import asyncpg

from executor_svc.graph import item_range
from executor_svc.records import Blob
from executor_svc.store.rows import blob_of, queries
from stepwire.payload import JSON, NULL


async def read_outputs(
    pool: asyncpg.Pool, wanted: Sequence[tuple[UUID, str]]
) -> Sequence[Blob | None]:
    """Return the outputs of succeeded steps, None for any other.

    The output of a for_each step is not stored a second time: it is put together from its
    items here.
    """
    if not wanted:
        return []
    rows = await pool.fetch(
        queries.read_outputs, [task for task, _ in wanted], [step for _, step in wanted]
    )
    found = {(row["task_id"], row["step_id"]): row for row in rows}
    outputs: list[Blob | None] = []
    for key in wanted:
        row = found.get(key)
        if row is None:
            outputs.append(None)
        elif row["output"] is None and row["items"] is not None:
            outputs.append(await _read_items(pool, *key))
        else:
            outputs.append(blob_of(row["output"], row["output_type"]))
    return outputs


async def _read_items(pool: asyncpg.Pool, task_id: UUID, name: str) -> Blob:
    rows = await pool.fetch(queries.read_item_outputs, task_id, *item_range(name))
    # Outputs of steps are JSON, so their list is one by joining their texts.
    return Blob(b"[" + b",".join(row["output"] or NULL for row in rows) + b"]", JSON)
