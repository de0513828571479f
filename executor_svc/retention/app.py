"""Wiring of retention."""

import asyncio
from contextlib import AsyncExitStack
from datetime import timedelta

import asyncpg

from executor_svc.retention.loop import Retention
from executor_svc.retention.store import PostgresRetentionStore
from executor_svc.settings import ExecutorSettings
from stepwire.db import retryable


async def start(pool: asyncpg.Pool, settings: ExecutorSettings, stack: AsyncExitStack) -> None:
    """Keep the record small from now on; the partitions of today are tried for at once."""
    retention = Retention(
        PostgresRetentionStore(pool),
        span=timedelta(hours=settings.partition_hours),
        keep=timedelta(days=settings.retention_days),
        every_seconds=settings.retention_sweep_seconds,
    )
    await retryable()(retention.prepare)()
    running = asyncio.create_task(retention.run(), name="retention")
    stack.callback(running.cancel)
