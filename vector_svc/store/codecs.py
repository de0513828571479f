"""pgvector's binary form: a header of two big-endian uint16, then big-endian float32.

Whole batches are turned by numpy; no value becomes a Python object. The codecs on a
connection hand the bytes through as they are.
"""

import struct
from typing import Final

import asyncpg
import numpy as np
from asyncpg.pool import PoolConnectionProxy

from vector_svc.engine.records import Matrix

HEADER_BYTES: Final = 4
_JSONB_VERSION: Final = b"\x01"


def encode_vectors(matrix: Matrix) -> list[bytes]:
    """Turn the rows of a matrix into pgvector values."""
    rows, dimension = matrix.shape
    width = HEADER_BYTES + 4 * dimension
    out = np.empty((rows, width), dtype=np.uint8)
    out[:, :HEADER_BYTES] = np.frombuffer(struct.pack(">HH", dimension, 0), dtype=np.uint8)
    out[:, HEADER_BYTES:] = matrix.astype(">f4", order="C").view(np.uint8)
    data = out.tobytes()
    return [data[start : start + width] for start in range(0, len(data), width)]


def decode_vector(value: bytes) -> bytes:
    """Turn a pgvector value into little-endian float32 bytes."""
    return np.frombuffer(value, dtype=">f4", offset=HEADER_BYTES).astype("<f4").tobytes()


async def set_codecs(connection: asyncpg.Connection | PoolConnectionProxy) -> None:
    """Let `vector` and `jsonb` travel as bytes: pgvector's binary form, and JSON text."""
    await connection.set_type_codec(
        "vector", schema="public", encoder=_same, decoder=_same, format="binary"
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
