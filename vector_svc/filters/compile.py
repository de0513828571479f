"""Filters as SQL conditions. Pure.

What a caller sent travels as a parameter, always: the text of a condition is made of
constants, of parameters' numbers, and of the names of columns, which are our own.

Conditions are two-valued wherever that matters: a part may be NULL (a column without a
value), which selects nothing, and `IS NOT TRUE` negates it as one that does not hold.
"""

import math
from collections.abc import Callable
from functools import singledispatchmethod
from typing import Final

import orjson

from stepwire.errors import StepwireError, field_invalid
from vector_svc.engine.records import Collection, FieldType
from vector_svc.filters.records import (
    AllOf,
    AnyOf,
    AtLeast,
    Compiled,
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

# Language of words in fields without an index of their words: as they are, in lower case.
PLAIN_WORDS: Final = "simple"
_MAX_BIGINT: Final = 2**63 - 1
_EVERYTHING: Final = "TRUE"
_NOTHING: Final = "FALSE"


def compile_filter(node: Node | None, collection: Collection, *, first: int) -> Compiled:
    """Turn a filter into a condition on the alias `points`.

    Args:
        node: The filter; None holds for every point.
        collection: Says which fields of payloads have columns, and which has its words indexed.
        first: Number of the condition's first parameter.

    Raises:
        StepwireError: FIELD_INVALID: a value is not of its column's type.
    """
    compiler = _Compiler(collection, first)
    sql = _EVERYTHING if node is None else compiler.condition(node)
    return Compiled(sql, tuple(compiler.arguments))


class _Compiler:
    def __init__(self, collection: Collection, first: int) -> None:
        self._collection_id = collection.id
        self._fields = collection.config.fields
        self._text = collection.config.text
        self._first = first
        self.arguments: list[object] = []

    def _parameter(self, value: object, type_: str) -> str:
        self.arguments.append(value)
        return f"${self._first + len(self.arguments) - 1}::{type_}"

    @singledispatchmethod
    def condition(self, node: Node) -> str:
        raise TypeError(f"{type(node).__name__} is not a condition")

    @condition.register
    def _(self, node: AtLeast) -> str:
        parts = [self.condition(part) for part in node.parts]
        if node.least <= 0:
            return _EVERYTHING
        if node.least > len(parts):
            return _NOTHING
        if node.least == len(parts):
            return f"({' AND '.join(parts)})"
        if node.least == 1:
            return f"({' OR '.join(parts)})"
        held = " + ".join(f"(({part}) IS TRUE)::int" for part in parts)
        return f"({held} >= {self._parameter(node.least, 'int')})"

    @condition.register
    def _(self, node: Not) -> str:
        return f"({self.condition(node.part)}) IS NOT TRUE"

    @condition.register
    def _(self, node: Contains) -> str:
        return f"points.payload @> {self._parameter(node.data, 'jsonb')}"

    @condition.register
    def _(self, node: Ids) -> str:
        return f"points.id = ANY ({self._parameter(node.ids, 'text[]')})"

    @condition.register
    def _(self, node: AnyOf) -> str:
        type_ = self._column_type(node.path)
        if type_ is not None:
            values = tuple(_typed(value, type_, node.path) for value in node.values)
            return f"{_column(node.path)} = ANY ({self._parameter(values, f'{type_}[]')})"
        # As many as the next power of two: fewer texts of statements to prepare.
        size = 1 << (len(node.values) - 1).bit_length()
        padded = node.values + node.values[-1:] * (size - len(node.values))
        either = (
            f"points.payload @> {self._parameter(_nested(node.path, form), 'jsonb')}"
            for value in padded
            for form in (value, [value])
        )
        return f"({' OR '.join(either)})"

    @condition.register
    def _(self, node: AllOf) -> str:
        data = _nested(node.path, list(node.values))
        return f"points.payload @> {self._parameter(data, 'jsonb')}"

    @condition.register
    def _(self, node: Range) -> str:
        type_ = self._column_type(node.path)
        if type_ is not None:
            return self._typed_range(node, type_)
        tests = " && ".join(f"@ {operator} $b{n}" for n, (operator, _) in enumerate(node.bounds))
        bounds = orjson.dumps({f"b{n}": bound for n, (_, bound) in enumerate(node.bounds)})
        return (
            f"jsonb_path_exists({self._value(node.path)}, "
            f"""'lax $[*] ? (@.type() == "number" && {tests})', """
            f"{self._parameter(bounds, 'jsonb')})"
        )

    @condition.register
    def _(self, node: TimeRange) -> str:
        type_ = self._column_type(node.path)
        bounds = [
            (operator, self._parameter(bound, "timestamptz")) for operator, bound in node.bounds
        ]
        if type_ is FieldType.TIMESTAMP:
            column = _column(node.path)
            return "(" + " AND ".join(f"{column} {op} {bound}" for op, bound in bounds) + ")"
        if type_ not in (None, FieldType.TEXT):
            raise _wrong_type(node.path, type_)
        tests = " AND ".join(f"vector.timestamp_of(item) {op} {bound}" for op, bound in bounds)
        return self._any_text(node.path, tests)

    @condition.register
    def _(self, node: Words) -> str:
        text = self._text
        if text is not None and node.path == (text.field,):
            language = self._parameter(text.language, "regconfig")
            words = (
                f"tsvector_to_array(to_tsvector({language}, {self._parameter(node.text, 'text')}))"
            )
            return (
                f"points.id IN (SELECT id FROM vector.words_{int(self._collection_id)} "  # noqa: S608 - a number and parameters
                f"WHERE word = ANY ({words}) GROUP BY id "
                f"HAVING count(*) = cardinality({words}))"
            )
        query = self._parameter(node.text, "text")
        return self._any_text(
            node.path,
            f"to_tsvector('{PLAIN_WORDS}', item #>> '{{}}') "
            f"@@ plainto_tsquery('{PLAIN_WORDS}', {query})",
        )

    @condition.register
    def _(self, node: IsNull) -> str:
        return f"points.payload @> {self._parameter(_nested(node.path, None), 'jsonb')}"

    @condition.register
    def _(self, node: IsEmpty) -> str:
        return f"COALESCE({self._value(node.path)}, 'null') IN ('null', '[]')"

    def _column_type(self, path: Path) -> FieldType | None:
        return self._fields.get(path[0]) if len(path) == 1 else None

    def _value(self, path: Path) -> str:
        """The value at a path, NULL if it is not there; names go through objects only."""
        keys = "".join(f" -> {self._parameter(key, 'text')}" for key in path)
        return f"(points.payload{keys})"

    def _any_text(self, path: Path, test: str) -> str:
        items = f"""jsonb_path_query({self._value(path)}, 'lax $[*] ? (@.type() == "string")')"""
        return f"EXISTS (SELECT FROM {items} AS found(item) WHERE {test})"

    def _typed_range(self, node: Range, type_: FieldType) -> str:
        column = _column(node.path)
        if type_ is FieldType.FLOAT:
            bounds: list[tuple[str, float]] = list(node.bounds)
        elif type_ is FieldType.INT:
            bounds = [(op, _whole_bound(op, bound)) for op, bound in node.bounds]
        else:
            raise _wrong_type(node.path, type_)
        tests = (f"{column} {op} {self._parameter(bound, type_)}" for op, bound in bounds)
        return f"({' AND '.join(tests)})"


def _column(path: Path) -> str:
    # The name of a promoted field is one that a column may have: letters, digits and _.
    return f"points.f_{path[0]}"


def _nested(path: Path, value: object) -> bytes:
    for key in reversed(path):
        value = {key: value}
    return orjson.dumps(value)


def _typed(value: Scalar, type_: FieldType, path: Path) -> object:
    if not _FITS[type_](value):
        raise _wrong_type(path, type_)
    if type_ is FieldType.INT:
        return int(value)
    return float(value) if type_ is FieldType.FLOAT else value


def _is_bigint(value: object) -> bool:
    # Of numbers beyond 2^53 a struct tells no whole one from another.
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return value == math.floor(value) and abs(value) <= _MAX_BIGINT


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


_FITS: Final[dict[FieldType, Callable[[object], bool]]] = {
    FieldType.TEXT: lambda value: isinstance(value, str),
    FieldType.INT: _is_bigint,
    FieldType.FLOAT: _is_number,
    FieldType.BOOL: lambda value: isinstance(value, bool),
    # Times are asked for by range: texts of the same time may differ.
    FieldType.TIMESTAMP: lambda _: False,
}


def _whole_bound(operator: str, bound: float) -> int:
    """The bound for whole numbers that admits the same ones."""
    if not math.isfinite(bound):
        return _MAX_BIGINT if bound > 0 else -_MAX_BIGINT
    whole = math.floor(bound) if operator in (">", "<=") else math.ceil(bound)
    return max(-_MAX_BIGINT, min(whole, _MAX_BIGINT))


def _wrong_type(path: Path, type_: FieldType | None) -> StepwireError:
    return field_invalid("filter", f"the field {'.'.join(path)} has a column of type {type_}")
