"""What snapshots need from outside."""

from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any, Protocol

from vector_svc.engine.records import Collection, CollectionConfig

# Gets the next bytes of the rows.
Sink = Callable[[bytes], Coroutine[Any, Any, None]]


class SnapshotStore(Protocol):
    """Reads and writes the rows of whole collections."""

    def dump(self, collection: Collection, sink: Sink) -> Awaitable[int]:
        """Give all rows as they are at one moment; return their number.

        Raises:
            CollectionGoneError: it is no longer there.
        """
        ...

    def restore(
        self,
        tenant_id: str,
        config: CollectionConfig,
        rows: AsyncIterator[bytes],
        expected: Callable[[], int],
    ) -> Awaitable[None]:
        """Make a collection of rows; nothing of it is there unless all is.

        Args:
            tenant_id: Whose it is.
            config: What it is made of.
            rows: What `dump` gave, in streams of some rows each; what it raises ends it.
            expected: Gives the number of rows after the last.

        Raises:
            StepwireError: NAME_TAKEN, COLLECTION_EXISTS or SNAPSHOT_INVALID.
        """
        ...
