"""What decisions and providers need to know of tokens."""

from typing import Protocol


class TokenCounter(Protocol):
    """Counts the tokens of a text."""

    def count(self, text: str) -> int:
        """Returns the number of tokens of `text`, exact or estimated upwards."""
        ...
