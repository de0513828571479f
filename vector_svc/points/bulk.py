"""Many points, message by message: while one is written, the next are read and made ready."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from stepwire.errors import field_invalid, payload_too_large
from vector_svc.collections.registry import Collections
from vector_svc.engine.fields import check_ids, check_unique
from vector_svc.engine.payloads import check_json
from vector_svc.engine.records import Collection, PointBatch, Written
from vector_svc.engine.vectors import read_columns
from vector_svc.metrics import VectorMetrics
from vector_svc.points.points import expiry_of
from vector_svc.points.ports import PointStore

# Messages that are written or made ready at once: Postgres never waits for the next one.
AHEAD: Final = 2


@dataclass(frozen=True, slots=True)
class Columns:
    """Points column by column, as a caller sends them; nothing is checked yet.

    Attributes:
        collection: Name of the collection; "" in all but the first for the same.
        ids: Their ids.
        vectors: Their vectors, one behind the other.
        payloads: JSON objects; empty for none.
        expires_at: When they are gone; None for the collection's default.
    """

    collection: str
    ids: Sequence[str]
    vectors: bytes
    payloads: Sequence[bytes]
    expires_at: datetime | None


class BulkUpserts:
    """Writes streams of points."""

    def __init__(
        self,
        store: PointStore,
        *,
        collections: Collections,
        metrics: VectorMetrics,
        payload_max_bytes: int,
    ) -> None:
        self._store = store
        self._collections = collections
        self._metrics = metrics
        self._payload_max_bytes = payload_max_bytes

    async def run(self, tenant_id: str, messages: AsyncIterator[Columns]) -> Written:
        """Write what comes, in its order; what was written before an error stays.

        Raises:
            StepwireError: FIELD_INVALID, PAYLOAD_TOO_LARGE, VECTOR_DIMENSION_MISMATCH,
                COLLECTION_NOT_FOUND.
        """
        done: list[Written] = []
        under_way: deque[asyncio.Task[Written]] = deque()
        name = ""
        try:
            async for columns in messages:
                if name and columns.collection not in ("", name):
                    raise field_invalid("collection", f"must stay {name!r}")
                name = name or columns.collection
                await asyncio.to_thread(self._check, columns)
                if len(under_way) == AHEAD:
                    done.append(await under_way.popleft())
                turn = under_way[-1] if under_way else None
                write = self._write(tenant_id, name, columns, turn)
                under_way.append(asyncio.create_task(write))
            while under_way:
                done.append(await under_way.popleft())
        finally:
            for task in under_way:
                task.cancel()
            await asyncio.gather(*under_way, return_exceptions=True)
        if not name:
            raise field_invalid("collection", "is required")
        return Written(
            sum(written.upserted for written in done),
            sum(written.inserted for written in done),
            sum(written.updated for written in done),
        )

    async def _write(
        self,
        tenant_id: str,
        name: str,
        columns: Columns,
        turn: "asyncio.Task[Written] | None",
    ) -> Written:
        async def write(collection: Collection) -> Written:
            batch = await asyncio.to_thread(batch_of, collection, columns)
            return await self._store.load(collection, batch, turn=turn)

        written = await self._collections.use(tenant_id, name, write)
        self._metrics.points_written.add(written.upserted)
        return written

    def _check(self, columns: Columns) -> None:
        check_ids(columns.ids, field="ids")
        check_unique(columns.ids, field="ids", member="")
        if columns.payloads and len(columns.payloads) != len(columns.ids):
            raise field_invalid("payloads", "must be as many as ids, or none")
        for index, payload in enumerate(columns.payloads):
            if len(payload) > self._payload_max_bytes:
                raise payload_too_large(
                    f"payloads[{index}]",
                    size_bytes=len(payload),
                    limit_bytes=self._payload_max_bytes,
                )
            check_json(payload, field=f"payloads[{index}]")


def batch_of(collection: Collection, columns: Columns) -> PointBatch:
    """Check the vectors and put the points in the order of their ids.

    Raises:
        StepwireError: FIELD_INVALID or VECTOR_DIMENSION_MISMATCH.
    """
    vectors = read_columns(
        columns.vectors, count=len(columns.ids), collection=collection, field="vectors"
    )
    order = sorted(range(len(columns.ids)), key=columns.ids.__getitem__)
    payloads = columns.payloads
    expires = columns.expires_at or expiry_of(collection.config.default_ttl)
    return PointBatch(
        ids=[columns.ids[index] for index in order],
        vectors=vectors[order],
        payloads=[payloads[index] if payloads else b"{}" for index in order],
        expires=[expires] * len(order),
    )
