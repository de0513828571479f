"""From what a kind gave to what is recorded. Pure."""

from typing import Any

import orjson

from executor_svc.engine.outcomes import Expanded, Succeeded
from executor_svc.engine.records import Blob
from executor_svc.steps.kind import StepError
from stepwire.errors import Reason
from stepwire.payload import JSON, MAX_NESTING, may_be_too_deep, nesting

# The items of a for_each step together, in largest outputs.
MAX_ITEMS_OUTPUTS = 16
# And what they give: as many items cannot give more.
MAX_COLLECTED_OUTPUTS = 64


def encode_output(output: Any, *, limit_bytes: int) -> Succeeded:
    """Return the outcome of an attempt that gave `output`.

    Raises:
        StepError: it is not a JSON value, too large or nested too deep.
    """
    try:
        data = orjson.dumps(output, option=orjson.OPT_SERIALIZE_NUMPY)
    except TypeError as error:
        raise StepError(f"the output is not a JSON value: {error}") from None
    if len(data) > limit_bytes:
        raise StepError(
            f"the output's {len(data)} bytes are more than {limit_bytes}",
            reason=Reason.OUTPUT_TOO_LARGE,
            metadata={"size_bytes": str(len(data)), "limit_bytes": str(limit_bytes)},
        )
    # As it is read: a tuple is a list by then, and a dataclass an object.
    if may_be_too_deep(data) and nesting(orjson.loads(data)) > MAX_NESTING:
        raise StepError(
            f"the output is nested deeper than {MAX_NESTING} levels",
            reason=Reason.NESTED_TOO_DEEP,
            metadata={"limit": str(MAX_NESTING)},
        )
    return Succeeded(Blob(data, JSON))


def encode_items(items: Any, *, max_items: int, limit_bytes: int) -> Expanded:
    """Return the outcome of an attempt whose `for_each` gave `items`.

    Raises:
        StepError: it is not a list, too long or too large.
    """
    if not isinstance(items, list):
        raise StepError(
            f"for_each: must give a list, not {type(items).__name__}",
            reason=Reason.FIELD_INVALID,
            metadata={"field": "for_each"},
        )
    if len(items) > max_items:
        raise StepError(
            f"for_each: {len(items)} items are more than {max_items}",
            reason=Reason.FIELD_INVALID,
            metadata={"field": "for_each", "limit": str(max_items)},
        )
    encoded = [orjson.dumps(item) for item in items]
    if sum(map(len, encoded)) > MAX_ITEMS_OUTPUTS * limit_bytes:
        limit = MAX_ITEMS_OUTPUTS * limit_bytes
        raise StepError(
            f"for_each: the items are more than {limit} bytes",
            reason=Reason.OUTPUT_TOO_LARGE,
            metadata={"limit_bytes": str(limit)},
        )
    return Expanded(encoded)
