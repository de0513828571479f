"""Words of the catalogue that requests and decisions share: tiers and kinds of work."""

from enum import StrEnum


class Tier(StrEnum):
    """How large a model is; the members are in ascending order."""

    SMALL = "small"
    BALANCED = "balanced"
    LARGE = "large"

    @property
    def rank(self) -> int:
        """Place in the order, from 0."""
        return list(Tier).index(self)


class Kind(StrEnum):
    """What kind of work a request is."""

    CHAT = "chat"
    CODE = "code"
    DATA = "data"
    EXTRACTION = "extraction"
    MATHS = "maths"
    REASONING = "reasoning"
    SUMMARY = "summary"
    TRANSLATION = "translation"
    WRITING = "writing"
