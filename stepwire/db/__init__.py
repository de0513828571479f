"""Postgres: pools, named queries, migrations."""

from stepwire.db.migrations import migrate
from stepwire.db.pool import open_pool, retryable
from stepwire.db.queries import Queries, load_queries

__all__ = ["Queries", "load_queries", "migrate", "open_pool", "retryable"]
