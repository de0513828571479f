"""Collections written into streams of bytes, and made from them."""

import asyncio
from collections.abc import AsyncIterator
from typing import Final

from vector_svc.collections.registry import Collections
from vector_svc.engine.records import Collection, SizedCollection
from vector_svc.snapshots.format import MANIFEST, ROWS, Reader, Writer, invalid, read_json
from vector_svc.snapshots.manifest import config_of, manifest_of
from vector_svc.snapshots.pace import Limits, Pace, Paces, Side
from vector_svc.snapshots.ports import SnapshotStore
from vector_svc.snapshots.rows import COLUMNS, RowCutter

# Parts that are ready while the caller takes its time.
AHEAD: Final = 4
# Postgres gives row by row; so many bytes make a part.
PART_BYTES: Final = 256 * 1024


class Snapshots:
    """Snapshots of all collections."""

    def __init__(self, store: SnapshotStore, collections: Collections, limits: Limits) -> None:
        self._store = store
        self._collections = collections
        self._paces = Paces(limits)

    def stop(self) -> None:
        """Cut off all that are under way, since the service stops."""
        self._paces.stop()

    async def dump(self, tenant_id: str, name: str) -> AsyncIterator[bytes]:
        """Yield the bytes of a snapshot.

        Raises:
            StepwireError: FIELD_INVALID, COLLECTION_NOT_FOUND, OVERLOADED or
                SNAPSHOT_CUT_OFF.
        """
        parts: asyncio.Queue[bytes | None] = asyncio.Queue(AHEAD)

        async def work() -> None:
            try:
                async with self._paces.pace() as pace:
                    await self._write(tenant_id, name, parts, pace)
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
            StepwireError: SNAPSHOT_INVALID, FIELD_INVALID, NAME_TAKEN, COLLECTION_EXISTS,
                OVERLOADED or SNAPSHOT_CUT_OFF.
        """
        async with self._paces.pace() as pace:
            reader = Reader()
            parts = _parts(reader, _heard(data, pace))
            kind, manifest = await anext(parts, (b"", b""))
            if kind != MANIFEST:
                reader.finish()
                raise invalid("damaged", "it has no manifest")
            config = config_of(read_json(manifest), name)
            pieces = _pieces(parts, pace)
            await self._store.restore(tenant_id, config, pieces, reader.finish)
        return await self._collections.get(tenant_id, config.name)

    async def _write(
        self, tenant_id: str, name: str, parts: "asyncio.Queue[bytes | None]", pace: Pace
    ) -> None:
        async def write(collection: Collection) -> None:
            writer = Writer()
            # Given with the first rows: a collection that is gone is looked for once more.
            ready = writer.begin(manifest_of(collection.config))
            waiting = bytearray()

            async def sink(data: bytes) -> None:
                nonlocal ready
                pace.moved()
                waiting.extend(data)
                if len(waiting) >= PART_BYTES:
                    part = ready + writer.rows(bytes(waiting))
                    ready = b""
                    waiting.clear()
                    pace.waits(Side.CALLER)
                    await parts.put(part)
                    pace.waits(Side.POSTGRES)

            rows = await self._store.dump(collection, sink)
            pace.waits(Side.CALLER)
            await parts.put(ready + writer.rows(bytes(waiting)) + writer.end(rows=rows))

        await self._collections.use(tenant_id, name, write)


async def _heard(data: AsyncIterator[bytes], pace: Pace) -> AsyncIterator[bytes]:
    """Give what a caller sends, and tell when it is waited for."""
    pace.waits(Side.CALLER)
    async for message in data:
        pace.waits(Side.POSTGRES)
        yield message
        pace.waits(Side.CALLER)


async def _parts(reader: Reader, data: AsyncIterator[bytes]) -> AsyncIterator[tuple[bytes, bytes]]:
    async for message in data:
        for part in reader.feed(message):
            yield part
    reader.finish()


async def _pieces(parts: AsyncIterator[tuple[bytes, bytes]], pace: Pace) -> AsyncIterator[bytes]:
    """Give the rows in streams that are each written in short time."""
    cutter = RowCutter(len(COLUMNS))
    async for kind, data in parts:
        if kind != ROWS:
            raise invalid("damaged", "it has two manifests")
        for piece in cutter.feed(data):
            yield piece
            pace.moved()
    if last := cutter.finish():
        yield last
        pace.moved()
