"""From what an attempt raised to its failure. Pure."""

from collections.abc import Mapping

from executor_svc.engine.outcomes import Failed
from executor_svc.engine.records import Failure
from executor_svc.graphs.expressions import EvaluationError
from executor_svc.steps.kind import StepError
from stepwire.errors import Reason, StepwireError

MAX_MESSAGE_CHARACTERS = 4096
# Reasons that may pass: the same call could succeed later.
PASSING = frozenset(
    {
        Reason.DEADLINE_EXCEEDED,
        Reason.OVERLOADED,
        Reason.DEPENDENCY_UNAVAILABLE,
        Reason.GRAPH_TOO_NEW,
        Reason.PROVIDER_UNAVAILABLE,
        Reason.MODELS_EXHAUSTED,
        Reason.INTERNAL,
    }
)


def failed_by(error: BaseException) -> Failed:
    """Turn what an attempt raised into its failure."""
    match error:
        case StepError():
            return Failed(
                Failure(error.reason, _cut(str(error)), _cut_all(error.metadata)),
                retryable=error.retryable,
                retry_after=error.retry_after,
            )
        case StepwireError():
            return Failed(
                Failure(error.reason, _cut(error.message), _cut_all(error.metadata)),
                retryable=error.reason in PASSING,
                retry_after=error.retry_after,
            )
        case EvaluationError():
            return Failed(Failure(Reason.EXPRESSION_INVALID, _cut(str(error))), retryable=False)
    name = type(error).__name__
    return Failed(Failure(Reason.STEP_FAILED, _cut(f"{name}: {error}"), {"exception": name}))


def _cut(text: str) -> str:
    """Return what the record can hold of a text: no U+0000, no half of a surrogate pair."""
    short = text[:MAX_MESSAGE_CHARACTERS].replace("\0", "")
    return short.encode("utf-8", "replace").decode()


def _cut_all(metadata: Mapping[str, str]) -> Mapping[str, str]:
    return {_cut(name): _cut(value) for name, value in metadata.items()}
