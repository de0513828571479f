"""What builds of indexes need from outside."""

from collections.abc import Awaitable, Sequence
from typing import Protocol
from uuid import UUID

from vector_svc.engine.records import Collection
from vector_svc.indexes.records import BuildState, IndexBuild


class BuildStore(Protocol):
    """Keeps builds."""

    def rows(self, collection: Collection) -> Awaitable[int]:
        """Return the number of a collection's points."""
        ...

    def request(
        self, collection: Collection, *, estimated_bytes: int, memory_bytes: int
    ) -> Awaitable[UUID]:
        """Ask for a build; return its id, or that of the one that is under way."""
        ...

    def get(self, tenant_id: str, build_id: UUID) -> Awaitable[IndexBuild | None]:
        """Return a build, None if there is none."""
        ...

    def latest(self, collection: Collection) -> Awaitable[Sequence[IndexBuild]]:
        """Return the latest builds of a collection, the latest first."""
        ...

    def cancel(self, tenant_id: str, build_id: UUID) -> Awaitable[None]:
        """End a build that has not ended."""
        ...


class Works(Protocol):
    """What there is to build, and the building."""

    def tidy(self) -> Awaitable[None]:
        """Drop what builds that have ended could not drop."""
        ...

    def unindexed(self) -> Awaitable[Sequence[Collection]]:
        """Return collections that have become large enough for their index."""
        ...

    def open(self) -> Awaitable[Sequence[UUID]]:
        """Return the builds that have not ended, the oldest first."""
        ...

    def build(self, build_id: UUID) -> Awaitable[BuildState | None]:
        """Build, unless another instance does; return how it ended, None if it did not."""
        ...
