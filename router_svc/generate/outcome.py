"""Says what became of a decision: who answered instead, or why nobody did."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from router_svc.decide.choice import Candidate, Decision
from router_svc.generate.ports import FailureKind, ProviderFailure
from stepwire.errors import Reason, StepwireError


@dataclass(frozen=True, slots=True)
class FailedTry:
    """A model that did not answer, and why."""

    candidate: Candidate
    failure: ProviderFailure

    @property
    def name(self) -> str:
        """The model's name."""
        return self.candidate.model.name


def after_failures(
    decision: Decision, answered: Candidate, failed: Sequence[FailedTry]
) -> Decision:
    """Returns `decision` as it turned out: `answered` first, the failed ones rejected."""
    if not failed:
        return decision
    failed_candidates = [each.candidate for each in failed]
    left = [each for each in decision.tries if each not in (answered, *failed_candidates)]
    told = "; ".join(f"{each.name} did not answer: {each.failure}" for each in failed)
    return Decision(
        tries=(answered, *left),
        rejected=(
            *(replace(each.candidate, rejected=f"failed: {each.failure}") for each in failed),
            *decision.rejected,
        ),
        explanation=f"{decision.explanation}; {told}; {answered.model.name} answered instead",
        input_tokens=decision.input_tokens,
    )


def refused(failed: FailedTry) -> StepwireError:
    """Returns PROVIDER_REJECTED for a request that one provider refused for good."""
    return StepwireError(
        Reason.PROVIDER_REJECTED,
        f"{failed.name} refused the request: {failed.failure}",
        metadata={
            "model": failed.name,
            "provider": failed.candidate.model.provider.kind,
            "status": failed.failure.status,
        },
    )


def nobody_answered(failed: Sequence[FailedTry]) -> StepwireError:
    """Returns the error for a request that every model failed.

    PROVIDER_UNAVAILABLE when at least one of the failures may pass, with the shortest
    wait that a provider asked for; otherwise PROVIDER_REJECTED for the first of them.
    """
    may_pass = [each for each in failed if each.failure.kind is FailureKind.UNAVAILABLE]
    if not may_pass:
        return refused(failed[0])
    told = "; ".join(f"{each.name}: {each.failure}" for each in failed)
    return StepwireError(
        Reason.PROVIDER_UNAVAILABLE,
        f"no model that may answer could be reached: {told}",
        metadata={f"failed.{each.name}": str(each.failure) for each in failed},
        retry_after=_shortest([each.failure.retry_after for each in may_pass]),
    )


def out_of_time(failed: Sequence[FailedTry]) -> StepwireError:
    """Returns DEADLINE_EXCEEDED for a call whose time ended before anyone answered."""
    told = "; ".join(f"{each.name}: {each.failure}" for each in failed)
    return StepwireError(
        Reason.DEADLINE_EXCEEDED,
        "the call's deadline passed before a model answered" + (f"; {told}" if told else ""),
        metadata={f"failed.{each.name}": str(each.failure) for each in failed},
    )


def _shortest(waits: Sequence[timedelta | None]) -> timedelta | None:
    return min((wait for wait in waits if wait is not None), default=None)
