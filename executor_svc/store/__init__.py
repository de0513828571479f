"""The executor's ports on Postgres, schema `executor`."""

from executor_svc.store.limits import PostgresLimitStore
from executor_svc.store.pool import open_record
from executor_svc.store.release import PostgresReleaseStore
from executor_svc.store.sessions import PostgresSessionStore
from executor_svc.store.steps import PostgresStepStore
from executor_svc.store.sweep import PostgresSweepStore
from executor_svc.store.tasks import PostgresTaskStore

__all__ = [
    "PostgresLimitStore",
    "PostgresReleaseStore",
    "PostgresSessionStore",
    "PostgresStepStore",
    "PostgresSweepStore",
    "PostgresTaskStore",
    "open_record",
]
