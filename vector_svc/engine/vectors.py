"""Vectors on the wire: little-endian values or bits, checked whole batches at a time. Pure."""

import math
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

from stepwire.errors import Reason, StepwireError, field_invalid
from vector_svc.engine.records import Collection, Element, Matrix, Metric

FLOAT_BYTES: Final = 4
HALF_BYTES: Final = 2
BITS_PER_BYTE: Final = 8
_FLOAT: Final = np.dtype("<f4")
MAX_HALF: Final = 65_504


def read_vectors(
    raw: Sequence[bytes],
    *,
    dimension: int,
    metric: Metric,
    path: Callable[[int], str],
    element: Element = Element.FLOAT32,
    halved: bool = False,
) -> Matrix:
    """Read vectors into a matrix with a row for each.

    One look at the sum of squares of each row finds all that cannot be compared: NaN,
    infinity, values so large that their squares leave float32 (pgvector computes in
    float32 too), and, for the cosine, a vector without a direction. Values that are
    stored as float16, or indexed so, are looked at as that.

    Args:
        raw: The bytes of each vector: float32 or float16, told by their number, or bits.
        dimension: Length that each must have.
        metric: What the vectors will be compared by.
        path: Gives the field of a vector from its index, for errors.
        element: What they will be stored as.
        halved: Whether an index turns them into float16.

    Raises:
        StepwireError: VECTOR_DIMENSION_MISMATCH, or FIELD_INVALID; both name the field.
    """
    if element is Element.BINARY:
        return _bits(raw, dimension, path)
    halved = halved or element is Element.FLOAT16
    matrix = _floats(raw, dimension, path)
    if not halved and len(raw) == 1:
        # One vector, as of a search: a tenth of the time that whole batches take.
        row = matrix[0]
        square = row.dot(row)
        if math.isfinite(square) and (square or metric is not Metric.COSINE):
            return matrix
    with np.errstate(over="ignore", invalid="ignore"):
        seen = matrix.astype("<f2").astype("<f4") if halved else matrix
        squares = np.einsum("ij,ij->i", seen, seen)
    unusable = ~np.isfinite(squares)
    if metric is Metric.COSINE:
        unusable |= squares == 0
    if unusable.any():
        index = int(unusable.argmax())
        row = matrix[index]
        raise field_invalid(path(index), _fault(row, float(squares[index]), halved=halved))
    return seen if element is Element.FLOAT16 else matrix


def vectors_of(
    collection: Collection, raw: Sequence[bytes], *, path: Callable[[int], str]
) -> Matrix:
    """Read vectors of a collection; see `read_vectors`."""
    config = collection.config
    return read_vectors(
        raw,
        dimension=config.dimension,
        metric=config.metric,
        path=path,
        element=config.element,
        halved=collection.halved,
    )


def read_columns(data: bytes, *, count: int, collection: Collection, field: str) -> Matrix:
    """Read vectors that stand one behind the other; see `read_vectors`.

    Raises:
        StepwireError: VECTOR_DIMENSION_MISMATCH, or FIELD_INVALID; both name the field.
    """
    width, rest = divmod(len(data), count)
    if not width:
        raise field_invalid(field, "is required")
    if rest:
        raise field_invalid(field, f"{len(data)} bytes are not those of {count} vectors")
    view = memoryview(data)
    rows = [bytes(view[start : start + width]) for start in range(0, len(data), width)]
    return vectors_of(collection, rows, path=lambda index: f"{field}[{index}]")


def dimension_mismatch(error: StepwireError) -> bool:
    """Whether an error says that a vector's length is not the collection's dimension."""
    return error.reason is Reason.VECTOR_DIMENSION_MISMATCH


def _floats(raw: Sequence[bytes], dimension: int, path: Callable[[int], str]) -> Matrix:
    whole, half = FLOAT_BYTES * dimension, HALF_BYTES * dimension
    if len(raw) == 1 and len(raw[0]) == whole:
        return np.frombuffer(raw[0], _FLOAT).reshape(1, dimension)
    widths = set(map(len, raw))
    if widths == {whole}:
        return np.frombuffer(b"".join(raw), dtype="<f4").reshape(len(raw), dimension)
    for index, data in enumerate(raw):
        if len(data) not in (whole, half):
            raise _wrong_length(path(index), len(data), dimension)
    if widths == {half}:
        return np.frombuffer(b"".join(raw), "<f2").reshape(len(raw), dimension).astype("<f4")
    return np.stack(
        [np.frombuffer(data, "<f4" if len(data) == whole else "<f2").astype("<f4") for data in raw]
    )


def _bits(raw: Sequence[bytes], dimension: int, path: Callable[[int], str]) -> Matrix:
    width = dimension // BITS_PER_BYTE
    for index, data in enumerate(raw):
        if not data:
            raise field_invalid(path(index), "is required")
        if len(data) != width:
            raise _mismatch(path(index), dimension, len(data) * BITS_PER_BYTE)
    return np.frombuffer(b"".join(raw), dtype=np.uint8).reshape(len(raw), width)


def _wrong_length(field: str, size: int, dimension: int) -> StepwireError:
    if size == 0:
        return field_invalid(field, "is required")
    if size % FLOAT_BYTES:
        return field_invalid(field, f"must be float32 values, not {size} bytes")
    return _mismatch(field, dimension, size // FLOAT_BYTES)


def _mismatch(field: str, dimension: int, got: int) -> StepwireError:
    return StepwireError(
        Reason.VECTOR_DIMENSION_MISMATCH,
        f"{field}: has {got} values, the collection's vectors have {dimension}",
        metadata={"field": field, "dimension": str(dimension), "got": str(got)},
    )


def _fault(row: Matrix, square: float, *, halved: bool) -> str:
    wrong = np.flatnonzero(~np.isfinite(row))
    if wrong.size:
        return f"value {wrong[0]} is {row[wrong[0]]}, which cannot be compared"
    if square == 0:
        return "has no direction, so that no cosine can be computed: its sum of squares is 0"
    if halved and np.abs(row).max() > MAX_HALF:
        return f"value {np.abs(row).argmax()} is beyond float16"
    return "is too long: its sum of squares is beyond float32"
