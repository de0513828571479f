"""The one kind of error that Stepwire raises on purpose, and its reasons.

Pure: this module knows neither gRPC nor storage, so that domain code may raise
and read these errors freely. `stepwire.rpc.status` gives each reason its code.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum, auto


class _NamedValue(StrEnum):
    """A string enum whose `auto()` value is the member's own name."""

    @staticmethod
    def _generate_next_value_(
        name: str,
        start: int,  # noqa: ARG004  (the signature is enum's)
        count: int,  # noqa: ARG004
        last_values: list[str],  # noqa: ARG004
    ) -> str:
        return name


class Reason(_NamedValue):
    """Why a call was refused or a step failed.

    The names of `stepwire.api.errors.v1.ErrorReason` without their prefix; the
    proto file says what each means and which metadata it carries.
    """

    FIELD_INVALID = auto()
    PAYLOAD_TOO_LARGE = auto()
    GRAPH_CYCLE = auto()
    DEPENDENCY_MISSING = auto()
    EXPRESSION_INVALID = auto()
    STEP_KIND_UNKNOWN = auto()

    TASK_NOT_FOUND = auto()
    TASK_STATE_CONFLICT = auto()
    REQUEST_ID_REUSED = auto()
    PAGE_TOKEN_INVALID = auto()

    MODEL_NOT_FOUND = auto()
    MODEL_INPUT_INVALID = auto()
    NO_ELIGIBLE_MODEL = auto()
    PROVIDER_UNAVAILABLE = auto()
    PROVIDER_REJECTED = auto()

    COLLECTION_NOT_FOUND = auto()
    COLLECTION_EXISTS = auto()
    VECTOR_DIMENSION_MISMATCH = auto()

    DEADLINE_EXCEEDED = auto()
    OVERLOADED = auto()
    DEPENDENCY_UNAVAILABLE = auto()
    INTERNAL = auto()

    STEP_FAILED = auto()
    STEP_TIMED_OUT = auto()
    STEP_WORKER_LOST = auto()
    FUNCTION_NOT_FOUND = auto()
    OUTPUT_TOO_LARGE = auto()
    STEP_HEARTBEAT_MISSED = auto()
    SIGNAL_TIMED_OUT = auto()
    JOIN_UNSATISFIED = auto()
    TASK_TIMED_OUT = auto()
    SUBTASK_FAILED = auto()
    NESTED_TOO_DEEP = auto()
    SIGNAL_UNKNOWN = auto()

    WORKFLOW_NOT_FOUND = auto()
    WORKFLOW_VERSION_EXISTS = auto()
    WORKFLOW_VERSION_IN_USE = auto()
    WORKFLOW_VERSION_DEPRECATED = auto()

    SCHEDULE_NOT_FOUND = auto()
    SCHEDULE_EXISTS = auto()
    SCHEDULE_CHANGED = auto()

    SUBSCRIPTION_NOT_FOUND = auto()
    SUBSCRIPTION_EXISTS = auto()
    SUBSCRIPTION_PAUSED = auto()

    QUEUE_NOT_FOUND = auto()
    WORKER_NOT_FOUND = auto()
    GRAPH_TOO_NEW = auto()

    MODEL_NOT_READY = auto()
    MODEL_LOAD_FAILED = auto()
    PROMPT_TOO_LONG = auto()

    NAME_TAKEN = auto()
    POINT_CHANGED = auto()
    COLLECTION_CHANGED = auto()
    SNAPSHOT_INVALID = auto()
    INDEX_BUILD_NOT_FOUND = auto()
    INDEX_TOO_LARGE = auto()
    NOT_OF_MEMORIES = auto()
    SNAPSHOT_CUT_OFF = auto()
    STORAGE_EXHAUSTED = auto()
    COLLECTION_BUSY = auto()

    DECISION_NOT_FOUND = auto()
    PREDICTOR_NOT_FOUND = auto()

    MODELS_EXHAUSTED = auto()
    BREAKER_NOT_FOUND = auto()
    ANSWER_OFF_SCHEMA = auto()
    BUDGET_EXHAUSTED = auto()
    BUDGET_NOT_FOUND = auto()
    BUDGET_EXISTS = auto()
    BUDGET_CHANGED = auto()

    KEY_MISSING = auto()
    KEY_INVALID = auto()
    KEY_EXPIRED = auto()
    KEY_REVOKED = auto()
    SCOPE_MISSING = auto()
    KEY_NOT_FOUND = auto()
    KEYS_OFF = auto()


@dataclass(frozen=True, slots=True)
class FieldFault:
    """What is wrong with one field of a request.

    Attributes:
        field: The field's path as in the proto, e.g. `graph.steps[2].name`.
        description: What the field must be; a full sentence is not needed.
    """

    field: str
    description: str


class StepwireError(Exception):
    """An error with a reason that a program can act on.

    Attributes:
        reason: Why, from the one list.
        message: For people. Must not hold secrets or another tenant's data: it is
            sent to the caller as it is.
        metadata: Every variable part of the message, by the names which the
            reason's comment in the proto lists.
        faults: The faulty fields, for the reasons that speak of the request.
        retry_after: How long to wait before trying again; None where waiting does
            not help or the time is not known.
    """

    def __init__(
        self,
        reason: Reason,
        message: str,
        *,
        metadata: Mapping[str, str] | None = None,
        faults: Sequence[FieldFault] = (),
        retry_after: timedelta | None = None,
    ) -> None:
        # Both positional arguments go to Exception, so that the error can be
        # pickled and copied: they are what rebuilds it, and the rest is its dict.
        super().__init__(reason, message)
        self.reason = reason
        self.message = message
        self.metadata: dict[str, str] = dict(metadata or {})
        self.faults: tuple[FieldFault, ...] = tuple(faults)
        self.retry_after = retry_after

    def __str__(self) -> str:
        return self.message


def field_invalid(field: str, description: str) -> StepwireError:
    """Returns a FIELD_INVALID error that names one field."""
    return StepwireError(
        Reason.FIELD_INVALID,
        f"{field}: {description}",
        metadata={"field": field},
        faults=[FieldFault(field, description)],
    )


def payload_too_large(field: str, *, size_bytes: int, limit_bytes: int) -> StepwireError:
    """Returns a PAYLOAD_TOO_LARGE error that names the field, its size and the limit."""
    return StepwireError(
        Reason.PAYLOAD_TOO_LARGE,
        f"{field}: {size_bytes} bytes are more than the limit of {limit_bytes}",
        metadata={
            "field": field,
            "size_bytes": str(size_bytes),
            "limit_bytes": str(limit_bytes),
        },
    )


def service_stopping() -> StepwireError:
    """Returns the DEPENDENCY_UNAVAILABLE error for what a service that stops does not take on."""
    return StepwireError(
        Reason.DEPENDENCY_UNAVAILABLE,
        "the service is stopping",
        metadata={"dependency": "service"},
    )
