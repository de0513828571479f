"""Says what became of a decision: who answered instead, or why nobody did."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

from router_svc.catalogue.models import Model
from router_svc.decide.records import Candidate, Decision, DecisionReason, Rejection, RejectionCode
from router_svc.generate.failures import FailureKind
from router_svc.generate.records import FailedTry
from stepwire.errors import Reason, StepwireError

# What is over sooner or later; the others need another request, or somebody to act.
MAY_PASS = frozenset(
    {
        FailureKind.RATE_LIMITED,
        FailureKind.NO_CREDIT,
        FailureKind.SERVER,
        FailureKind.NETWORK,
        FailureKind.TIMEOUT,
        FailureKind.NONSENSE,
    }
)


def after_failures(decision: Decision, model: Model, failed: Sequence[FailedTry]) -> Decision:
    """Returns `decision` as it turned out: `model` first, those that failed rejected."""
    names = {each.name for each in failed} - {model.name}
    first = decision.chosen.model.name
    hedged = first not in {model.name, *names}
    if not failed and not hedged:
        return decision
    told = [f"{each.name} did not answer: {each.failure}" for each in failed]
    if hedged:
        told.append(f"{first} was slow")
    answered = next(each for each in decision.tries if each.model.name == model.name)
    left = [each for each in decision.tries if each.model.name not in {model.name, *names}]
    return replace(
        decision,
        tries=(answered, *left),
        rejected=(*(_rejected(name, failed) for name in sorted(names)), *decision.rejected),
        reasons=(*decision.reasons, DecisionReason.HEDGED) if hedged else decision.reasons,
        explanation="; ".join([decision.explanation, *told, f"{model.name} answered"]),
    )


def exhausted(failed: Sequence[FailedTry]) -> StepwireError:
    """Returns the error for a request that no model answered.

    MODELS_EXHAUSTED when at least one of the failures may pass, with the shortest wait
    that was asked for; otherwise BUDGET_EXHAUSTED when a budget had too little left,
    ANSWER_OFF_SCHEMA when a model answered, but not by the schema, and PROVIDER_REJECTED for
    the first of them when none did.
    """
    may_pass = [each for each in failed if each.failure.kind in MAY_PASS]
    if not may_pass:
        for each in reversed(failed):
            if each.failure.over is not None:
                return _over_budget(each.failure.over, failed)
        off_schema = [each for each in failed if each.failure.kind is FailureKind.OFF_SCHEMA]
        return _off_schema(off_schema[-1], failed) if off_schema else refused(failed[0], failed)
    return StepwireError(
        Reason.MODELS_EXHAUSTED,
        f"no model that may answer did: {_told(failed)}",
        metadata=_tried(failed),
        retry_after=_shortest([each.failure.retry_after for each in may_pass]),
    )


def refused(first: FailedTry, failed: Sequence[FailedTry]) -> StepwireError:
    """Returns PROVIDER_REJECTED for a request that a provider refused for good."""
    return StepwireError(
        Reason.PROVIDER_REJECTED,
        f"{first.name} refused the request: {first.failure}",
        metadata={
            "model": first.name,
            "provider": first.candidate.model.provider.kind,
            "status": first.failure.status,
            **_tried(failed),
        },
    )


def out_of_time(failed: Sequence[FailedTry]) -> StepwireError:
    """Returns DEADLINE_EXCEEDED for a call whose time ended before anyone answered."""
    return StepwireError(
        Reason.DEADLINE_EXCEEDED,
        "the call's deadline passed before a model answered"
        + (f"; {_told(failed)}" if failed else ""),
        metadata=_tried(failed),
    )


def broke_off(failed: Sequence[FailedTry]) -> StepwireError:
    """Returns the error for a stream that failed after its beginning was sent.

    ANSWER_OFF_SCHEMA when it came to its end, but does not keep the schema;
    PROVIDER_UNAVAILABLE otherwise.
    """
    last = failed[-1]
    if last.failure.kind is FailureKind.OFF_SCHEMA:
        return _off_schema(last, failed)
    return StepwireError(
        Reason.PROVIDER_UNAVAILABLE,
        f"the answer of {last.name} broke off: {last.failure}",
        metadata={"model": last.name, "kind": last.kind},
        retry_after=last.failure.retry_after,
    )


def _over_budget(over: StepwireError, failed: Sequence[FailedTry]) -> StepwireError:
    return StepwireError(
        over.reason,
        over.message,
        metadata={**over.metadata, **_tried(failed)},
        retry_after=over.retry_after,
    )


def _off_schema(last: FailedTry, failed: Sequence[FailedTry]) -> StepwireError:
    return StepwireError(
        Reason.ANSWER_OFF_SCHEMA,
        f"{last.name} answered, and {last.failure}",
        metadata={"model": last.name, **_tried(failed)},
    )


def _rejected(name: str, failed: Sequence[FailedTry]) -> Candidate:
    """Returns the candidate called `name`, rejected for its last failure."""
    last = next(each for each in reversed(failed) if each.name == name)
    rejection = Rejection(RejectionCode.FAILED, f"failed: {last.failure}")
    return replace(last.candidate, rejections=(rejection,))


def _tried(failed: Sequence[FailedTry]) -> dict[str, str]:
    called = sum(each.failure.called for each in failed)
    tried = {
        f"tried.{place}": f"{_place(each)}: {each.kind}: {each.failure}"
        for place, each in enumerate(failed, start=1)
    }
    return {"attempts": str(called), **tried}


def _place(tried: FailedTry) -> str:
    return f"{tried.name}@{tried.endpoint}" if tried.endpoint else tried.name


def _told(failed: Sequence[FailedTry]) -> str:
    return "; ".join(f"{each.name}: {each.failure}" for each in failed)


def _shortest(waits: Sequence[timedelta | None]) -> timedelta | None:
    return min((wait for wait in waits if wait is not None), default=None)
