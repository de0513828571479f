"""Decides, tries the models in order, and accounts for the answer."""

from dataclasses import dataclass, replace

from router_svc.decide.decider import Decider
from router_svc.decide.records import Candidate, Decision
from router_svc.generate.attempts import Attempts, OutOfTimeError
from router_svc.generate.outcome import (
    FailedTry,
    after_failures,
    nobody_answered,
    out_of_time,
    refused,
)
from router_svc.generate.ports import (
    Citation,
    Completion,
    FailureKind,
    ProviderFailure,
    Usage,
)
from router_svc.metrics import RouterMetrics
from router_svc.requests.records import Request
from router_svc.tokens.ports import TokenCounter


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer and its account.

    Attributes:
        text: The answer.
        citations: What it rests on.
        model: Name of the model that gave it.
        usage: Tokens read and written.
        cost_micro_usd: By the catalogue's prices, in millionths of a US dollar.
        decision: Why this model answered.
    """

    text: str
    citations: tuple[Citation, ...]
    model: str
    usage: Usage
    cost_micro_usd: int
    decision: Decision


class Router:
    """Answers requests with the models of one catalogue.

    Args:
        decider: Decides.
        attempts: Makes the tries, and knows which models rest.
        counter: Counts tokens for decisions, and where a provider does not.
        metrics: Where decisions and answers are counted.
    """

    def __init__(
        self,
        *,
        decider: Decider,
        attempts: Attempts,
        counter: TokenCounter,
        metrics: RouterMetrics,
    ) -> None:
        self._decider = decider
        self._attempts = attempts
        self._counter = counter
        self._metrics = metrics

    async def decide(self, request: Request) -> Decision:
        """Returns which model would answer `request`, and why; see `Decider`."""
        return await self._decider.decide(request)

    async def generate(self, request: Request, *, deadline: float | None) -> Answer:
        """Returns the answer of the first model that gives one.

        Args:
            request: The request.
            deadline: When the caller stops waiting, on the router's clock; None for
                never.

        Raises:
            StepwireError: As `decide`; PROVIDER_REJECTED when a provider refuses the
                request for good; PROVIDER_UNAVAILABLE when every model failed;
                DEADLINE_EXCEEDED when the time ended first.
        """
        decision = await self.decide(request)
        failed: list[FailedTry] = []
        for candidate in decision.tries:
            try:
                completion = await self._attempts.make(candidate.model, request, deadline=deadline)
            except ProviderFailure as failure:
                failed.append(FailedTry(candidate, failure))
                if failure.kind is FailureKind.REFUSED:
                    raise refused(failed[-1]) from failure
            except OutOfTimeError:
                raise out_of_time(failed) from None
            else:
                return self._account(completion, candidate, decision, failed)
        raise nobody_answered(failed)

    def _account(
        self,
        completion: Completion,
        candidate: Candidate,
        decision: Decision,
        failed: list[FailedTry],
    ) -> Answer:
        model = candidate.model
        outcome = after_failures(decision, candidate, failed)
        usage = completion.usage
        if usage is None:
            usage = Usage(decision.input_tokens, self._counter.count(completion.text))
            told = f"{outcome.explanation}; its provider reported no usage, which is estimated"
            outcome = replace(outcome, explanation=told)
        cost = candidate.price.cost_micro_usd(usage.input_tokens, usage.output_tokens)
        self._metrics.answered(
            model,
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
            cost_micro_usd=cost,
        )
        return Answer(
            text=completion.text,
            citations=completion.citations,
            model=model.name,
            usage=usage,
            cost_micro_usd=cost,
            decision=outcome,
        )
