"""Connections to the record."""

from contextlib import AbstractAsyncContextManager
from typing import Final

import asyncpg

from stepwire.db import open_pool

# A process that is frozen, or cut off, in the middle of a transaction holds its locks for so
# long at most; one that does not read the answer to a statement, which holds them until all of
# it is sent, for about twice as long. Otherwise Postgres would wait for it, and whoever needs
# one of the tasks with Postgres.
IDLE_IN_TRANSACTION_SECONDS = 5
UNREAD_SECONDS = 5

# With the values at hand, Postgres plans a statement over partitions anew each time, since it
# takes the plan for one of them to be cheaper: reading a task costs 0.47 ms that way, and
# 0.13 ms by a plan for all of them, whose partitions are chosen when it runs.
SETTINGS: Final = {
    "plan_cache_mode": "force_generic_plan",
    "idle_in_transaction_session_timeout": f"{IDLE_IN_TRANSACTION_SECONDS}s",
    "tcp_user_timeout": f"{UNREAD_SECONDS}s",
}


def open_record(
    url: str, *, application_name: str, max_size: int = 8, metrics_name: str = ""
) -> AbstractAsyncContextManager[asyncpg.Pool]:
    """Open a pool to the record at `url`; close it at the end.

    Args:
        url: `postgresql://user@host:port/database`.
        application_name: shown in `pg_stat_activity`.
        max_size: most connections.
        metrics_name: under which metrics show how busy it is; they do not if it is empty.

    Raises:
        StepwireError: DEPENDENCY_UNAVAILABLE, when Postgres cannot be reached.
    """
    return open_pool(
        url,
        application_name=application_name,
        max_size=max_size,
        settings=SETTINGS,
        metrics_name=metrics_name,
    )
