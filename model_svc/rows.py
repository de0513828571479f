"""Rows of token ids, as encoders take them."""

from collections.abc import Sequence
from typing import Final

import numpy as np

from model_svc.export.tensor_names import ATTENTION_MASK, INPUT_IDS
from model_svc.faults import tensor_invalid
from model_svc.tensors import Tensor, Tokens

# Of buckets: the smallest size, and how many there are between two powers of two, twice.
_LEAST: Final = 8
_STEPS: Final = 8


def padded(rows: Sequence[Tokens]) -> tuple[Tokens, Tokens]:
    """Returns rows as one [rows, longest] tensor of ids, zeros at the end, and its mask."""
    if len(rows) == 1:
        ids = rows[0][np.newaxis]
        return ids, np.ones_like(ids)
    lengths = np.array([len(row) for row in rows])
    mask = np.arange(lengths.max()) < lengths[:, np.newaxis]
    ids = np.zeros(mask.shape, dtype=np.int64)
    ids[mask] = np.concatenate(rows)
    return ids, mask.astype(np.int64)


def check_rows(
    model: str, ids: Tensor, mask: Tensor, *, vocabulary: int, positions: int
) -> list[Tokens]:
    """Returns the rows of token ids of a call without their padding.

    Args:
        model: The model's name, for errors.
        ids: [rows, longest].
        mask: The same shape: ones, and then zeros.
        vocabulary: Number of different token ids; 0 if unknown.
        positions: Longest row.

    Raises:
        StepwireError: MODEL_INPUT_INVALID.
    """
    if ids.size == 0:
        raise tensor_invalid(model, INPUT_IDS, "must have at least one token")
    if ids.shape[1] > positions:
        raise tensor_invalid(model, INPUT_IDS, f"at most {positions} tokens fit in a row")
    if vocabulary and (ids.min() < 0 or ids.max() >= vocabulary):
        raise tensor_invalid(model, INPUT_IDS, f"token ids must be from 0 to {vocabulary - 1}")
    lengths = np.count_nonzero(mask, axis=1)
    expected = np.arange(ids.shape[1]) < lengths[:, np.newaxis]
    if lengths.min() == 0 or not np.array_equal(mask, expected):
        raise tensor_invalid(
            model,
            ATTENTION_MASK,
            "each row must be ones, at least one, and then zeros: padding stands at the end",
        )
    return [row[:length] for row, length in zip(ids, lengths.tolist(), strict=True)]


def bucketed(ids: Tokens, mask: Tokens) -> tuple[Tokens, Tokens]:
    """Returns both with their sizes rounded up, by what the mask hides.

    Sizes become multiples of an eighth of the next power of two, and at least 8: there are
    few different ones, and less than a quarter of each dimension is added beyond 8.
    """
    shape = tuple(_rounded_up(size) for size in ids.shape)
    if shape == ids.shape:
        return ids, mask
    rows, columns = (more - size for more, size in zip(shape, ids.shape, strict=True))
    margins = ((0, rows), (0, columns))
    return np.pad(ids, margins), np.pad(mask, margins)


def _rounded_up(size: int) -> int:
    step = max(_LEAST, (1 << (size - 1).bit_length()) // _STEPS)
    return -(-size // step) * step
