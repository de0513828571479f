"""WorkflowStore on Postgres."""

from collections.abc import Sequence

import asyncpg
import orjson

from executor_svc.graphs.graph import Graph
from executor_svc.workflows.records import (
    Defaults,
    Draft,
    Last,
    Version,
    VersionKey,
    VersionState,
)
from stepwire.db import load_queries, retryable

queries = load_queries("executor_svc", "sql/workflows.sql")


class PostgresWorkflowStore:
    """See `executor_svc.workflows.ports.WorkflowStore`."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    @retryable()
    async def find(self, key: VersionKey) -> Version | None:
        if key.version:
            row = await self._pool.fetchrow(queries.find_workflow_version, *_words(key))
        else:
            row = await self._pool.fetchrow(
                queries.newest_workflow_version, key.tenant_id, key.name
            )
        return _maybe(row)

    @retryable()
    async def last(self, tenant_id: str, name: str) -> Last:
        row = await self._pool.fetchrow(queries.last_workflow_version, tenant_id, name)
        assert row is not None
        return Last(row["place"], int(row["number"]))

    @retryable()
    async def add(self, key: VersionKey, place: int, draft: Draft, graph: Graph) -> Version | None:
        row = await self._pool.fetchrow(
            queries.add_workflow_version, *_words(key), place, *_content(draft, graph)
        )
        return _maybe(row)

    @retryable()
    async def write(self, key: VersionKey, draft: Draft, graph: Graph) -> Version | None:
        row = await self._pool.fetchrow(
            queries.write_workflow_version, *_words(key), *_content(draft, graph)
        )
        return _maybe(row)

    @retryable()
    async def use(self, key: VersionKey) -> Version | None:
        return _maybe(await self._pool.fetchrow(queries.use_workflow_version, *_words(key)))

    @retryable()
    async def set_state(self, key: VersionKey, state: VersionState) -> Version | None:
        row = await self._pool.fetchrow(queries.set_workflow_version_state, *_words(key), state)
        return _maybe(row)

    @retryable()
    async def delete(self, key: VersionKey) -> bool:
        deleted = await self._pool.fetchval(queries.delete_workflow_version, *_words(key))
        return deleted is not None

    @retryable()
    async def list(self, tenant_id: str, *, after: str, limit: int) -> Sequence[Version]:
        rows = await self._pool.fetch(queries.list_workflows, tenant_id, after, limit)
        return [_version(row) for row in rows]

    @retryable()
    async def versions(
        self, tenant_id: str, name: str, *, before: int | None, limit: int
    ) -> Sequence[Version]:
        rows = await self._pool.fetch(
            queries.list_workflow_versions, tenant_id, name, before, limit
        )
        return [_version(row) for row in rows]

    @retryable()
    async def read_graph(self, graph_hash: bytes) -> bytes | None:
        spec: bytes | None = await self._pool.fetchval(queries.read_workflow_graph, graph_hash)
        return spec


def _words(key: VersionKey) -> tuple[str, str, str]:
    return key.tenant_id, key.name, key.version


def _content(draft: Draft, graph: Graph) -> tuple[bytes, bytes, str, int, str]:
    """Parameters of a version's content; the spec is what `draft.graph_hash` is the hash of."""
    defaults = draft.defaults
    labels = orjson.dumps(dict(defaults.labels)).decode()
    return draft.graph_hash, graph.spec, labels, defaults.priority, draft.description


def _maybe(row: asyncpg.Record | None) -> Version | None:
    return None if row is None else _version(row)


def _version(row: asyncpg.Record) -> Version:
    """Read a row of executor.workflow_versions."""
    return Version(
        key=VersionKey(row["tenant_id"], row["name"], row["version"]),
        place=row["place"],
        state=VersionState(row["state"]),
        draft=Draft(
            graph_hash=row["graph_hash"],
            defaults=Defaults(orjson.loads(row["labels"]), row["priority"]),
            description=row["description"],
        ),
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        used_at=row["used_at"],
    )
