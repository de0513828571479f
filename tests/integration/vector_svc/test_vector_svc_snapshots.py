"""Collections written into snapshots and made from them, all or nothing."""

import asyncio
import json
import os
import struct
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner
from vector_svc_harness import Client, point, refused, tables_of

from stepwire.api.vector.v1.collection_pb2 import (
    ELEMENT_TYPE_BINARY,
    ELEMENT_TYPE_FLOAT16,
    ELEMENT_TYPE_FLOAT32,
    FIELD_TYPE_INT,
    Collection,
    PromotedField,
)
from stepwire.api.vector.v1.collection_service_pb2 import (
    CreateCollectionRequest,
    ListCollectionsRequest,
)
from stepwire.api.vector.v1.snapshot_service_pb2 import (
    ExportCollectionRequest,
    ImportCollectionRequest,
)
from stepwire.cli.app import app
from stepwire.cli.exits import ExitCode
from stepwire.errors import Reason
from vector_svc.engine.records import CollectionConfig, Metric
from vector_svc.snapshots import rows
from vector_svc.snapshots.format import Writer
from vector_svc.snapshots.manifest import manifest_of
from vector_svc.store.codecs import COPY_END, COPY_HEADER, encode_vectors

ROWS = 1_500


async def export(client: Client, name: str = "things") -> bytes:
    stream = client.snapshots.ExportCollection(ExportCollectionRequest(collection=name))
    return b"".join([part.data async for part in stream])


async def restore(client: Client, data: bytes, name: str = "", step: int = 65_536) -> Collection:
    async def sent() -> AsyncIterator[ImportCollectionRequest]:
        yield ImportCollectionRequest(collection=name)
        for start in range(0, len(data), step):
            yield ImportCollectionRequest(data=data[start : start + step])

    return (await client.snapshots.ImportCollection(sent())).collection


async def names(client: Client) -> list[str]:
    response = await client.collections.ListCollections(ListCollectionsRequest())
    return [found.name for found in response.collections]


async def fill(client: Client, element: Any = ELEMENT_TYPE_FLOAT32) -> list[str]:
    wanted = Collection(name="things", dimension=64, element_type=element)
    wanted.fields.append(PromotedField(name="n", type=FIELD_TYPE_INT))
    wanted.default_ttl.FromSeconds(86_400)
    await client.collections.CreateCollection(CreateCollectionRequest(collection=wanted))
    vectors = np.random.default_rng(5).standard_normal((ROWS, 64)).astype("<f4")
    raws = [bytes(v.view(np.uint8)[:8]) if element == ELEMENT_TYPE_BINARY else v for v in vectors]
    await client.upsert([point(str(n), v, {"n": n}) for n, v in enumerate(raws)])
    return [str(n) for n in range(ROWS)]


@pytest.mark.parametrize(
    "element", [ELEMENT_TYPE_FLOAT32, ELEMENT_TYPE_FLOAT16, ELEMENT_TYPE_BINARY]
)
async def test_what_was_exported_is_imported(
    client: Client, element: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "PIECE_ROWS", ROWS // 4 + 1)
    ids = await fill(client, element)
    data = await export(client)
    made = await restore(client, data, "copy")
    assert (made.name, made.point_count, made.element_type) == ("copy", ROWS, element)
    assert await client.get(ids, "copy", include_vectors=True) == await client.get(
        ids, include_vectors=True
    )
    assert [field.name for field in made.fields] == ["n"]
    await client.drop()
    assert (await restore(client, data)).name == "things"


async def test_an_empty_collection_is_a_snapshot_too(client: Client) -> None:
    await client.create()
    assert (await restore(client, await export(client), "copy")).point_count == 0


async def test_a_name_that_is_taken_is_left_alone(client: Client) -> None:
    await client.create()
    data = await export(client)
    for name, reason in (("things", Reason.COLLECTION_EXISTS), ("No", Reason.FIELD_INVALID)):
        async with refused() as error:
            await restore(client, data, name)
        assert error().reason is reason


async def test_what_is_no_whole_snapshot_leaves_nothing(
    client: Client, service_url: str, tenant: str
) -> None:
    await fill(client)
    data = await export(client)
    changed = bytearray(data)
    changed[len(data) // 2] ^= 1
    for wrong, fault in (
        (b"", "truncated"),
        (data[:100], "truncated"),
        (data[: len(data) // 2], "truncated"),
        (data[:-1], "truncated"),
        (bytes(changed), "damaged"),
        (b"something else", "foreign"),
        (data + b"x", "trailing"),
        (data.replace(b"snapshot 1", b"snapshot 2", 1), "version"),
    ):
        async with refused() as error:
            await restore(client, wrong, "copy")
        assert (error().reason, error().metadata) == (Reason.SNAPSHOT_INVALID, {"fault": fault})
    assert await names(client) == ["things"]
    assert len(await tables_of(service_url, tenant)) == 1


def row_of(vector: bytes, payload: bytes) -> bytes:
    """A point as a stream of COPY, which nothing has checked."""
    never = struct.pack(">q", 2**63 - 1)
    values = (b"a", vector, b"\1" + payload, bytes(8), never)
    columns = [struct.pack(">i", len(value)) + value for value in values]
    return b"".join([COPY_HEADER, struct.pack(">h", len(columns)), *columns, COPY_END])


async def test_points_that_no_upsert_would_let_in_are_refused(client: Client) -> None:
    """Even with all checksums right: rows that a hand has made."""
    [zero] = encode_vectors(np.zeros((1, 3), "<f4"))
    [unit] = encode_vectors(np.ones((1, 3), "<f4"))

    def snapshot(vector: bytes, payload: bytes) -> bytes:
        writer = Writer()
        begin = writer.begin(manifest_of(CollectionConfig("things", 3, Metric.COSINE)))
        return begin + writer.rows(row_of(vector, payload)) + writer.end(rows=1)

    for vector, payload in (
        (zero, b"{}"),
        (unit[:-4], b"{}"),
        (unit[:2], b"{}"),
        (unit, b"[]"),
        (unit, b'{"a": "\xff"}'),
        (unit, b'{"a": [1, {"b": -1e400}]}'),
        (unit, b'{"a":' * 33 + b"1" + b"}" * 33),
    ):
        async with refused() as error:
            await restore(client, snapshot(vector, payload))
        assert error().metadata == {"fault": "rows"}, (vector, payload)
    assert await names(client) == []
    deepest = b'{"a":' * 31 + b"[1e300]" + b"}" * 31
    assert (await restore(client, snapshot(unit, deepest))).point_count == 1
    assert len(await client.get(["a"])) == 1


async def test_a_missing_collection_has_no_snapshot(client: Client) -> None:
    async with refused() as error:
        await export(client, "missing")
    assert error().reason is Reason.COLLECTION_NOT_FOUND


async def test_the_command_line_saves_restores_and_names(client: Client, tmp_path: Path) -> None:
    async def stepwire(*words: str, code: int = 0) -> str:
        arguments = ["collections", *words, "--gateway", client.address]
        result = await asyncio.to_thread(CliRunner().invoke, app, arguments)
        assert result.exit_code == code, result.output
        return result.stdout

    await client.create()
    await client.upsert([point("a", [1, 2, 3])])
    file = tmp_path / "things.snapshot"
    await stepwire("save", "things", str(file))
    assert await asyncio.to_thread(os.listdir, tmp_path) == ["things.snapshot"]
    assert "Restored copy: 1 points." in await stepwire("restore", str(file), "--name", "copy")
    await stepwire("alias", "live", "copy")
    listed = json.loads(await stepwire("list", "--output", "json"))
    assert [(row["name"], row["points"], row["aliases"]) for row in listed] == [
        ("copy", 1, ["live"]),
        ("things", 1, []),
    ]
    await stepwire("alias", "live")
    assert "copy" in await stepwire("list")
    whole = file.read_bytes()
    await stepwire("save", "missing", str(file), code=ExitCode.NOT_FOUND)
    await stepwire("save", "things", str(tmp_path / "nowhere" / "x"), code=ExitCode.REFUSED)
    assert file.read_bytes() == whole
    file.write_bytes(whole[:-3])
    await stepwire("restore", str(file), "--name", "half", code=ExitCode.REFUSED)
    await stepwire("save", "missing", str(tmp_path / "x"), code=ExitCode.NOT_FOUND)
    assert await asyncio.to_thread(os.listdir, tmp_path) == ["things.snapshot"]
