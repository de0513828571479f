"""Vectors on the wire: little-endian float32 bytes, checked whole batches at a time. Pure."""

from collections.abc import Callable, Sequence

import numpy as np

from stepwire.errors import Reason, StepwireError, field_invalid
from vector_svc.engine.records import Matrix, Metric

FLOAT_BYTES = 4


def read_vectors(
    raw: Sequence[bytes], *, dimension: int, metric: Metric, path: Callable[[int], str]
) -> Matrix:
    """Read vectors into a matrix with a row for each.

    One look at the sum of squares of each row finds all that cannot be compared: NaN,
    infinity, values so large that their squares leave float32 (pgvector computes in
    float32 too), and, for the cosine, a vector without a direction.

    Args:
        raw: The bytes of each vector.
        dimension: Length that each must have.
        metric: What the vectors will be compared by.
        path: Gives the field of a vector from its index, for errors.

    Raises:
        StepwireError: VECTOR_DIMENSION_MISMATCH, or FIELD_INVALID; both name the field.
    """
    width = FLOAT_BYTES * dimension
    for index, data in enumerate(raw):
        if len(data) != width:
            raise _wrong_length(path(index), len(data), dimension)
    matrix = np.frombuffer(b"".join(raw), dtype="<f4").reshape(len(raw), dimension)
    with np.errstate(over="ignore", invalid="ignore"):
        squares = np.einsum("ij,ij->i", matrix, matrix)
    unusable = ~np.isfinite(squares)
    if metric is Metric.COSINE:
        unusable |= squares == 0
    if unusable.any():
        index = int(unusable.argmax())
        raise field_invalid(path(index), _fault(matrix[index], float(squares[index])))
    return matrix


def dimension_mismatch(error: StepwireError) -> bool:
    """Whether an error says that a vector's length is not the collection's dimension."""
    return error.reason is Reason.VECTOR_DIMENSION_MISMATCH


def _wrong_length(field: str, size: int, dimension: int) -> StepwireError:
    if size == 0:
        return field_invalid(field, "is required")
    if size % FLOAT_BYTES:
        return field_invalid(field, f"must be float32 values, not {size} bytes")
    got = size // FLOAT_BYTES
    return StepwireError(
        Reason.VECTOR_DIMENSION_MISMATCH,
        f"{field}: has {got} values, the collection's vectors have {dimension}",
        metadata={"field": field, "dimension": str(dimension), "got": str(got)},
    )


def _fault(row: Matrix, square: float) -> str:
    wrong = np.flatnonzero(~np.isfinite(row))
    if wrong.size:
        return f"value {wrong[0]} is {row[wrong[0]]}, which cannot be compared"
    if square == 0:
        return "has no direction, so that no cosine can be computed: its sum of squares is 0"
    return "is too long: its sum of squares is beyond float32"
