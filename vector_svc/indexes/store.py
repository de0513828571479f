"""Builds in Postgres."""

from collections.abc import Sequence
from typing import Final
from uuid import UUID

import asyncpg

from stepwire.db import load_queries, retryable
from stepwire.ids import uuid7
from vector_svc.engine.ports import TenantUnknownError
from vector_svc.engine.records import Collection
from vector_svc.indexes.records import BuildState, IndexBuild
from vector_svc.store.database import OWNER, Database
from vector_svc.store.statements import points_statement

queries = load_queries("vector_svc", "sql/indexes.sql")

MAX_LISTED: Final = 100


class PostgresBuilds:
    """A `BuildStore`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @retryable()
    async def rows(self, collection: Collection) -> int:
        async with self._database.connection("count_points", collection.tenant_id) as connection:
            count: int = await connection.fetchval(
                points_statement("count_points", collection.id, collection.config.element),
                timeout=self._database.statement_seconds,
            )
        return count

    @retryable()
    async def request(
        self, collection: Collection, *, estimated_bytes: int, memory_bytes: int
    ) -> UUID:
        """Ask for a build; one that is under way may end before it is read."""
        async with self._database.connection("request_build", collection.tenant_id) as connection:
            while True:
                build_id: UUID | None = await connection.fetchval(
                    queries.insert_build,
                    uuid7(),
                    collection.tenant_id,
                    collection.id,
                    estimated_bytes,
                    memory_bytes,
                ) or await connection.fetchval(queries.open_build, collection.id)
                if build_id is not None:
                    return build_id

    @retryable()
    async def get(self, tenant_id: str, build_id: UUID) -> IndexBuild | None:
        try:
            async with self._database.connection("get_build", tenant_id) as connection:
                row = await connection.fetchrow(queries.get_build, tenant_id, build_id)
        except TenantUnknownError:
            return None
        return None if row is None else (await self._with_progress([row]))[0]

    @retryable()
    async def latest(self, collection: Collection) -> Sequence[IndexBuild]:
        async with self._database.connection("list_builds", collection.tenant_id) as connection:
            rows = await connection.fetch(
                queries.list_builds, collection.tenant_id, collection.id, MAX_LISTED
            )
        return await self._with_progress(rows)

    @retryable()
    async def cancel(self, tenant_id: str, build_id: UUID) -> None:
        async with self._database.connection("cancel_build", tenant_id) as connection:
            collection_id = await connection.fetchval(queries.cancel_build, tenant_id, build_id)
        if collection_id is not None:
            async with self._database.connection("cancel_work", OWNER) as connection:
                await connection.execute(queries.cancel_work, collection_id)

    async def _with_progress(self, rows: Sequence[asyncpg.Record]) -> list[IndexBuild]:
        """Look up, where a build runs, what Postgres is at; only its owner may see that."""
        running = [row for row in rows if row["state"] == BuildState.RUNNING]
        progress = None
        if running:
            async with self._database.connection("progress", OWNER) as connection:
                progress = await connection.fetchrow(queries.progress, running[0]["collection_id"])
        return [_build_of(row, progress) for row in rows]


def _build_of(row: asyncpg.Record, progress: asyncpg.Record | None) -> IndexBuild:
    state = BuildState(row["state"])
    share = 1.0 if state is BuildState.SUCCEEDED else 0.0
    phase = ""
    if state is BuildState.RUNNING and progress is not None:
        share, phase = progress["progress"], progress["phase"]
    return IndexBuild(
        id=row["build_id"],
        collection=row["name"],
        state=state,
        phase=phase,
        progress=share,
        estimated_bytes=row["estimated_bytes"],
        memory_bytes=row["memory_bytes"],
        failure=row["failure"],
        created_at=row["created_at"],
        started_at=row["started_at"],
        ended_at=row["ended_at"],
    )
