"""From the messages of filter.proto to records."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

import orjson
from google.protobuf.struct_pb2 import Value
from google.protobuf.timestamp_pb2 import Timestamp

from stepwire.api.vector.v1 import filter_pb2 as pb
from stepwire.errors import StepwireError, field_invalid, payload_too_large
from stepwire.payload import value_to_json
from vector_svc.engine.fields import check_ids
from vector_svc.engine.payloads import read_payload
from vector_svc.filters.records import (
    AllOf,
    AnyOf,
    AtLeast,
    Contains,
    Ids,
    IsEmpty,
    IsNull,
    Node,
    Not,
    Path,
    Range,
    Scalar,
    TimeRange,
    Words,
)

MAX_CONDITIONS: Final = 256
MAX_DEPTH: Final = 8
MAX_VALUES: Final = 256
# Of all conditions: most become two parameters each, of which a statement has 32,767.
MAX_VALUES_IN_ALL: Final = 4_096
MAX_NAMES: Final = 16
MAX_WORDS_CHARACTERS: Final = 10_000

_NUMBER_OPERATORS: Final = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<="}
_TIME_OPERATORS: Final = {"after": ">", "since": ">=", "before": "<", "until": "<="}
# Names between dots; a backslash takes what follows it as it is.
_NAMES: Final = re.compile(r"((?:\\[\\.]|[^\\.])+)(?:\.|$)")
_ESCAPED: Final = re.compile(r"\\([\\.])")


def filter_of(message: pb.Filter, *, field: str, max_bytes: int) -> Node | None:
    """Read a filter; None if it has no condition, since every point fulfils that.

    Raises:
        StepwireError: FIELD_INVALID or PAYLOAD_TOO_LARGE, naming `field` or a part of it.
    """
    if not message.ByteSize():
        return None
    if message.ByteSize() > max_bytes:
        raise payload_too_large(field, size_bytes=message.ByteSize(), limit_bytes=max_bytes)
    reader = _Reader(max_bytes)
    node = reader.filter(message, field, depth=1)
    return node if reader.conditions else None


class _Reader:
    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._values = 0
        self.conditions = 0

    def filter(self, message: pb.Filter, field: str, *, depth: int) -> Node:
        if depth > MAX_DEPTH:
            raise field_invalid(field, f"is nested deeper than {MAX_DEPTH} filters")
        must = self._all(message.must, f"{field}.must", depth)
        should = self._all(message.should, f"{field}.should", depth)
        must_not = self._all(message.must_not, f"{field}.must_not", depth)
        if not 0 <= message.min_should <= len(should):
            raise field_invalid(f"{field}.min_should", f"must be from 0 to {len(should)}")
        if should:
            must.append(AtLeast(message.min_should or 1, tuple(should)))
        if must_not:
            must.append(Not(AtLeast(1, tuple(must_not))))
        return must[0] if len(must) == 1 else AtLeast(len(must), tuple(must))

    def _all(self, messages: Sequence[pb.Condition], field: str, depth: int) -> list[Node]:
        return [
            self._condition(message, f"{field}[{index}]", depth)
            for index, message in enumerate(messages)
        ]

    def _condition(self, message: pb.Condition, field: str, depth: int) -> Node:
        self.conditions += 1
        if self.conditions > MAX_CONDITIONS:
            raise field_invalid(field, f"is more than the {MAX_CONDITIONS}th condition")
        kind = message.WhichOneof("test")
        if kind == "filter":
            return self.filter(message.filter, f"{field}.filter", depth=depth + 1)
        if kind == "field":
            return self._counted(_field_condition(message.field, f"{field}.field"), field)
        if kind == "ids":
            check_ids(message.ids.ids, field=f"{field}.ids.ids")
            return Ids(tuple(message.ids.ids))
        if kind == "contains":
            path = f"{field}.contains"
            return Contains(read_payload(message.contains, field=path, limit_bytes=self._max_bytes))
        raise field_invalid(field, "has no test")

    def _counted(self, node: Node, field: str) -> Node:
        if isinstance(node, AnyOf):
            self._values += len(node.values)
            if self._values > MAX_VALUES_IN_ALL:
                limit = f"is beyond {MAX_VALUES_IN_ALL:,} values in all conditions"
                raise field_invalid(field, limit)
        return node


def path_of(text: str, *, field: str) -> Path:
    """Read where in a payload something is.

    Raises:
        StepwireError: FIELD_INVALID.
    """
    names, end = [], 0
    while match := _NAMES.match(text, end):
        names.append(_ESCAPED.sub(r"\1", match[1]))
        end = match.end()
    if not names or end != len(text) or (text.endswith(".") and not text.endswith("\\.")):
        raise field_invalid(field, "must be names joined by dots")
    if len(names) > MAX_NAMES:
        raise field_invalid(field, f"must be at most {MAX_NAMES} names")
    _check_text(text, field)
    return tuple(names)


def _field_condition(message: pb.FieldCondition, field: str) -> Node:  # noqa: PLR0911
    path = path_of(message.path, field=f"{field}.path")
    kind = message.WhichOneof("test")
    if kind == "equals":
        return AnyOf(path, (_scalar(message.equals, f"{field}.equals"),))
    if kind == "any_of":
        return AnyOf(path, _scalars(message.any_of.values, f"{field}.any_of"))
    if kind == "all_of":
        return AllOf(path, _scalars(message.all_of.values, f"{field}.all_of"))
    if kind == "range":
        return Range(path, _number_bounds(message.range, f"{field}.range"))
    if kind == "time_range":
        return TimeRange(path, _time_bounds(message.time_range, f"{field}.time_range"))
    if kind == "words":
        if not 0 < len(message.words) <= MAX_WORDS_CHARACTERS:
            limit = f"must be 1 to {MAX_WORDS_CHARACTERS} characters"
            raise field_invalid(f"{field}.words", limit)
        _check_text(message.words, f"{field}.words")
        return Words(path, message.words)
    if kind == "is_null":
        return IsNull(path) if message.is_null else Not(IsNull(path))
    if kind == "is_empty":
        return IsEmpty(path) if message.is_empty else Not(IsEmpty(path))
    raise field_invalid(field, "has no test")


def _scalars(values: Sequence[Value], field: str) -> tuple[Scalar, ...]:
    if not 1 <= len(values) <= MAX_VALUES:
        raise field_invalid(field, f"must have 1 to {MAX_VALUES} values, not {len(values)}")
    return tuple(_scalar(value, f"{field}[{index}]") for index, value in enumerate(values))


def _scalar(value: Value, field: str) -> Scalar:
    scalar: Scalar = value_to_json(value, field=field)
    if isinstance(scalar, str):
        _check_text(scalar, field)
    elif not isinstance(scalar, int | float):
        raise field_invalid(field, "must be a text, a number or a truth value")
    return scalar


def _number_bounds(message: pb.NumberRange, field: str) -> tuple[tuple[str, float], ...]:
    bounds = tuple(
        (operator, getattr(message, name))
        for name, operator in _NUMBER_OPERATORS.items()
        if message.HasField(name)  # type: ignore[arg-type]
    )
    if not bounds:
        raise field_invalid(field, "has no bound")
    # What has no JSON form is NaN or infinity.
    if b"null" in orjson.dumps([bound for _, bound in bounds]):
        raise field_invalid(field, "must have finite bounds")
    return bounds


def _time_bounds(message: pb.TimeRange, field: str) -> tuple[tuple[str, datetime], ...]:
    bounds = tuple(
        (operator, _time(getattr(message, name), f"{field}.{name}"))
        for name, operator in _TIME_OPERATORS.items()
        if message.HasField(name)  # type: ignore[arg-type]
    )
    if not bounds:
        raise field_invalid(field, "has no bound")
    return bounds


def _time(message: Timestamp, field: str) -> datetime:
    try:
        return message.ToDatetime(UTC)
    except (ValueError, OverflowError):
        fault: StepwireError = field_invalid(field, "is not a time from year 1 to 9999")
        raise fault from None


def _check_text(text: str, field: str) -> None:
    if "\0" in text:
        raise field_invalid(field, "must not hold the character U+0000")
