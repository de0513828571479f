"""The limits of names, ids and numbers in requests. Pure."""

import re
from collections.abc import Mapping, Sequence

from stepwire.errors import StepwireError, field_invalid
from vector_svc.engine.records import FieldType

MAX_ID_CHARACTERS = 256
MAX_IDS = 10_000
DEFAULT_LIMIT = 10
MAX_LIMIT = 1_000
DEFAULT_PAGE_SIZE = 50
MAX_PAGE_SIZE = 1_000

# What a B-tree can hold; `vector.is_text` has it as well.
MAX_FIELD_BYTES = 2_000
FIELD_RULES: Mapping[FieldType, str] = {
    FieldType.TEXT: f"must be a text of at most {MAX_FIELD_BYTES:,} bytes in UTF-8",
    FieldType.INT: "must be a whole number from -2^63 to 2^63 - 1",
    FieldType.FLOAT: "must be a number within float64",
    FieldType.BOOL: "must be true or false",
    FieldType.TIMESTAMP: "must be a time with an offset, such as 2026-01-31T12:00:00Z",
}

_NAME = re.compile(r"[a-z][a-z0-9_-]{0,62}")
_NAME_RULE = (
    "must be 1 to 63 characters: a lower-case letter followed by lower-case letters, digits, _ or -"
)


def check_name(name: str, *, field: str) -> None:
    """Check the name of a collection, or an alias.

    Raises:
        StepwireError: FIELD_INVALID, naming `field`.
    """
    if not _NAME.fullmatch(name):
        raise field_invalid(field, _NAME_RULE)


def check_ids(ids: Sequence[str], *, field: str, member: str = "") -> None:
    """Check the ids of points: how many there are, and each of them.

    Args:
        ids: The ids, in the order of the request.
        field: The repeated field that holds them.
        member: What follows the index in the path of an id, such as ".id".

    Raises:
        StepwireError: FIELD_INVALID.
    """
    if not 1 <= len(ids) <= MAX_IDS:
        raise field_invalid(field, f"must have 1 to {MAX_IDS} entries, not {len(ids)}")
    for index, point_id in enumerate(ids):
        if not 1 <= len(point_id) <= MAX_ID_CHARACTERS:
            raise _id_invalid(field, index, member, f"must be 1 to {MAX_ID_CHARACTERS} characters")
        if "\0" in point_id:
            raise _id_invalid(field, index, member, "must not hold the character U+0000")


def check_unique(ids: Sequence[str], *, field: str, member: str) -> None:
    """Check that no id stands twice.

    Raises:
        StepwireError: FIELD_INVALID, naming the second place.
    """
    if len(set(ids)) == len(ids):
        return
    first: dict[str, int] = {}
    for index, point_id in enumerate(ids):
        if first.setdefault(point_id, index) != index:
            description = f"is the id of {field}[{first[point_id]}] already"
            raise _id_invalid(field, index, member, description)


def search_limit(limit: int, *, field: str = "limit") -> int:
    """Return the number of points that a search wants.

    Raises:
        StepwireError: FIELD_INVALID.
    """
    if not 0 <= limit <= MAX_LIMIT:
        raise field_invalid(field, f"must be from 1 to {MAX_LIMIT}, or 0 for {DEFAULT_LIMIT}")
    return limit or DEFAULT_LIMIT


def page_size_of(size: int) -> int:
    """Return the number of entries on a page.

    Raises:
        StepwireError: FIELD_INVALID, for a negative size.
    """
    if size < 0:
        raise field_invalid("page_size", "must not be negative")
    return min(size, MAX_PAGE_SIZE) or DEFAULT_PAGE_SIZE


def _id_invalid(field: str, index: int, member: str, description: str) -> StepwireError:
    return field_invalid(f"{field}[{index}]{member}", description)
