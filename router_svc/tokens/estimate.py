"""Counts tokens without a tokenizer: an estimate, and named as one.

For models whose tokenizer is not at hand. The estimate is meant to err upwards: a
context window that is believed full costs a better choice, one that overflows costs a
failed call.
"""

import math
import string

# Weight in tokens of one UTF-8 byte. Of a character of several bytes only the first
# counts; what it starts with says how long it is, and so roughly which script.
_CLASSES: tuple[tuple[bytes, float], ...] = (
    # Words and the spaces between them: about 4.5 characters a token in English,
    # fewer in other languages.
    ((string.ascii_letters + string.whitespace).encode(), 0.27),
    # Some vocabularies give each digit a token; punctuation stands mostly alone.
    (string.digits.encode(), 1.0),
    (string.punctuation.encode(), 0.6),
    # Two bytes: accented Latin, Greek, Cyrillic, Hebrew, Arabic.
    (bytes(range(0xC2, 0xE0)), 0.8),
    # Three bytes: Chinese, Japanese, Korean, the scripts of India.
    (bytes(range(0xE0, 0xF0)), 1.3),
    # Four bytes: emoji and rare characters, often a token for each byte.
    (bytes(range(0xF0, 0xF5)), 3.0),
    # Control characters.
    (bytes([*range(9), *range(14, 32), 127]), 1.0),
)


class EstimatedTokens:
    """A `TokenCounter` that weighs characters by their script."""

    def count(self, text: str) -> int:
        """Returns the estimated number of tokens of `text`; 0 only when it is empty."""
        data = text.encode("utf-8", errors="replace")
        weight = 0.0
        for members, each in _CLASSES:
            # Deleting and comparing lengths counts a class at the speed of C.
            weight += each * (len(data) - len(data.translate(None, delete=members)))
        return math.ceil(weight)
