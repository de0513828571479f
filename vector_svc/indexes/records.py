"""Builds of indexes. Pure."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID


class BuildState(StrEnum):
    """How far a build has come; the values are those of the column `state`."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"


@dataclass(frozen=True, slots=True)
class IndexBuild:
    """One build of a collection's index; see `IndexBuild` in index_service.proto."""

    id: UUID
    collection: str
    state: BuildState
    phase: str
    progress: float
    estimated_bytes: int
    memory_bytes: int
    failure: str
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
