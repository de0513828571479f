"""A disk that is really full: what does not fit is refused whole, and reads go on.

The data of the service's database lies on a small file system in memory.
"""

import os
import shutil
import subprocess
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import numpy as np
import pytest
import pytest_asyncio
from vector_svc_harness import (
    Client,
    limit_memory,
    needs_prlimit,
    point,
    refused,
    serving,
    table_of,
    tables_of,
)

from stepwire.api.vector.v1.collection_pb2 import IndexOptions, TextOptions
from stepwire.api.vector.v1.index_service_pb2 import (
    INDEX_BUILD_STATE_FAILED,
    INDEX_BUILD_STATE_SUCCEEDED,
    BuildIndexRequest,
    GetIndexBuildRequest,
    IndexBuild,
)
from stepwire.api.vector.v1.point_service_pb2 import BulkUpsertPointsRequest
from stepwire.api.vector.v1.search_pb2 import WordQuery
from stepwire.api.vector.v1.snapshot_service_pb2 import (
    ExportCollectionRequest,
    ImportCollectionRequest,
)
from stepwire.errors import Reason
from stepwire.stack.postgres import PostgresServer
from stepwire.testing.poll import eventually
from stepwire.testing.postgres import TEMPLATE

MEBIBYTE = 2**20
DISK_BYTES = 96 * MEBIBYTE
DIMENSION = 1_000
BATCH = 500
VECTORS = np.random.default_rng(4).standard_normal((BATCH, DIMENSION)).astype("<f4")
FULL = {"dependency": "postgres", "resource": "disk"}


@dataclass(frozen=True)
class Disk:
    """A small disk with a database on it."""

    folder: Path
    url: str

    @property
    def filler(self) -> Path:
        return self.folder / "filler"

    def free(self) -> int:
        found = os.statvfs(self.folder)
        return found.f_bavail * found.f_frsize

    def fill(self, *, but: int) -> None:
        """Leave only so many bytes."""
        self.empty()
        self.filler.write_bytes(bytes(max(self.free() - but, 0)))

    def empty(self) -> None:
        self.filler.unlink(missing_ok=True)


@pytest.fixture(scope="module")
def disk(postgres: PostgresServer) -> Iterator[Disk]:
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root can mount a file system")
    folder = postgres.folder / f"small-{uuid.uuid4().hex[:8]}"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES},mode=0777", "tmpfs", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode != 0:
        folder.rmdir()
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    name = folder.name.replace("-", "_")
    try:
        space = folder / "data"
        space.mkdir()
        if postgres.account is not None:
            shutil.chown(space, postgres.account, postgres.account)
        postgres.run_sql(f"CREATE TABLESPACE {name} LOCATION '{space}'")
        postgres.run_sql(
            f"CREATE DATABASE {name} TEMPLATE {TEMPLATE} STRATEGY file_copy TABLESPACE {name}"
        )
        try:
            yield Disk(folder, postgres.url(name))
        finally:
            postgres.run_sql(f"DROP DATABASE {name} WITH (FORCE)")
            postgres.run_sql(f"DROP TABLESPACE {name}")
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
        folder.rmdir()


@pytest_asyncio.fixture(scope="module")
async def service_on_disk(disk: Disk) -> AsyncIterator[Client]:
    async with serving(disk.url, index_build_seconds=0.1, index_build_workers=0) as made:
        yield made


@pytest_asyncio.fixture
async def cramped(service_on_disk: Client, disk: Disk, tenant: str) -> AsyncIterator[Client]:
    """Give the service on a disk with room; afterwards there is as much again."""
    disk.empty()
    yield service_on_disk
    disk.empty()
    await service_on_disk.drop()


def batch(number: int) -> list[Any]:
    body = " ".join(f"word{number}n{n}" for n in range(20))
    return [
        point(f"{number:04}-{n:04}", vector, {"body": body}) for n, vector in enumerate(VECTORS)
    ]


async def columns(client: Client, number: int) -> None:
    """Write a batch by COPY."""

    async def sent() -> AsyncIterator[BulkUpsertPointsRequest]:
        ids = [each.id for each in batch(number)]
        yield BulkUpsertPointsRequest(collection="things", ids=ids, vectors=VECTORS.tobytes())

    await client.points.BulkUpsertPoints(sent())


async def upsert(client: Client, number: int) -> None:
    await client.upsert(batch(number))


@pytest.mark.parametrize("write", [upsert, columns])
async def test_what_does_not_fit_is_refused_whole(
    cramped: Client, disk: Disk, write: Callable[[Client, int], Any]
) -> None:
    await cramped.create(dimension=DIMENSION, text=TextOptions(field="body"))
    await write(cramped, 0)
    disk.fill(but=6 * MEBIBYTE)
    written = 1
    async with refused() as error:
        while written < 100:
            await write(cramped, written)
            written += 1
    assert (error().reason, error().metadata) == (Reason.STORAGE_EXHAUSTED, FULL)
    assert await cramped.count() == written * BATCH
    assert await cramped.get([f"{written:04}-0000"]) == []
    assert [hit.point.id for hit in await cramped.search(VECTORS[7], limit=1)] != []
    assert await cramped.find(words=WordQuery(words=f"word{written}n1")) is not None
    disk.empty()
    await write(cramped, written)
    assert await cramped.count() == (written + 1) * BATCH
    if write is upsert:
        found = await cramped.find(words=WordQuery(words=f"word{written}n1"), limit=BATCH)
        assert len(found.points) == BATCH


async def test_an_import_that_does_not_fit_leaves_nothing(
    cramped: Client, disk: Disk, tenant: str
) -> None:
    await cramped.create(dimension=DIMENSION)
    for number in range(8):
        await cramped.upsert(batch(number))
    request = ExportCollectionRequest(collection="things")
    parts = [part.data async for part in cramped.snapshots.ExportCollection(request)]

    async def sent() -> AsyncIterator[ImportCollectionRequest]:
        for part in parts:
            yield ImportCollectionRequest(collection="copy", data=part)

    disk.fill(but=8 * MEBIBYTE)
    async with refused() as error:
        await cramped.snapshots.ImportCollection(sent())
    assert (error().reason, error().metadata) == (Reason.STORAGE_EXHAUSTED, FULL)
    assert len(await tables_of(disk.url, tenant)) == 1
    assert await eventually(lambda: disk.free() > 7 * MEBIBYTE)
    disk.empty()
    made = (await cramped.snapshots.ImportCollection(sent())).collection
    assert made.point_count == 8 * BATCH
    await cramped.drop("copy")


async def ended(client: Client, build_id: str) -> IndexBuild:
    found: list[IndexBuild] = []

    async def look() -> bool:
        request = GetIndexBuildRequest(build_id=build_id)
        found[:] = [(await client.indexes.GetIndexBuild(request)).build]
        return found[0].HasField("end_time")

    assert await eventually(look, 60), found
    return found[0]


async def vector_indexes(url: str, table: str) -> list[bool]:
    """Of each vector index, whether it is valid."""
    connection = await asyncpg.connect(url)
    try:
        rows = await connection.fetch(
            "SELECT indisvalid FROM pg_index WHERE indrelid = $1::text::regclass"
            " AND pg_get_indexdef(indexrelid) ~ 'USING hnsw'",
            table,
        )
        return [row[0] for row in rows]
    finally:
        await connection.close()


async def test_an_index_that_does_not_fit_leaves_nothing(
    cramped: Client, disk: Disk, tenant: str
) -> None:
    await cramped.create(dimension=DIMENSION, index=IndexOptions(min_points=1_000_000))
    for number in range(4):
        await cramped.upsert(batch(number))
    table = await table_of(disk.url, tenant)
    request = BuildIndexRequest(collection="things")
    disk.fill(but=3 * MEBIBYTE)
    failed = await ended(cramped, (await cramped.indexes.BuildIndex(request)).build.build_id)
    assert failed.state == INDEX_BUILD_STATE_FAILED
    assert "No space left on device" in failed.failure
    assert await vector_indexes(disk.url, table) == []
    assert await eventually(lambda: disk.free() > 2 * MEBIBYTE)
    assert [hit.point.id for hit in await cramped.search(VECTORS[7], limit=1)] != []
    disk.fill(but=0)
    async with refused() as error:
        for number in range(4, 8):
            await cramped.upsert(batch(number))
    assert error().metadata == FULL
    assert await cramped.delete([each.id for each in batch(3)]) == BATCH
    disk.empty()
    built = await ended(cramped, (await cramped.indexes.BuildIndex(request)).build.build_id)
    assert built.state == INDEX_BUILD_STATE_SUCCEEDED, built.failure
    assert await vector_indexes(disk.url, table) == [True]


async def test_what_a_build_could_not_drop_is_dropped_later(
    cramped: Client, disk: Disk, tenant: str
) -> None:
    await cramped.create(dimension=DIMENSION, index=IndexOptions(min_points=1))
    table = await table_of(disk.url, tenant)
    assert await vector_indexes(disk.url, table) == [True]
    connection = await asyncpg.connect(disk.url)
    try:
        # As a build leaves it that ends before its last step.
        await connection.execute(
            "UPDATE pg_index SET indisvalid = false WHERE indrelid = $1::text::regclass"
            " AND pg_get_indexdef(indexrelid) ~ 'USING hnsw'",
            table,
        )
    finally:
        await connection.close()

    async def dropped() -> bool:
        return await vector_indexes(disk.url, table) == []

    assert await eventually(dropped)


@needs_prlimit
async def test_a_write_without_memory_is_refused_whole(
    cramped: Client, disk: Disk, postgres: PostgresServer
) -> None:
    await cramped.create(dimension=DIMENSION)
    await cramped.upsert(batch(0)[:1])
    connection = await asyncpg.connect(disk.url)
    try:
        found = await connection.fetch(
            "SELECT pid FROM pg_stat_activity"
            " WHERE application_name = 'stepwire-vector' AND datname = current_database()"
        )
    finally:
        await connection.close()
    await limit_memory(postgres, [row["pid"] for row in found], "1:")
    async with refused() as error:
        await cramped.upsert([each for number in range(10) for each in batch(number)])
    assert error().reason is Reason.STORAGE_EXHAUSTED
    assert error().metadata == {"dependency": "postgres", "resource": "memory"}
    await limit_memory(postgres, [row["pid"] for row in found], "unlimited:")
    assert await cramped.count() == 1
    await cramped.upsert(batch(0))
    assert await cramped.count() == BATCH
