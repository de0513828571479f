"""Postgres' binary forms of vectors, single and as a stream for COPY.

pgvector's vectors are a header of two big-endian uint16 and big-endian values; bits are
their number and their bytes. Whole batches are turned by numpy; no value becomes a Python
object. The codecs on a connection hand the bytes through as they are.
"""

import struct
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import asyncpg
import numpy as np
from asyncpg.pool import PoolConnectionProxy

from vector_svc.engine.records import Element, Matrix
from vector_svc.engine.vectors import BITS_PER_BYTE

HEADER_BYTES: Final = 4
_JSONB_VERSION: Final = b"\x01"
_WIRE: Final[Mapping[Element, np.dtype[Any]]] = {
    Element.FLOAT32: np.dtype(">f4"),
    Element.FLOAT16: np.dtype(">f2"),
    Element.BINARY: np.dtype("u1"),
}

_VECTOR_TYPES: Final = (
    ("vector", "public"),
    ("halfvec", "public"),
    ("bit", "pg_catalog"),
    ("varbit", "pg_catalog"),
)

COPY_HEADER: Final = b"PGCOPY\n\xff\r\n\0" + bytes(8)
COPY_END: Final = b"\xff\xff"
_COPY_COLUMNS: Final = struct.pack(">h", 4)
_EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_NEVER: Final = struct.pack(">iq", 8, 2**63 - 1)


def encode_vectors(matrix: Matrix, element: Element = Element.FLOAT32) -> list[bytes]:
    """Turn the rows of a matrix into values of Postgres."""
    rows, columns = matrix.shape
    values = matrix.astype(_WIRE[element], order="C")
    header = (
        struct.pack(">i", columns * BITS_PER_BYTE)
        if element is Element.BINARY
        else struct.pack(">HH", columns, 0)
    )
    if rows == 1:
        return [header + values.tobytes()]
    width = HEADER_BYTES + columns * values.itemsize
    out = np.empty((rows, width), dtype=np.uint8)
    out[:, :HEADER_BYTES] = np.frombuffer(header, dtype=np.uint8)
    out[:, HEADER_BYTES:] = values.view(np.uint8)
    data = out.tobytes()
    return [data[start : start + width] for start in range(0, len(data), width)]


def decode_vector(value: bytes, element: Element = Element.FLOAT32) -> bytes:
    """Turn a value of Postgres into little-endian float32 bytes, or bits."""
    if element is Element.BINARY:
        return value[HEADER_BYTES:]
    values = np.frombuffer(value, dtype=_WIRE[element], offset=HEADER_BYTES)
    return values.astype("<f4").tobytes()


def copy_rows(
    ids: Sequence[str],
    vectors: Sequence[bytes],
    payloads: Sequence[bytes],
    expires: Sequence[datetime | None],
) -> bytes:
    """Turn points into the stream of COPY for id, embedding, payload, expires_at.

    Args:
        ids: Their ids.
        vectors: Their vectors as `encode_vectors` gives them.
        payloads: JSON objects.
        expires: When each is gone; None for never.
    """
    pack = struct.Struct(">i").pack
    parts = [COPY_HEADER]
    for point_id, vector, payload, end in zip(ids, vectors, payloads, expires, strict=True):
        name = point_id.encode()
        parts += (
            _COPY_COLUMNS,
            pack(len(name)),
            name,
            pack(len(vector)),
            vector,
            pack(len(payload) + 1),
            _JSONB_VERSION,
            payload,
            _NEVER if end is None else struct.pack(">iq", 8, (end - _EPOCH) // _MICROSECOND),
        )
    parts.append(COPY_END)
    return b"".join(parts)


async def whole(data: bytes) -> AsyncIterator[bytes]:
    """Give all of a stream of COPY at once; asyncpg would read a file piece by piece."""
    yield data


async def set_codecs(connection: asyncpg.Connection | PoolConnectionProxy) -> None:
    """Let vectors and `jsonb` travel as bytes: Postgres' binary form, and JSON text."""
    for type_, schema in _VECTOR_TYPES:
        await connection.set_type_codec(
            type_, schema=schema, encoder=_same, decoder=_same, format="binary"
        )
    await connection.set_type_codec(
        "jsonb",
        schema="pg_catalog",
        encoder=_JSONB_VERSION.__add__,
        decoder=_without_version,
        format="binary",
    )


def _same(data: bytes) -> bytes:
    return data


def _without_version(data: bytes) -> bytes:
    return data[1:]
