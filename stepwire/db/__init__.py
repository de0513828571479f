"""Postgres: pools, named queries, migrations."""

from stepwire.db.migrations import check_migrated, migrate
from stepwire.db.pool import open_pool, retryable
from stepwire.db.queries import Queries, load_queries

__all__ = ["Queries", "check_migrated", "load_queries", "migrate", "open_pool", "retryable"]
