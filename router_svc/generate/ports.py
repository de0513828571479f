"""What the domain needs from outside."""

from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from typing import Protocol

from router_svc.requests.records import Request


class TokenCounter(Protocol):
    """Counts the tokens of a text."""

    def count(self, text: str) -> int:
        """Returns the number of tokens of `text`, exact or estimated upwards."""
        ...


@dataclass(frozen=True, slots=True)
class Citation:
    """A passage that an answer rests on; `quote` is empty when only the document is named."""

    document_id: str
    quote: str


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens that a provider says it read and wrote."""

    input_tokens: int
    output_tokens: int


@dataclass(frozen=True, slots=True)
class Completion:
    """What a provider answered.

    Attributes:
        text: The answer; where it cites a document, it has the id in square brackets.
        citations: What it rests on, in the order of use.
        usage: None when the provider reported none.
    """

    text: str
    citations: tuple[Citation, ...]
    usage: Usage | None


class FailureKind(Enum):
    """What a provider's failure says about the next try."""

    UNAVAILABLE = "unavailable"
    """It may pass: another model is tried, and this one left to rest."""
    MISCONFIGURED = "misconfigured"
    """Bad key, no credit, unknown model: it fails every request until someone acts.
    Another model is tried, and this one left to rest."""
    UNFIT = "unfit"
    """This request does not fit this model: another model is tried."""
    REFUSED = "refused"
    """The request is bad, here and anywhere else: nothing more is tried."""


class ProviderFailure(Exception):  # noqa: N818  (it fails; an error is what the caller sees)
    """A try that brought no answer.

    Attributes:
        kind: What to do next.
        message: What happened, for people. It reaches the caller, so it holds no key.
        status: The provider's own code, such as `429`; empty when it gave none.
        retry_after: How long the provider asks to be left alone.
    """

    def __init__(
        self,
        kind: FailureKind,
        message: str,
        *,
        status: str = "",
        retry_after: timedelta | None = None,
    ) -> None:
        super().__init__(kind, message)
        self.kind = kind
        self.message = message
        self.status = status
        self.retry_after = retry_after

    def __str__(self) -> str:
        return self.message


class Provider(Protocol):
    """Calls one model of the catalogue. It makes one try: the router retries."""

    async def complete(self, request: Request, *, max_output_tokens: int) -> Completion:
        """Returns the model's answer of at most `max_output_tokens` tokens.

        Raises:
            ProviderFailure: There is no answer. Time is not the provider's matter:
                the caller bounds it, by cancelling.
        """
        ...
