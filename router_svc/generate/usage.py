"""What an answer used."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one answer.

    Attributes:
        input_tokens: Tokens read.
        output_tokens: Tokens written, those of reasoning included.
        cached_input_tokens: Those of the tokens read that the provider had kept.
        reasoning_tokens: Those of the tokens written that are in no text.
        estimated: Whether the provider reported none, and these are estimates.
    """

    input_tokens: int
    output_tokens: int
    cached_input_tokens: int = 0
    reasoning_tokens: int = 0
    estimated: bool = False

    @property
    def total(self) -> int:
        """Tokens read and written."""
        return self.input_tokens + self.output_tokens
