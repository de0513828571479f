"""Collections written into streams of bytes, and made from them."""

import asyncio
from collections.abc import AsyncIterator
from typing import Final

from vector_svc.collections.registry import Collections
from vector_svc.engine.records import Collection, SizedCollection
from vector_svc.snapshots.format import MANIFEST, ROWS, Reader, Writer, invalid, read_json
from vector_svc.snapshots.manifest import config_of, manifest_of
from vector_svc.snapshots.ports import SnapshotStore

# Parts that are ready while the caller takes its time.
AHEAD: Final = 4
# Postgres gives row by row; so many bytes make a part.
PART_BYTES: Final = 256 * 1024


class Snapshots:
    """Snapshots of all collections."""

    def __init__(self, store: SnapshotStore, collections: Collections) -> None:
        self._store = store
        self._collections = collections

    async def dump(self, tenant_id: str, name: str) -> AsyncIterator[bytes]:
        """Yield the bytes of a snapshot.

        Raises:
            StepwireError: FIELD_INVALID or COLLECTION_NOT_FOUND.
        """
        parts: asyncio.Queue[bytes | None] = asyncio.Queue(AHEAD)

        async def write(collection: Collection) -> None:
            writer = Writer()
            waiting = bytearray()

            async def sink(data: bytes) -> None:
                waiting.extend(data)
                if len(waiting) >= PART_BYTES:
                    part = writer.rows(bytes(waiting))
                    waiting.clear()
                    await parts.put(part)

            await parts.put(writer.begin(manifest_of(collection.config)))
            rows = await self._store.dump(collection, sink)
            await parts.put(writer.rows(bytes(waiting)) + writer.end(rows=rows))

        async def work() -> None:
            try:
                # Looked up first, since what was put cannot be taken back.
                found = await self._collections.get(tenant_id, name)
                await write(found.collection)
            except asyncio.CancelledError:
                raise  # nobody reads any more, so that there is no room for an end
            except BaseException:
                await parts.put(None)
                raise
            await parts.put(None)

        working = asyncio.create_task(work(), name="snapshot")
        try:
            while (part := await parts.get()) is not None:
                yield part
            await working
        finally:
            working.cancel()

    async def restore(
        self, tenant_id: str, name: str, data: AsyncIterator[bytes]
    ) -> SizedCollection:
        """Make a collection of the bytes of a snapshot.

        Args:
            tenant_id: Whose it is.
            name: Its name; "" for that of the snapshot.
            data: The bytes.

        Raises:
            StepwireError: SNAPSHOT_INVALID, FIELD_INVALID, NAME_TAKEN, COLLECTION_EXISTS.
        """
        reader = Reader()
        parts = _parts(reader, data)
        kind, manifest = await anext(parts, (b"", b""))
        if kind != MANIFEST:
            reader.finish()
            raise invalid("damaged", "it has no manifest")
        config = config_of(read_json(manifest), name)
        await self._store.restore(tenant_id, config, _rows(parts), reader.finish)
        return await self._collections.get(tenant_id, config.name)


async def _parts(reader: Reader, data: AsyncIterator[bytes]) -> AsyncIterator[tuple[bytes, bytes]]:
    async for piece in data:
        for part in reader.feed(piece):
            yield part
    reader.finish()


async def _rows(parts: AsyncIterator[tuple[bytes, bytes]]) -> AsyncIterator[bytes]:
    async for kind, data in parts:
        if kind != ROWS:
            raise invalid("damaged", "it has two manifests")
        yield data
