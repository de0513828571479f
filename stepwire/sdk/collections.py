"""Collections of vectors as wholes, for programs: listed, renamed, saved and restored."""

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import timedelta

import grpc.aio

from stepwire.api.vector.v1.collection_pb2 import Alias, Collection
from stepwire.api.vector.v1.collection_service_pb2 import (
    AliasChange,
    ChangeAliasesRequest,
    ListAliasesRequest,
    ListCollectionsRequest,
)
from stepwire.api.vector.v1.collection_service_pb2_grpc import (
    CollectionServiceAsyncStub,
    CollectionServiceStub,
)
from stepwire.api.vector.v1.snapshot_service_pb2 import (
    ExportCollectionRequest,
    ImportCollectionRequest,
)
from stepwire.api.vector.v1.snapshot_service_pb2_grpc import (
    SnapshotServiceAsyncStub,
    SnapshotServiceStub,
)
from stepwire.sdk.failures import raising_ours


class Collections:
    """Collections of vectors as wholes. Every method raises `StepwireError`.

    Args:
        channel: To the gateway; the caller closes it.
        target: What `channel` leads to, for error messages.
        timeout: Longest time for one call; snapshots take as long as they take.
    """

    def __init__(self, channel: grpc.aio.Channel, *, target: str, timeout: timedelta) -> None:
        self._collections: CollectionServiceAsyncStub = CollectionServiceStub(channel)
        self._snapshots: SnapshotServiceAsyncStub = SnapshotServiceStub(channel)
        self._target = target
        self._timeout_seconds = timeout.total_seconds()

    async def list(self) -> list[Collection]:
        """Reads all collections, by name."""
        found: list[Collection] = []
        token = ""
        while True:
            with raising_ours(self._target):
                response = await self._collections.ListCollections(
                    ListCollectionsRequest(page_token=token), timeout=self._timeout_seconds
                )
            found += response.collections
            token = response.next_page_token
            if not token:
                return found

    async def aliases(self) -> dict[str, str]:
        """Reads all aliases: the collection of each."""
        found: dict[str, str] = {}
        token = ""
        while True:
            with raising_ours(self._target):
                response = await self._collections.ListAliases(
                    ListAliasesRequest(page_token=token), timeout=self._timeout_seconds
                )
            found |= {alias.name: alias.collection for alias in response.aliases}
            token = response.next_page_token
            if not token:
                return found

    async def change_aliases(self, changes: Mapping[str, str]) -> Sequence[Alias]:
        """Sets aliases to collections, in one step; "" deletes one."""
        request = ChangeAliasesRequest(
            changes=[AliasChange(alias=alias, collection=to) for alias, to in changes.items()]
        )
        with raising_ours(self._target):
            response = await self._collections.ChangeAliases(request, timeout=self._timeout_seconds)
        return response.aliases

    async def save(self, name: str) -> AsyncIterator[bytes]:
        """Yields the bytes of a snapshot of a collection."""
        with raising_ours(self._target):
            request = ExportCollectionRequest(collection=name)
            async for part in self._snapshots.ExportCollection(request):
                yield part.data

    async def restore(self, data: AsyncIterator[bytes], *, name: str = "") -> Collection:
        """Makes a collection of the bytes of a snapshot, under another name if one is given."""

        async def sent() -> AsyncIterator[ImportCollectionRequest]:
            yield ImportCollectionRequest(collection=name)
            async for part in data:
                yield ImportCollectionRequest(data=part)

        with raising_ours(self._target):
            response = await self._snapshots.ImportCollection(sent())
        return response.collection
