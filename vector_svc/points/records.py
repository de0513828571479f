"""What callers say and hear of points besides the points themselves. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from vector_svc.filters.records import Node


@dataclass(frozen=True, slots=True)
class Selection:
    """Which points: those of `ids`, or, without ids, those of which `filter` holds.

    Attributes:
        ids: Their ids; None for those of the filter.
        filter: The filter; None holds for every point.
    """

    ids: Sequence[str] | None = None
    filter: Node | None = None


class ChangeKind(StrEnum):
    """What becomes of payloads."""

    SET = "set"
    MERGE = "merge"
    REMOVE = "remove"


@dataclass(frozen=True, slots=True)
class PayloadChange:
    """A change of payloads.

    Attributes:
        kind: What it does.
        payload: A JSON object to set or merge; b"" otherwise.
        names: Fields to remove.
    """

    kind: ChangeKind
    payload: bytes = b""
    names: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Facet:
    """A value of a field, as JSON, and how many points have it."""

    value: bytes
    count: int
