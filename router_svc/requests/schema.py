"""JSON Schemas that answers must keep: whether one can be used, and whether a text keeps it.

Schemas come from callers and are not trusted: nothing is fetched, patterns are matched in
linear time, and how much a schema can unfold to is bounded.
"""

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import unquote

import jsonschema_rs
import orjson

# What OpenAI and others take is far below; checking an answer blocks the process.
MAX_SCHEMA_BYTES = 256 * 1024
# Parts of a schema with each reference replaced by what it refers to.
MAX_PARTS = 10_000
MAX_DEPTH = 100
# Longer answers are judged as well, but what is wrong with them is not looked for.
MAX_EXPLAINED_CHARACTERS = 100_000
MAX_FAULT_CHARACTERS = 500

_COMPILED = 256
# Faults reach logs and traces, and what models say does not: it stands for each value.
_VALUE = "the value"
# Of these keywords the library tells the answer's own names.
_OF_NAMES = ("additionalProperties", "unevaluatedProperties")
_OTHER_REFERENCES = ("$dynamicRef", "$recursiveRef")


def schema_fault(schema: Mapping[str, Any]) -> str:
    """Returns why answers cannot be held against `schema`; empty when they can."""
    try:
        _compiled(orjson.dumps(schema))
    except ValueError as error:
        return str(error)
    return ""


def answer_fault(schema: Mapping[str, Any], text: str) -> str:
    """Returns why `text` is not JSON that keeps `schema`, without its values; empty when it is.

    Args:
        schema: One that `schema_fault` says nothing against.
        text: The answer.
    """
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        return f"it is not JSON: {error}"
    validator, explains = _compiled(orjson.dumps(schema))
    try:
        if validator.is_valid(value):
            return ""
    except ValueError as error:
        return _one_line(error)
    if not explains or len(text) > MAX_EXPLAINED_CHARACTERS:
        return "it is JSON, but not of the schema"
    return _explanation(validator, value)


@lru_cache(maxsize=_COMPILED)
def _compiled(encoded: bytes) -> tuple[jsonschema_rs.Validator, bool]:
    """Returns the validator, and whether its faults may be asked for.

    Raises:
        ValueError: The schema cannot be used.
    """
    if len(encoded) > MAX_SCHEMA_BYTES:
        raise ValueError(f"must be at most {MAX_SCHEMA_BYTES} bytes, is {len(encoded)}")
    schema = orjson.loads(encoded)
    measure = _Measure(schema)
    if measure.parts() > MAX_PARTS:
        raise ValueError(f"unfolds to more than {MAX_PARTS} parts when its references are followed")
    try:
        validator = _validator(schema, mask=_VALUE)
    except ValueError:
        raise ValueError(f"is not a JSON Schema: {_schema_error(schema)}") from None
    # The library finds out in linear time that a value does not keep a schema that refers
    # to itself, and tells why in exponential time.
    return validator, not measure.recursive


def _validator(schema: Any, *, mask: str | None) -> jsonschema_rs.Validator:
    return jsonschema_rs.validator_for(
        schema, offline=True, pattern_options=jsonschema_rs.RegexOptions(), mask=mask
    )


def _schema_error(schema: Any) -> str:
    """Returns what is wrong with a schema; its caller may see all of it."""
    try:
        _validator(schema, mask=None)
    except ValueError as error:
        return _one_line(error)
    return "it cannot be used"


class _Measure:
    """Counts what a schema unfolds to. A reference to what it stands in counts as one part."""

    def __init__(self, schema: Any) -> None:
        self._root = schema
        self._counts: dict[int, int] = {}
        self._under_way: set[int] = set()
        self.recursive = False

    def parts(self) -> int:
        """Returns the number of parts.

        Raises:
            ValueError: A reference does not lead into the schema itself.
        """
        return self._count(self._root)

    def _count(self, node: Any) -> int:
        if not isinstance(node, dict | list):
            return 0
        known = self._counts.get(id(node))
        if known is not None:
            return known
        if id(node) in self._under_way:
            self.recursive = True
            return 1
        if len(self._under_way) == MAX_DEPTH:
            raise ValueError(f"nests deeper than {MAX_DEPTH} levels")
        self._under_way.add(id(node))
        total = 1
        for child in self._children(node):
            total = min(total + self._count(child), MAX_PARTS + 1)
        self._under_way.remove(id(node))
        self._counts[id(node)] = total
        return total

    def _children(self, node: dict[str, Any] | list[Any]) -> Iterator[Any]:
        if isinstance(node, list):
            yield from node
            return
        for key, value in node.items():
            # A property may have any of these names; then the value is a schema.
            if isinstance(value, str) and (key in _OTHER_REFERENCES or self._moves(node, key)):
                raise ValueError(f"must not use {key}")
            if key == "$ref" and isinstance(value, str):
                yield self._target(value)
            else:
                yield value

    def _moves(self, node: Any, key: str) -> bool:
        """Returns whether `key` says that references within `node` start elsewhere."""
        return key == "$id" and node is not self._root

    def _target(self, reference: str) -> Any:
        node = self._root
        if reference == "#":
            return node
        if not reference.startswith("#/"):
            raise ValueError(f"must refer to its own parts only, as in #/$defs/name: {reference}")
        for part in unquote(reference[2:]).split("/"):
            key = part.replace("~1", "/").replace("~0", "~")
            if isinstance(node, dict) and key in node:
                node = node[key]
            elif isinstance(node, list) and key.isdecimal() and int(key) < len(node):
                node = node[int(key)]
            else:
                raise ValueError(f"refers to a part that it does not have: {reference}")
        return node


def _explanation(validator: jsonschema_rs.Validator, value: Any) -> str:
    try:
        validator.validate(value)
    except jsonschema_rs.ValidationError as error:
        where = "".join(f"[{part!r}]" for part in error.instance_path)
        is_of_names = bool(error.schema_path) and error.schema_path[-1] in _OF_NAMES
        told = "it has properties that may not be there" if is_of_names else error.message
        return _cut(f"at {where}: {told}" if where else told)
    except ValueError as error:
        return _one_line(error)
    raise AssertionError("it is valid after all")


def _one_line(error: ValueError) -> str:
    return _cut(str(error).partition("\n")[0])


def _cut(text: str) -> str:
    """Returns a fault without its middle where it is long: it may name all that was allowed."""
    half = MAX_FAULT_CHARACTERS // 2
    return text if len(text) <= 2 * half else f"{text[:half]} … {text[-half:]}"
