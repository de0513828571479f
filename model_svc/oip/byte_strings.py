"""BYTES tensors as raw contents: each element is its length in four bytes, then its bytes."""

import struct
from collections.abc import Iterator
from typing import Final

import numpy as np

from model_svc.tensors import Tensor

_LENGTH: Final = struct.Struct("<I")


def decode_bytes(raw: bytes) -> list[bytes]:
    """Returns the elements.

    Raises:
        ValueError: The contents end within an element.
    """
    return list(_elements(raw))


def encode_bytes(elements: Tensor) -> bytes:
    """Returns the raw contents of a tensor of bytes objects."""
    return b"".join(_LENGTH.pack(len(element)) + element for element in elements.ravel())


def bytes_tensor(elements: list[bytes]) -> Tensor:
    """Returns a tensor of one dimension."""
    tensor = np.empty(len(elements), dtype=object)
    tensor[:] = elements
    return tensor


def _elements(raw: bytes) -> Iterator[bytes]:
    position = 0
    while position < len(raw):
        start = position + _LENGTH.size
        if start > len(raw):
            raise ValueError("raw contents end within the length of an element")
        (length,) = _LENGTH.unpack_from(raw, position)
        position = start + length
        if position > len(raw):
            raise ValueError("raw contents end within an element")
        yield raw[start:position]
