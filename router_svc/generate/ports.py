"""What generating needs from outside."""

from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from router_svc.catalogue.models import Model
from router_svc.decide.records import Decision
from router_svc.generate.failures import ProviderFailure
from router_svc.generate.load import Load
from router_svc.generate.records import (
    Answer,
    Caller,
    Completion,
    Delta,
    FailedTry,
    Piece,
    UsageEntry,
)
from router_svc.requests.records import Request

# Estimates the tokens of a text, for the tokenizer of that name.
CountTokens = Callable[[str, str], int]


class Provider(Protocol):
    """Calls one model at one endpoint. It makes one try: the router retries.

    Time is not the provider's matter: the caller bounds it, by cancelling.
    """

    async def complete(self, request: Request, *, max_output_tokens: int) -> Completion:
        """Returns the model's answer of at most `max_output_tokens` tokens.

        Raises:
            ProviderFailure: There is no answer.
        """
        ...

    def stream(self, request: Request, *, max_output_tokens: int) -> AsyncGenerator[Delta]:
        """Yields the answer as it comes; the last piece has the end.

        Raises:
            ProviderFailure: There is no answer, or it broke off.
        """
        ...


class Permit(Protocol):
    """The right to make one call. It is given back in exactly one of three ways."""

    def succeeded(self, seconds: float) -> None:
        """An answer came, after `seconds`."""
        ...

    def failed(self, failure: ProviderFailure) -> None:
        """None came."""
        ...

    def released(self) -> None:
        """Nothing was learnt: the call was not made, or was given up."""
        ...


@dataclass(frozen=True, slots=True)
class Target:
    """One place where a model can be called.

    Attributes:
        model: The model.
        endpoint: The endpoint's name; empty for a model of model_svc.
        provider: How to call it.
        load: How busy and how quick it is.
    """

    model: Model
    endpoint: str
    provider: Provider
    load: Load


class Targets(Protocol):
    """Chooses where a model is called, and lets calls through or not."""

    def take(self, model: Model, *, avoid: Sequence[str] = ()) -> tuple[Target, Permit]:
        """Returns the place for one call and the right to it.

        Args:
            model: The model.
            avoid: Endpoints to take only when there is no other.

        Raises:
            ProviderFailure: Every place rests; with the time after which one may not.
        """
        ...


class Decider(Protocol):
    """Decides which models may answer."""

    async def decide(self, request: Request) -> Decision:
        """Returns the models in the order of trying, and why."""
        ...


class Reservation(Protocol):
    """Money held for one call. It is given back in exactly one of two ways, at once."""

    def settle(self, entry: UsageEntry) -> None:
        """Writes down what the call used, charges its cost, and gives the rest back."""
        ...

    def release(self) -> None:
        """Gives all back: the call was not made."""
        ...


class Budgets(Protocol):
    """Holds money before it is spent."""

    async def reserve(self, caller: Caller, model: Model, *, worst_micro_usd: int) -> Reservation:
        """Holds the most that a call may cost.

        Raises:
            ProviderFailure: OVER_BUDGET: this model is too dear, and a cheaper one may be
                tried.
            StepwireError: BUDGET_EXHAUSTED: no model may be used; DEPENDENCY_UNAVAILABLE
                when it cannot be found out.
        """
        ...


class Lease(Protocol):
    """Room under rate limits for one call. It is given back in exactly one of two ways."""

    def settle(self, tokens: int) -> None:
        """Counts the tokens really used."""
        ...

    def release(self) -> None:
        """Gives all room back: the call was not made."""
        ...


class Slot(Protocol):
    """The right to have one call of a model under way."""

    @property
    def seconds_left(self) -> float:
        """For how long the call may go on, as far as is known; that is renewed as it goes on."""
        ...

    def release(self) -> None:
        """Gives it back: the call has ended."""
        ...


class Limits(Protocol):
    """Keeps calls within what models may be asked for in a minute, and at once."""

    async def lease(self, caller: Caller, model: Model, *, tokens: int) -> Lease:
        """Takes room for one call of at most `tokens` tokens.

        Raises:
            ProviderFailure: RATE_LIMITED, with the wait, or UNFIT when one call is more than
                may be asked for in a minute; not `called`.
        """
        ...

    async def slot(self, model: Model) -> Slot:
        """Waits until one more call of the model may be under way.

        Raises:
            ProviderFailure: RATE_LIMITED, when that cannot be found out; not `called`.
        """
        ...


class Answering(Protocol):
    """Answers requests: `pipeline.Router`, or what stands before it."""

    async def generate(self, request: Request, *, deadline: float | None) -> Answer:
        """Returns an answer; see `pipeline.Router.generate`."""
        ...

    def stream(self, request: Request, *, deadline: float | None) -> AsyncGenerator[Piece]:
        """Yields an answer as it comes; see `pipeline.Router.stream`."""
        ...


class UsageRecorder(Protocol):
    """Writes down what was used without a call. Returns at once, and never raises."""

    def record(self, entry: UsageEntry) -> None:
        """Takes an entry."""
        ...


class Observer(Protocol):
    """Learns from what became of decisions. Returns at once, and never raises."""

    def observed(
        self, decision: Decision, answered: Model | None, failed: Sequence[FailedTry]
    ) -> None:
        """Takes the end of one Generate; `answered` is None when nobody did."""
        ...
