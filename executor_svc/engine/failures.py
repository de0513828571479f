"""From what an attempt raised to its failure. Pure."""

from collections.abc import Mapping

from executor_svc.engine.outcomes import Failed
from executor_svc.engine.records import Failure
from executor_svc.graphs.expressions import EvaluationError
from executor_svc.steps.kind import StepError
from stepwire.errors import Reason, StepwireError

MAX_MESSAGE_CHARACTERS = 4096
# What services keep of the time that they are given, so that their answer comes in time: a
# service and those behind it.
KEPT_SECONDS = 0.1
KEPT_SHARE = 0.05
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


def ran_out(error: StepwireError, *, seconds: float, left: float) -> bool:
    """Return whether a service says that the time of the attempt, as it was given it, is over.

    Args:
        error: what the service answered with.
        seconds: how long the attempt might run.
        left: how much of that is left.
    """
    kept = KEPT_SECONDS + seconds * KEPT_SHARE
    return error.reason is Reason.DEADLINE_EXCEEDED and left <= kept


def timed_out(seconds: float, *, told: StepwireError | None = None) -> Failed:
    """Return the failure of an attempt whose time is over, with what a service told of it."""
    message, metadata = f"the attempt ran longer than {seconds:g} s", dict[str, str]()
    if told is not None:
        message = f"{message}: {_cut(told.message)}"
        metadata.update(_cut_all(told.metadata))
    metadata["timeout_seconds"] = f"{seconds:g}"
    return Failed(Failure(Reason.STEP_TIMED_OUT, message, metadata))


def silent(seconds: float) -> Failed:
    """Return the failure of an attempt that sent no heartbeat for so long."""
    message = f"the attempt sent no heartbeat for {seconds:g} s"
    metadata = {"heartbeat_timeout_seconds": f"{seconds:g}"}
    return Failed(Failure(Reason.STEP_HEARTBEAT_MISSED, message, metadata))


def _cut(text: str) -> str:
    """Return what the record can hold of a text: no U+0000, no half of a surrogate pair."""
    short = text[:MAX_MESSAGE_CHARACTERS].replace("\0", "")
    return short.encode("utf-8", "replace").decode()


def _cut_all(metadata: Mapping[str, str]) -> Mapping[str, str]:
    return {_cut(name): _cut(value) for name, value in metadata.items()}
