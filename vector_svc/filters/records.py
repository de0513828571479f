"""Conditions on points, joined in a tree. Pure."""

from dataclasses import dataclass, field
from datetime import datetime

Scalar = str | int | float | bool
Path = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AtLeast:
    """At least `least` of the parts hold: all of them make an "and", one an "or"."""

    least: int
    parts: "tuple[Node, ...]"


@dataclass(frozen=True, slots=True)
class Not:
    """The part does not hold."""

    part: "Node"


@dataclass(frozen=True, slots=True)
class Contains:
    """The payload contains an object, given as JSON text."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Ids:
    """The point's id is one of these."""

    ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Listed:
    path: Path
    values: tuple[Scalar, ...]
    # Conditions are compared, and True equals 1 to Python.
    types: tuple[type, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "types", tuple(map(type, self.values)))


@dataclass(frozen=True, slots=True)
class AnyOf(_Listed):
    """The value is one of these, or a list with one of these."""


@dataclass(frozen=True, slots=True)
class AllOf(_Listed):
    """The value is a list with all of these."""


@dataclass(frozen=True, slots=True)
class Range:
    """The value is a number between bounds, or a list with one; bounds by operator."""

    path: Path
    bounds: tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True)
class TimeRange:
    """The value is a time between bounds, or a list with one; bounds by operator."""

    path: Path
    bounds: tuple[tuple[str, datetime], ...]


@dataclass(frozen=True, slots=True)
class Words:
    """The value is text with all words of another, or a list with such a text."""

    path: Path
    text: str


@dataclass(frozen=True, slots=True)
class IsNull:
    """The value is null."""

    path: Path


@dataclass(frozen=True, slots=True)
class IsEmpty:
    """There is no value: not there, null, or an empty list."""

    path: Path


Node = AtLeast | Not | Contains | Ids | AnyOf | AllOf | Range | TimeRange | Words | IsNull | IsEmpty


@dataclass(frozen=True, slots=True)
class Compiled:
    """A condition in SQL on the alias `points`, and its parameters in their order.

    The text holds nothing that a caller sent. Both together may be the key of a cache.
    """

    sql: str
    arguments: tuple[object, ...]
