"""Values of one Generate: who asks, what was tried, what came back."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from router_svc.catalogue.models import Model
from router_svc.decide.records import Candidate, Decision
from router_svc.generate.failures import ProviderFailure
from router_svc.generate.usage import Usage
from router_svc.requests.records import ToolCall


@dataclass(frozen=True, slots=True)
class Caller:
    """For whom a request is made; empty where nobody said."""

    tenant_id: str
    project: str = ""
    task_id: str = ""
    step_id: str = ""
    request_id: str = ""


@dataclass(frozen=True, slots=True)
class Citation:
    """A passage that an answer rests on; `quote` is empty when only the document is named."""

    document_id: str
    quote: str


class FinishReason(Enum):
    """Why an answer ended; the values are those of chat completions."""

    UNKNOWN = ""
    STOP = "stop"
    LENGTH = "length"
    TOOL_CALLS = "tool_calls"
    CONTENT_FILTER = "content_filter"


@dataclass(frozen=True, slots=True)
class Completion:
    """What a provider answered.

    Attributes:
        text: The answer; where it cites a document, it has the id in square brackets.
        citations: What it rests on, in the order of use.
        usage: None when the provider reported none.
        tool_calls: Calls of tools that the model asks for.
        finish: Why it ended.
        model: The provider's own name of the model that answered; empty when it said none.
        unsaid: What it wrote beside that, thoughts; it counts where no usage is reported.
    """

    text: str
    citations: tuple[Citation, ...] = ()
    usage: Usage | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    finish: FinishReason = FinishReason.UNKNOWN
    model: str = ""
    unsaid: str = ""


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of a streamed answer: text, a whole call of a tool, or the end; or that it goes on.

    Attributes:
        text: Text that follows what came before; empty for other pieces.
        tool_call: A call that the model asks for.
        end: The whole answer; the last piece, and only that, has it.
        unsaid: What the model has written and is not passed on, or not yet: thoughts, and
            pieces of calls. It counts where the stream does not reach its end.
    """

    text: str = ""
    tool_call: ToolCall | None = None
    end: Completion | None = None
    unsaid: str = ""


@dataclass(frozen=True, slots=True)
class FailedTry:
    """A try that brought no answer.

    Attributes:
        candidate: The model.
        endpoint: Where it was called; empty for a model of model_svc.
        failure: Why.
        seconds: How long it took.
        hedge: Whether it ran beside another try.
    """

    candidate: Candidate
    endpoint: str
    failure: ProviderFailure
    seconds: float = 0.0
    hedge: bool = False

    @property
    def name(self) -> str:
        """The model's name."""
        return self.candidate.model.name

    @property
    def kind(self) -> str:
        """The failure's class."""
        return self.failure.kind.value


class HitKind(Enum):
    """How an earlier answer was found; the values are those of metrics."""

    EXACT = "exact"
    """It was given to an equal request."""
    SEMANTIC = "semantic"
    """It was given to a request whose last message has the same meaning."""
    JOINED = "joined"
    """It is that of an equal request that was being answered."""


@dataclass(frozen=True, slots=True)
class CacheHit:
    """That an answer is an earlier one.

    Attributes:
        kind: How it was found.
        age_seconds: Since it was given first.
        similarity: Cosine between the meanings of the last messages.
        saved_micro_usd: What it had cost.
    """

    kind: HitKind
    age_seconds: float = 0.0
    similarity: float = 1.0
    saved_micro_usd: int = 0


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer and its account.

    Attributes:
        completion: What the provider answered.
        usage: Tokens read and written.
        cost_micro_usd: By the catalogue's prices, in millionths of a US dollar.
        decision: Why this model answered.
        failed: The tries before it, in order.
        model: The model that gave it.
        hit: That it is an earlier answer, which cost nothing now; None of a new one.
    """

    completion: Completion
    usage: Usage
    cost_micro_usd: int
    decision: Decision
    model: Model
    failed: Sequence[FailedTry] = ()
    hit: CacheHit | None = None


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of a streamed answer as the caller gets it; the last has the account."""

    text: str = ""
    tool_call: ToolCall | None = None
    end: Answer | None = None


@dataclass(frozen=True, slots=True)
class UsageEntry:
    """What one try used, for the record.

    Attributes:
        caller: For whom.
        decision: The decision that it followed.
        model: The model called.
        endpoint: Where.
        usage: Tokens; all 0 when nothing was used.
        cost_micro_usd: By the catalogue's prices.
        seconds: How long it took.
        first_token_seconds: Until the first piece of a stream; None without one.
        outcome: `answered`, or the class of the failure, or `cancelled`.
        cached: Whether it came from the cache.
    """

    caller: Caller
    decision: Decision
    model: Model
    endpoint: str
    usage: Usage
    cost_micro_usd: int
    seconds: float
    first_token_seconds: float | None
    outcome: str
    cached: bool = False
