"""What names may look like that people give to what services keep. Pure."""

import re
from typing import Final

from stepwire.errors import field_invalid

_NAME: Final = re.compile(r"[a-z][a-z0-9._-]{0,127}")
# Of a name that is refused: a good one is shown whole, and what makes it too long is seen.
SHOWN_CHARACTERS: Final = 140


def check_name(name: str, *, field: str = "name") -> str:
    """Returns a name that keeps the rules.

    Raises:
        StepwireError: FIELD_INVALID, naming `field`.
    """
    if not _NAME.fullmatch(name):
        raise field_invalid(
            field,
            f"{name[:SHOWN_CHARACTERS]!r} must be a lower-case letter followed by at most 127"
            " lower-case letters, digits, dots, underscores or hyphens",
        )
    return name
