"""KeyStore on Postgres."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

import asyncpg

from gateway.keys import rules
from gateway.keys.records import Key, NewKey
from gateway.public import Scope
from stepwire.api_keys import KeyHash
from stepwire.db import load_queries, retryable

REPEATED_WITHIN: Final = timedelta(minutes=10)
"""For how long a call that is repeated is known by its request id."""

queries = load_queries("gateway", "sql/keys.sql")


class PostgresKeyStore:
    """See `KeyStore`."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    @retryable()
    async def add(
        self, new: NewKey, kept: KeyHash, *, lifetime: timedelta | None, request_id: str
    ) -> Key:
        """See `KeyStore`."""
        row = await self._pool.fetchrow(
            queries.add_key,
            kept.key_id,
            new.tenant_id,
            new.name,
            sorted(new.scopes),
            kept.digest,
            lifetime,
            request_id,
            REPEATED_WITHIN,
        )
        if row is None:
            raise rules.reused(request_id)
        return _key_of(row)

    @retryable()
    async def add_first(self, new: NewKey, kept: KeyHash) -> bool:
        """See `KeyStore`."""
        added = await self._pool.fetchval(
            queries.add_first_key,
            kept.key_id,
            new.tenant_id,
            new.name,
            sorted(new.scopes),
            kept.digest,
        )
        return added is not None

    @retryable()
    async def find(self, key_ids: Sequence[str]) -> Sequence[Key | None]:
        """See `KeyStore`."""
        rows = await self._pool.fetch(queries.find_keys, list(set(key_ids)))
        found = {row["key_id"]: _key_of(row) for row in rows}
        return [found.get(key_id) for key_id in key_ids]

    @retryable()
    async def list(self, *, tenant_id: str, after: str, limit: int) -> Sequence[Key]:
        """See `KeyStore`."""
        rows = await self._pool.fetch(queries.list_keys, tenant_id, after, limit)
        return [_key_of(row) for row in rows]

    @retryable()
    async def revoke(self, key_id: str) -> Key | None:
        """See `KeyStore`."""
        row = await self._pool.fetchrow(queries.revoke_key, key_id)
        return None if row is None else _key_of(row)

    @retryable()
    async def rotate(
        self, key_id: str, digest: bytes, *, overlap: timedelta, request_id: str
    ) -> Key | None:
        """See `KeyStore`."""
        row = await self._pool.fetchrow(
            queries.rotate_key, key_id, digest, overlap, request_id, REPEATED_WITHIN
        )
        return None if row is None else _key_of(row)

    @retryable()
    async def touch(self, used: Mapping[str, datetime]) -> None:
        """See `KeyStore`."""
        await self._pool.execute(queries.touch_keys, list(used), list(used.values()))


def _key_of(row: asyncpg.Record) -> Key:
    return Key(
        key_id=row["key_id"],
        tenant_id=row["tenant_id"],
        name=row["name"],
        scopes=frozenset(Scope(scope) for scope in row["scopes"]),
        digest=row["digest"],
        previous_digest=row["previous_digest"],
        previous_until=row["previous_until"],
        created_at=row["created_at"],
        expires_at=row["expires_at"],
        revoked_at=row["revoked_at"],
        last_used_at=row["last_used_at"],
    )
