"""What a decision is made of."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum, auto
from uuid import UUID

from router_svc.catalogue.kinds import Kind
from router_svc.catalogue.models import Model
from router_svc.catalogue.prices import Price
from stepwire.errors import StepwireError


class _Named(StrEnum):
    @staticmethod
    def _generate_next_value_(name: str, *_: object) -> str:
        return name


class RejectionCode(_Named):
    """Why a model may not answer; the names are those of the API without their prefix."""

    NOT_NAMED = auto()
    CAPABILITY = auto()
    WINDOW = auto()
    QUALITY = auto()
    NOTHING_TO_QUOTE = auto()
    COST = auto()
    BUDGET = auto()
    TIER = auto()
    LANGUAGE = auto()
    FAILED = auto()


class DecisionReason(_Named):
    """What led to a decision; the names are those of the API without their prefix."""

    NAMED = auto()
    CHEAPEST_SUFFICIENT = auto()
    NEAREST_QUALITY = auto()
    ONLY_ELIGIBLE = auto()
    BETTER_ONE_RESTS = auto()
    EXPLORED = auto()
    LEARNT_QUALITY = auto()
    WITHOUT_EMBEDDING = auto()
    CACHED = auto()
    HEDGED = auto()


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why a model may not answer, for programs and for people."""

    code: RejectionCode
    told: str


@dataclass(frozen=True, slots=True)
class Signal:
    """Something seen in a request, and what it adds to its complexity."""

    name: str
    weight: float


@dataclass(frozen=True, slots=True)
class Complexity:
    """How hard a request seems: `score` from 0 to 1, and what it is made of."""

    score: float
    signals: tuple[Signal, ...] = ()


@dataclass(frozen=True, slots=True)
class Need:
    """The quality that a request needs.

    Attributes:
        quality: From 0 to 1, on the catalogue's scale.
        reason: How it came about, for people.
        required: Whether the caller stated it; an estimate may be missed, when no
            model reaches it.
    """

    quality: float
    reason: str
    required: bool


@dataclass(frozen=True, slots=True)
class Left:
    """What budgets have left for a model.

    Attributes:
        micro_usd: In millionths of a US dollar.
        refusal: Returns what a caller is told whose call needs so much more, when no model
            is cheap enough.
    """

    micro_usd: int
    refusal: Callable[[int], StepwireError]


@dataclass(frozen=True, slots=True)
class Standing:
    """How a model stands at this moment.

    Attributes:
        resting: Why it would not be let through; empty when it would.
        in_flight: Calls to it under way.
        latency_seconds: What they take lately; 0 when unknown.
    """

    resting: str = ""
    in_flight: int = 0
    latency_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model as seen by a decision.

    Attributes:
        model: The model.
        price: What it costs now.
        quality: Predicted for this request, from 0 to 1.
        input_tokens: Tokens that it would read.
        exact: Whether its own tokenizer counted them.
        cost_micro_usd: Expected cost, in millionths of a US dollar.
        worst_cost_micro_usd: Highest cost that the request can have.
        standing: How it stands now.
        rejections: Why it may not answer; none when it may.
    """

    model: Model
    price: Price
    quality: float
    input_tokens: int
    exact: bool
    cost_micro_usd: int
    worst_cost_micro_usd: int
    standing: Standing = Standing()
    rejections: tuple[Rejection, ...] = ()

    @property
    def rejected(self) -> str:
        """Why it may not answer, for people; empty when it may."""
        return "; ".join(each.told for each in self.rejections)


@dataclass(frozen=True, slots=True)
class Decision:
    """A choice among the models.

    Attributes:
        decision_id: Names it, for the report of its outcome.
        tries: The models that may answer, in the order of trying; at least one.
        rejected: The others, in the catalogue's order.
        explanation: Why the first of `tries` is the first, for people.
        reasons: The same for programs.
        need: The quality needed.
        complexity: How hard the request seems.
        kind: What kind of work it seems to be; None when no kind stands out.
        propensity: Probability with which the first of `tries` was drawn.
        predictor_version: Which predictor gave the qualities; 0 for the catalogue.
        catalogue_version: Which catalogue it was made with.
        over_budget: What the caller would be told if budgets had no more left than a moment
            ago, when no model was cheap enough; None where one is.
    """

    decision_id: UUID
    tries: tuple[Candidate, ...]
    rejected: tuple[Candidate, ...]
    explanation: str
    reasons: tuple[DecisionReason, ...]
    need: Need
    complexity: Complexity
    kind: Kind | None
    propensity: float
    predictor_version: int
    catalogue_version: str
    over_budget: StepwireError | None = None

    @property
    def chosen(self) -> Candidate:
        """The model to try first."""
        return self.tries[0]

    @property
    def input_tokens(self) -> int:
        """Tokens that the chosen model would read."""
        return self.chosen.input_tokens
