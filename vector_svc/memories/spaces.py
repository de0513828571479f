"""The names of spaces: which lie in which, and how points tell theirs. Pure.

A memory's payload has its space, and, as `spaces`, also those that this lies in, so that a
list of texts answers what is within a space.
"""

import re
from typing import Final

from stepwire.errors import field_invalid
from vector_svc.filters.records import AnyOf, AtLeast, Node
from vector_svc.memories.records import Scope

MAX_SPACE_CHARACTERS: Final = 120
MAX_ID_CHARACTERS: Final = 128

SPACE: Final = "space"
SPACES: Final = "spaces"

_NAME: Final = r"[A-Za-z0-9._:@-]{1,64}"
_SPACE: Final = re.compile(rf"({_NAME}(/{_NAME})*)?")
_RULE: Final = (
    "must be names joined by /, each 1 to 64 letters, digits, `.`, `_`, `-`, `:` or `@`, at "
    f"most {MAX_SPACE_CHARACTERS} characters in all; or empty"
)
# Stands in no name of a space, so that a point's id begins with its space.
_MARK: Final = "#"


def check_space(space: str, *, field: str = "space") -> None:
    """Check the name of a space.

    Raises:
        StepwireError: FIELD_INVALID, naming `field`.
    """
    if len(space) > MAX_SPACE_CHARACTERS or not _SPACE.fullmatch(space):
        raise field_invalid(field, _RULE)


def check_id(memory_id: str, *, field: str) -> None:
    """Check the id of a memory.

    Raises:
        StepwireError: FIELD_INVALID, naming `field`.
    """
    if not 1 <= len(memory_id) <= MAX_ID_CHARACTERS or "\0" in memory_id:
        limit = f"must be 1 to {MAX_ID_CHARACTERS} characters, none U+0000"
        raise field_invalid(field, limit)


def around(space: str) -> tuple[str, ...]:
    """Return the spaces that one lies in, from the tenant's own to itself."""
    names = space.split("/") if space else []
    return ("", *("/".join(names[:count]) for count in range(1, len(names) + 1)))


def within(space: str, scope: Scope, filter_: Node | None = None) -> Node:
    """Return what holds of the memories of a space, and of a filter if there is one."""
    match scope:
        case Scope.SPACE:
            node = AnyOf((SPACE,), (space,))
        case Scope.WITHIN:
            node = AnyOf((SPACES,), (space,))
        case Scope.AROUND:
            node = AnyOf((SPACE,), around(space))
    return node if filter_ is None else AtLeast(2, (node, filter_))


def point_id(space: str, memory_id: str) -> str:
    """Return the id of the point that a memory is."""
    return f"{space}{_MARK}{memory_id}"


def memory_id(point_id: str) -> str:
    """Return the id of the memory that a point is."""
    return point_id.partition(_MARK)[2]
