"""Wiring of keys: the service that keeps them, and the check of every call."""

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from contextlib import AsyncExitStack
from functools import partial

from gateway.authz.checker import Checker
from gateway.authz.server import CheckServer
from gateway.keys.known import Freshness, KnownKeys
from gateway.keys.records import NewKey
from gateway.keys.registry import Keys
from gateway.keys.servicer import KeyServicer, NoKeysServicer
from gateway.keys.store import PostgresKeyStore
from gateway.keys.uses import Uses
from gateway.mesh import KEY_SERVICE
from gateway.metrics import CheckMetrics
from gateway.public import Scope
from gateway.settings import CompanionSettings
from stepwire.api.gateway.v1.key_service_pb2_grpc import add_KeyServiceServicer_to_server
from stepwire.api_keys import read_reference
from stepwire.call import DEFAULT_TENANT
from stepwire.db import migrate, open_pool
from stepwire.rpc import Service
from stepwire.telemetry import meter

SCHEMA = "gateway"
FIRST_KEY = NewKey(DEFAULT_TENANT, "first", frozenset(Scope))

_logger = logging.getLogger(__name__)


async def wire_keys(settings: CompanionSettings, stack: AsyncExitStack) -> Sequence[Service]:
    """Has calls checked, and returns the service of keys; without a database, one that says so.

    Raises:
        StepwireError: DEPENDENCY_UNAVAILABLE, when Postgres cannot be reached.
    """
    url = settings.postgres_url.get_secret_value()
    if not url:
        return [Service(KEY_SERVICE.name, partial(_add, NoKeysServicer()))]
    pool = await stack.enter_async_context(
        open_pool(
            url,
            application_name="stepwire companion",
            max_size=settings.postgres_max_connections,
        )
    )
    await migrate(pool, package="gateway", schema=SCHEMA)
    store = PostgresKeyStore(pool)
    await _add_first(store, settings)
    known = KnownKeys(
        store,
        Freshness(
            cache_seconds=settings.key_cache_seconds,
            grace_seconds=settings.key_grace_seconds,
            lookup_seconds=settings.key_lookup_seconds,
        ),
    )
    uses = await _note_uses(store, stack)
    await stack.enter_async_context(
        CheckServer(
            Checker(known, uses),
            CheckMetrics(meter()),
            host=settings.host,
            port=settings.http_port,
            port_variable="STEPWIRE_COMPANION_HTTP_PORT",
        )
    )
    servicer = KeyServicer(Keys(store, known.forget))
    return [Service(KEY_SERVICE.name, partial(_add, servicer))]


async def _add_first(store: PostgresKeyStore, settings: CompanionSettings) -> None:
    kept = read_reference(settings.first_key.get_secret_value())
    if kept is not None and await store.add_first(FIRST_KEY, kept):
        _logger.info("the first key is good from now on", extra={"key_id": kept.key_id})


async def _note_uses(store: PostgresKeyStore, stack: AsyncExitStack) -> Uses:
    uses = Uses(store)
    stack.push_async_callback(uses.flush)
    task = asyncio.create_task(uses.run(), name="uses of keys")

    async def stop() -> None:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    stack.push_async_callback(stop)
    return uses


def _add(servicer: KeyServicer | NoKeysServicer, server: object) -> None:
    add_KeyServiceServicer_to_server(servicer, server)  # type: ignore[arg-type]
