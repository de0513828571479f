"""JSON objects of requests, as models are shown them."""

from typing import Any

import orjson
from google.protobuf.struct_pb2 import Struct

from stepwire.payload import struct_to_json


def object_of(struct: Struct, *, field: str) -> dict[str, Any]:
    """Returns `struct` with its names in alphabetical order, and whole numbers as integers.

    A Struct keeps no order, and another one each time would be another prompt.

    Raises:
        StepwireError: FIELD_INVALID, naming `field`, for NaN, infinity, or deep nesting.
    """
    unordered = struct_to_json(struct, field=field)
    ordered: dict[str, Any] = orjson.loads(orjson.dumps(unordered, option=orjson.OPT_SORT_KEYS))
    return ordered
