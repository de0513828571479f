"""Vectors between the wire, numpy and pgvector."""

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pgvector import Vector

from stepwire.errors import Reason, StepwireError
from vector_svc.engine.records import Metric
from vector_svc.engine.vectors import dimension_mismatch, read_vectors
from vector_svc.store.codecs import decode_vector, encode_vectors

components = st.floats(width=32, min_value=-(2.0**50), max_value=2.0**50)


@st.composite
def batches(draw: st.DrawFn) -> list[list[float]]:
    dimension = draw(st.integers(1, 40))
    row = st.lists(components, min_size=dimension, max_size=dimension)
    return draw(st.lists(row, min_size=1, max_size=6))


def pack(values: list[float]) -> bytes:
    return struct.pack(f"<{len(values)}f", *values)


def read(raw: list[bytes], dimension: int, metric: Metric = Metric.EUCLIDEAN) -> np.ndarray:
    return read_vectors(raw, dimension=dimension, metric=metric, path=lambda i: f"points[{i}].v")


@given(batches())
def test_what_is_stored_is_what_was_sent(batch: list[list[float]]) -> None:
    raw = [pack(row) for row in batch]
    encoded = encode_vectors(read(raw, len(batch[0])))
    assert [decode_vector(value) for value in encoded] == raw


@given(batches())
def test_the_stored_form_is_pgvectors(batch: list[list[float]]) -> None:
    encoded = encode_vectors(read([pack(row) for row in batch], len(batch[0])))
    assert encoded == [Vector(row).to_binary() for row in batch]


def test_rows_in_another_order_are_encoded_in_that_order() -> None:
    matrix = read([pack([1, 2]), pack([3, 4])], 2)[[1, 0]]
    assert encode_vectors(matrix) == [Vector([3, 4]).to_binary(), Vector([1, 2]).to_binary()]


@pytest.mark.parametrize(
    ("values", "metric", "words"),
    [
        ([1.0, float("nan")], Metric.DOT, "value 1 is nan"),
        ([float("inf"), 1.0], Metric.EUCLIDEAN, "value 0 is inf"),
        ([1.0, float("-inf")], Metric.COSINE, "value 1 is -inf"),
        ([3e38, 3e38], Metric.EUCLIDEAN, "too long"),
        ([0.0, 0.0], Metric.COSINE, "no direction"),
        ([-0.0, 1e-30], Metric.COSINE, "no direction"),
    ],
)
def test_vectors_that_cannot_be_compared_are_refused(
    values: list[float], metric: Metric, words: str
) -> None:
    good = pack([1.0, 1.0])
    with pytest.raises(StepwireError) as caught:
        read([good, good, pack(values), good], 2, metric)
    assert caught.value.reason is Reason.FIELD_INVALID
    [fault] = caught.value.faults
    assert fault.field == "points[2].v"
    assert words in fault.description


@pytest.mark.parametrize("metric", [Metric.DOT, Metric.EUCLIDEAN])
def test_a_zero_vector_is_fine_where_no_direction_is_needed(metric: Metric) -> None:
    assert read([pack([0.0, 0.0])], 2, metric).tolist() == [[0.0, 0.0]]


def test_another_length_says_which_and_how_long() -> None:
    with pytest.raises(StepwireError) as caught:
        read([pack([1, 2]), pack([1, 2, 3])], 2)
    assert dimension_mismatch(caught.value)
    assert caught.value.metadata == {"field": "points[1].v", "dimension": "2", "got": "3"}


@pytest.mark.parametrize(("data", "words"), [(b"", "required"), (b"12345", "not 5 bytes")])
def test_bytes_that_are_no_vector_are_refused(data: bytes, words: str) -> None:
    with pytest.raises(StepwireError, match=words) as caught:
        read([data], 2)
    assert caught.value.reason is Reason.FIELD_INVALID
    assert not dimension_mismatch(caught.value)


def test_scores_grow_with_nearness() -> None:
    assert Metric.COSINE.best - 0.25 == 0.75
    assert Metric.DOT.best - -3.0 == 3.0
    assert Metric.EUCLIDEAN.best - 2.0 == -2.0
