"""SubscriptionStore on Postgres."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from typing import Final
from uuid import UUID

import asyncpg
import orjson
from asyncpg.pool import PoolConnectionProxy

from executor_svc.engine.records import EventBatch
from executor_svc.subscriptions import rules
from executor_svc.subscriptions.ports import Change
from executor_svc.subscriptions.records import (
    Handler,
    Occurrence,
    Repeat,
    RequestKey,
    Subscription,
    Webhook,
)
from executor_svc.tasks.events import parse_events
from stepwire.db import load_queries, retryable
from stepwire.errors import field_invalid

REQUESTS_KEPT: Final = timedelta(days=1)

queries = load_queries("executor_svc", "sql/subscriptions.sql")

Connection = asyncpg.Connection | PoolConnectionProxy


class PostgresSubscriptionStore:
    """See `executor_svc.subscriptions.ports.SubscriptionStore`."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    @retryable()
    async def add(
        self, subscription: Subscription, request: RequestKey | None, *, limit: int
    ) -> Subscription | Repeat:
        new = subscription
        url, key, _, _, handler = _target(new)
        async with self._pool.acquire() as connection, connection.transaction():
            repeat = await _enter(connection, new.tenant_id, new.subscription_id, request)
            if repeat is not None:
                return repeat
            row = await connection.fetchrow(
                queries.add_subscription,
                new.subscription_id,
                new.tenant_id,
                new.name,
                new.events,
                _json(new.labels),
                new.workflow,
                url,
                key,
                handler,
                new.include_output,
                new.paused,
                limit,
            )
            if row is None:
                row = await connection.fetchrow(queries.find_subscription, new.tenant_id, new.name)
                if row is None:
                    raise field_invalid(
                        "subscription", f"the tenant has {limit} already, the most there may be"
                    )
                # Where the id is ours, this very call was committed and its answer lost.
                if row["subscription_id"] != new.subscription_id:
                    raise rules.exists(new.name)
            return _subscription_of(row)

    @retryable()
    async def change(
        self, tenant_id: str, name: str, change: Change, request: RequestKey | None
    ) -> Subscription | Repeat:
        async with self._pool.acquire() as connection, connection.transaction():
            repeat = await _known(connection, tenant_id, request)
            if repeat is not None:
                return repeat
            row = await connection.fetchrow(queries.lock_subscription, tenant_id, name)
            if row is None:
                raise rules.not_found(name)
            repeat = await _enter(connection, tenant_id, row["subscription_id"], request)
            if repeat is not None:
                return repeat
            new = change(_subscription_of(row))
            row = await connection.fetchrow(
                queries.write_subscription,
                new.subscription_id,
                new.events,
                _json(new.labels),
                new.workflow,
                *_target(new),
                new.include_output,
                new.paused,
                new.paused_because,
            )
            assert row is not None
            return _subscription_of(row)

    @retryable()
    async def delete(self, tenant_id: str, name: str, request: RequestKey | None) -> None:
        async with self._pool.acquire() as connection, connection.transaction():
            if await _known(connection, tenant_id, request) is not None:
                return
            subscription_id = await connection.fetchval(
                queries.delete_subscription, tenant_id, name
            )
            if subscription_id is None:
                # The same call may have deleted it a moment ago.
                if await _known(connection, tenant_id, request) is not None:
                    return
                raise rules.not_found(name)
            await _enter(connection, tenant_id, subscription_id, request)

    @retryable()
    async def repeated(self, tenant_id: str, request: RequestKey) -> Repeat | None:
        async with self._pool.acquire() as connection:
            return await _known(connection, tenant_id, request)

    @retryable()
    async def pause(self, subscription: Subscription, because: str) -> bool:
        which = subscription.subscription_id
        paused: bool | None = await self._pool.fetchval(
            queries.pause_subscription, which, because, subscription.updated_at
        )
        if paused is None:
            paused = await self._pool.fetchval(queries.is_subscription_paused, which)
        return bool(paused)

    @retryable()
    async def find(self, tenant_id: str, name: str) -> Subscription | None:
        row = await self._pool.fetchrow(queries.find_subscription, tenant_id, name)
        return None if row is None else _subscription_of(row)

    @retryable()
    async def get(self, tenant_id: str, subscription_id: UUID) -> Subscription | None:
        row = await self._pool.fetchrow(queries.get_subscription, tenant_id, subscription_id)
        return None if row is None else _subscription_of(row)

    @retryable()
    async def list(self, tenant_id: str, *, after: str, limit: int) -> Sequence[Subscription]:
        rows = await self._pool.fetch(queries.list_subscriptions, tenant_id, after, limit)
        return [_subscription_of(row) for row in rows]

    @retryable()
    async def of_tenants(self, tenant_ids: Collection[str]) -> Mapping[str, Sequence[Subscription]]:
        found = defaultdict(list)
        for row in await self._pool.fetch(queries.subscriptions_of, list(tenant_ids)):
            found[row["tenant_id"]].append(_subscription_of(row))
        return found

    @retryable()
    async def tenants(self) -> Collection[str]:
        rows = await self._pool.fetch(queries.subscribed_tenants)
        return [row["tenant_id"] for row in rows]

    @retryable()
    async def occurrences(self, wanted: Sequence[tuple[UUID, int]]) -> Sequence[Occurrence | None]:
        rows = await self._pool.fetch(
            queries.read_occurrences,
            [task_id for task_id, _ in wanted],
            [cursor for _, cursor in wanted],
        )
        found = {(row["task_id"], row["cursor"]): _occurrence_of(row) for row in rows}
        return [found.get(each) for each in wanted]


async def _known(
    connection: Connection, tenant_id: str, request: RequestKey | None
) -> Repeat | None:
    """Return the call that a request_id was used for.

    Raises:
        StepwireError: REQUEST_ID_REUSED, when it asked for something else.
    """
    if request is None:
        return None
    row = await connection.fetchrow(
        queries.find_subscription_request, tenant_id, request.request_id, REQUESTS_KEPT
    )
    if row is None:
        return None
    if row["digest"] != request.digest:
        raise rules.reused(request.request_id, str(row["subscription_id"]))
    return Repeat(row["subscription_id"], row["created_at"])


async def _enter(
    connection: Connection, tenant_id: str, subscription_id: UUID, request: RequestKey | None
) -> Repeat | None:
    """Remember a call, or return the one that its request_id was used for.

    A call with the same request_id that is under way is waited for.
    """
    if request is None:
        return None
    await connection.execute(queries.forget_subscription_requests, REQUESTS_KEPT)
    entered = await connection.fetchval(
        queries.add_subscription_request,
        tenant_id,
        request.request_id,
        request.digest,
        subscription_id,
    )
    return None if entered else await _known(connection, tenant_id, request)


def _target(subscription: Subscription) -> tuple[object, ...]:
    """Return the columns of a target: URL, key, key before, its end, handler."""
    match subscription.target:
        case Webhook() as webhook:
            keys = (webhook.key, webhook.previous_key, webhook.previous_until)
            return (webhook.url, *keys, None)
        case Handler() as handler:
            return (None, None, None, None, handler.request)


def _json(labels: Mapping[str, str]) -> str:
    return orjson.dumps(dict(labels)).decode()


def _subscription_of(row: asyncpg.Record) -> Subscription:
    target: Webhook | Handler
    if row["handler"] is not None:
        target = Handler(row["handler"])
    else:
        target = Webhook(
            row["url"], row["key"], row["key_made_at"], row["previous_key"], row["previous_until"]
        )
    return Subscription(
        subscription_id=row["subscription_id"],
        tenant_id=row["tenant_id"],
        name=row["name"],
        events=row["events"],
        labels=orjson.loads(row["labels"]),
        workflow=row["workflow"],
        target=target,
        include_output=row["include_output"],
        paused=row["paused"],
        paused_because=row["paused_because"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )


def _occurrence_of(row: asyncpg.Record) -> Occurrence:
    batch = EventBatch(row["task_id"], row["last_cursor"], row["recorded_at"], row["events"])
    (event,) = (each for each in parse_events(batch) if each.cursor == row["cursor"])
    return Occurrence(
        tenant_id=row["tenant_id"],
        task_id=row["task_id"],
        cursor=event.cursor,
        type=event.type,
        recorded_at=event.recorded_at,
        labels=orjson.loads(row["labels"]) if row["labels"] else {},
        workflow=row["workflow"] or "",
        workflow_version=row["workflow_version"] or "",
        failure=event.detail if "reason" in event.detail else {},
        depth=row["depth"],
    )
