"""The SQL that makes and drops the index of a collection's words."""

import re
from typing import Final

from stepwire.db import load_queries
from vector_svc.engine.records import TextOptions

_TEXT: Final = load_queries("vector_svc", "sql/text.sql")
_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,62}")


def create_text(collection_id: int, options: TextOptions, role: str) -> str:
    """Return the statements that index the words of a collection's texts from now on.

    They belong in the transaction that makes the table of points, behind it.

    Raises:
        ValueError: a name is not one.
    """
    for name in (options.field, options.language, role):
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} is not a name")
    return _TEXT.create_text.format(
        collection_id=int(collection_id),
        field=options.field,
        language=options.language,
        role=role,
    )


def drop_text(collection_id: int) -> str:
    """Return the statement that drops them, if they are there."""
    return _TEXT.drop_text.format(collection_id=int(collection_id))
