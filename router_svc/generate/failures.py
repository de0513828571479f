"""How a try can fail, and what a provider said about it."""

from datetime import timedelta
from enum import Enum

from router_svc.generate.usage import Usage
from stepwire.errors import StepwireError


class FailureKind(Enum):
    """The class of a failure. `chains` says what each leads to."""

    RATE_LIMITED = "rate_limited"
    """The provider, or a limit of the catalogue's, takes no more for a while."""
    NO_CREDIT = "no_credit"
    """The account that pays has nothing left."""
    MISCONFIGURED = "misconfigured"
    """Bad key, no right, unknown model: every request fails until someone acts."""
    CONTEXT_TOO_LONG = "context_too_long"
    """The request does not fit the model's window."""
    CONTENT_FILTERED = "content_filtered"
    """The provider's filter refused the request, or all of the answer."""
    SERVER = "server"
    """The provider had an error of its own, or is overloaded."""
    NETWORK = "network"
    """The provider could not be reached, or the connection broke."""
    TIMEOUT = "timeout"
    """No answer came within the model's time."""
    NONSENSE = "nonsense"
    """What came is no answer."""
    OFF_SCHEMA = "off_schema"
    """What came is an answer, but does not keep the JSON Schema that was asked for."""
    UNFIT = "unfit"
    """This request is not for this model."""
    BAD_REQUEST = "bad_request"
    """The request is bad, here and anywhere else."""
    OVER_BUDGET = "over_budget"
    """A budget does not allow this model, but a cheaper one."""


class ProviderFailure(Exception):  # noqa: N818  (it fails; an error is what the caller sees)
    """A try that brought no answer.

    Attributes:
        kind: What it is.
        message: What happened, for people. It reaches the caller, so it holds no key.
        status: The provider's own code, such as `429`; empty when it gave none.
        retry_after: How long the provider asks to be left alone.
        called: Whether the provider was called; not where a breaker or a limit kept the
            try from it.
        said: What the model said, where it is OFF_SCHEMA.
        usage: What the provider says that it used all the same; None when it did not say.
        over: Where it is OVER_BUDGET, what the caller is told when nothing cheaper answers.
    """

    def __init__(
        self,
        kind: FailureKind,
        message: str,
        *,
        status: str = "",
        retry_after: timedelta | None = None,
        called: bool = True,
        said: str = "",
        usage: Usage | None = None,
        over: StepwireError | None = None,
    ) -> None:
        super().__init__(kind, message)
        self.kind = kind
        self.message = message
        self.status = status
        self.retry_after = retry_after
        self.called = called
        self.said = said
        self.usage = usage
        self.over = over

    def __str__(self) -> str:
        return self.message
