"""Errors to gRPC statuses and back: the one table, used by server and client.

A status carries exactly one `google.rpc.ErrorInfo`, plus `BadRequest` for faulty
fields and `RetryInfo` where waiting helps.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, TypeVar

import grpc.aio
from google.protobuf import any_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from stepwire.errors import FieldFault, Reason, StepwireError

DOMAIN: Final = "stepwire"
DETAILS_KEY: Final = "grpc-status-details-bin"

CODES: Final[Mapping[Reason, grpc.StatusCode]] = {
    Reason.FIELD_INVALID: grpc.StatusCode.INVALID_ARGUMENT,
    Reason.PAYLOAD_TOO_LARGE: grpc.StatusCode.INVALID_ARGUMENT,
    Reason.GRAPH_CYCLE: grpc.StatusCode.INVALID_ARGUMENT,
    Reason.DEPENDENCY_MISSING: grpc.StatusCode.INVALID_ARGUMENT,
    Reason.EXPRESSION_INVALID: grpc.StatusCode.INVALID_ARGUMENT,
    Reason.STEP_KIND_UNKNOWN: grpc.StatusCode.INVALID_ARGUMENT,
    Reason.TASK_NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    Reason.TASK_STATE_CONFLICT: grpc.StatusCode.FAILED_PRECONDITION,
    Reason.REQUEST_ID_REUSED: grpc.StatusCode.ALREADY_EXISTS,
    Reason.PAGE_TOKEN_INVALID: grpc.StatusCode.INVALID_ARGUMENT,
    Reason.MODEL_NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    Reason.MODEL_INPUT_INVALID: grpc.StatusCode.INVALID_ARGUMENT,
    Reason.NO_ELIGIBLE_MODEL: grpc.StatusCode.FAILED_PRECONDITION,
    Reason.PROVIDER_UNAVAILABLE: grpc.StatusCode.UNAVAILABLE,
    Reason.PROVIDER_REJECTED: grpc.StatusCode.FAILED_PRECONDITION,
    Reason.COLLECTION_NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    Reason.COLLECTION_EXISTS: grpc.StatusCode.ALREADY_EXISTS,
    Reason.VECTOR_DIMENSION_MISMATCH: grpc.StatusCode.INVALID_ARGUMENT,
    Reason.DEADLINE_EXCEEDED: grpc.StatusCode.DEADLINE_EXCEEDED,
    Reason.OVERLOADED: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Reason.DEPENDENCY_UNAVAILABLE: grpc.StatusCode.UNAVAILABLE,
    Reason.INTERNAL: grpc.StatusCode.INTERNAL,
    # Reasons of steps: they live in Failure.reason. Should one end a call, the call
    # is refused because of what the step is, and the same call would fail again.
    Reason.STEP_FAILED: grpc.StatusCode.FAILED_PRECONDITION,
    Reason.STEP_TIMED_OUT: grpc.StatusCode.FAILED_PRECONDITION,
    Reason.STEP_WORKER_LOST: grpc.StatusCode.FAILED_PRECONDITION,
    Reason.FUNCTION_NOT_FOUND: grpc.StatusCode.FAILED_PRECONDITION,
    Reason.OUTPUT_TOO_LARGE: grpc.StatusCode.FAILED_PRECONDITION,
    Reason.STEP_HEARTBEAT_MISSED: grpc.StatusCode.FAILED_PRECONDITION,
    Reason.SIGNAL_TIMED_OUT: grpc.StatusCode.FAILED_PRECONDITION,
    Reason.JOIN_UNSATISFIED: grpc.StatusCode.FAILED_PRECONDITION,
    Reason.TASK_TIMED_OUT: grpc.StatusCode.FAILED_PRECONDITION,
    Reason.SUBTASK_FAILED: grpc.StatusCode.FAILED_PRECONDITION,
    Reason.NESTED_TOO_DEEP: grpc.StatusCode.FAILED_PRECONDITION,
    Reason.SIGNAL_UNKNOWN: grpc.StatusCode.FAILED_PRECONDITION,
    Reason.WORKFLOW_NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    Reason.WORKFLOW_VERSION_EXISTS: grpc.StatusCode.ALREADY_EXISTS,
    Reason.WORKFLOW_VERSION_IN_USE: grpc.StatusCode.FAILED_PRECONDITION,
    Reason.WORKFLOW_VERSION_DEPRECATED: grpc.StatusCode.FAILED_PRECONDITION,
    Reason.SCHEDULE_NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    Reason.SCHEDULE_EXISTS: grpc.StatusCode.ALREADY_EXISTS,
    Reason.SCHEDULE_CHANGED: grpc.StatusCode.ABORTED,
    Reason.SUBSCRIPTION_NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    Reason.SUBSCRIPTION_EXISTS: grpc.StatusCode.ALREADY_EXISTS,
    Reason.SUBSCRIPTION_PAUSED: grpc.StatusCode.FAILED_PRECONDITION,
    Reason.QUEUE_NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    Reason.WORKER_NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    Reason.GRAPH_TOO_NEW: grpc.StatusCode.UNAVAILABLE,
    Reason.MODEL_NOT_READY: grpc.StatusCode.FAILED_PRECONDITION,
    Reason.MODEL_LOAD_FAILED: grpc.StatusCode.FAILED_PRECONDITION,
    Reason.PROMPT_TOO_LONG: grpc.StatusCode.INVALID_ARGUMENT,
    Reason.NAME_TAKEN: grpc.StatusCode.ALREADY_EXISTS,
    Reason.POINT_CHANGED: grpc.StatusCode.ABORTED,
    Reason.COLLECTION_CHANGED: grpc.StatusCode.ABORTED,
    Reason.SNAPSHOT_INVALID: grpc.StatusCode.INVALID_ARGUMENT,
    Reason.INDEX_BUILD_NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    Reason.INDEX_TOO_LARGE: grpc.StatusCode.FAILED_PRECONDITION,
    Reason.NOT_OF_MEMORIES: grpc.StatusCode.FAILED_PRECONDITION,
    Reason.SNAPSHOT_CUT_OFF: grpc.StatusCode.DEADLINE_EXCEEDED,
    Reason.STORAGE_EXHAUSTED: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Reason.COLLECTION_BUSY: grpc.StatusCode.FAILED_PRECONDITION,
    Reason.DECISION_NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    Reason.PREDICTOR_NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    Reason.MODELS_EXHAUSTED: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Reason.BREAKER_NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    Reason.ANSWER_OFF_SCHEMA: grpc.StatusCode.FAILED_PRECONDITION,
    Reason.BUDGET_EXHAUSTED: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Reason.BUDGET_NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    Reason.BUDGET_EXISTS: grpc.StatusCode.ALREADY_EXISTS,
    Reason.BUDGET_CHANGED: grpc.StatusCode.ABORTED,
    Reason.KEY_MISSING: grpc.StatusCode.UNAUTHENTICATED,
    Reason.KEY_INVALID: grpc.StatusCode.UNAUTHENTICATED,
    Reason.KEY_EXPIRED: grpc.StatusCode.UNAUTHENTICATED,
    Reason.KEY_REVOKED: grpc.StatusCode.UNAUTHENTICATED,
    Reason.SCOPE_MISSING: grpc.StatusCode.PERMISSION_DENIED,
    Reason.KEY_NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    Reason.KEYS_OFF: grpc.StatusCode.FAILED_PRECONDITION,
}

_Detail = TypeVar("_Detail", bound=Message)

_BY_NUMBER: Final = {code.value[0]: code for code in grpc.StatusCode}

# A status travels in HTTP/2 trailers, which peers limit to 8 KiB in all; the message
# goes twice, once of it percent-encoded, the rest in base 64. What does not fit is
# cut, never the reason.
_MESSAGE_BYTES: Final = 600
_VALUE_BYTES: Final = 500
_DETAILS_BYTES: Final = 2500


@dataclass(frozen=True, slots=True)
class ErrorStatus(grpc.Status):
    """A status for `context.abort_with_status`."""

    code: grpc.StatusCode
    details: str
    trailing_metadata: tuple[tuple[str, str | bytes], ...]


def code_of(error: StepwireError) -> grpc.StatusCode:
    """Returns the gRPC code for an error."""
    return CODES[error.reason]


def to_proto(
    error: StepwireError, request_id: str = "", *, code: grpc.StatusCode | None = None
) -> status_pb2.Status:
    """Returns an error as `google.rpc.Status`.

    Args:
        error: What to tell.
        request_id: The call's; an INTERNAL error carries it, so that the caller can
            quote what the log line is found by.
        code: The code if it is not the one of the table, for an error passed on from
            another service; None for the table's.
    """
    if error.reason is Reason.INTERNAL and request_id:
        error.metadata.setdefault("request_id", request_id)
    budget = _Budget(_DETAILS_BYTES)
    info = error_details_pb2.ErrorInfo(
        reason=error.reason.value, domain=DOMAIN, metadata=dict(budget.fit(error.metadata.items()))
    )
    details = [info]
    if error.faults:
        faults = budget.fit((fault.field, fault.description) for fault in error.faults)
        details.append(
            error_details_pb2.BadRequest(
                field_violations=[
                    error_details_pb2.BadRequest.FieldViolation(field=field, description=text)
                    for field, text in faults
                ]
            )
        )
    if error.retry_after is not None:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromTimedelta(error.retry_after)
        details.append(retry)
    status = status_pb2.Status(
        code=(code or code_of(error)).value[0], message=_cut(error.message, _MESSAGE_BYTES)
    )
    for detail in details:
        status.details.add().Pack(detail)
    return status


def to_status(
    error: StepwireError, request_id: str, *, code: grpc.StatusCode | None = None
) -> ErrorStatus:
    """Returns an error as a status for `context.abort_with_status`.

    Args:
        error: What to tell.
        request_id: As for `to_proto`.
        code: As for `to_proto`.
    """
    status = to_proto(error, request_id, code=code)
    return ErrorStatus(
        code=_BY_NUMBER[status.code],
        details=status.message,
        trailing_metadata=((DETAILS_KEY, status.SerializeToString()),),
    )


def from_proto(status: status_pb2.Status) -> StepwireError | None:
    """Returns the error that a `google.rpc.Status` of ours tells; None if it is not ours."""
    reason: Reason | None = None
    metadata: dict[str, str] = {}
    faults: list[FieldFault] = []
    retry_after: timedelta | None = None
    for detail in status.details:
        if (info := _unpack(detail, error_details_pb2.ErrorInfo())) is not None:
            if info.domain != DOMAIN or info.reason not in Reason.__members__:
                return None
            reason, metadata = Reason[info.reason], dict(info.metadata)
        elif (request := _unpack(detail, error_details_pb2.BadRequest())) is not None:
            faults = [FieldFault(v.field, v.description) for v in request.field_violations]
        elif (retry := _unpack(detail, error_details_pb2.RetryInfo())) is not None:
            retry_after = retry.retry_delay.ToTimedelta()
    if reason is None:
        return None
    return StepwireError(
        reason, status.message, metadata=metadata, faults=faults, retry_after=retry_after
    )


def from_rpc_error(error: grpc.aio.AioRpcError) -> StepwireError | None:
    """Returns the error which a service of ours answered with.

    None for a status that carries no reason of ours: one that gRPC made itself, as
    UNAVAILABLE for a server that is not there, or another system's.
    """
    for key, value in error.trailing_metadata() or ():
        if key == DETAILS_KEY and isinstance(value, bytes):
            return from_proto(status_pb2.Status.FromString(value))
    return None


class _Budget:
    """Cuts pairs of texts so that all of them together fit."""

    def __init__(self, size_bytes: int) -> None:
        self._left = size_bytes

    def fit(self, pairs: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
        """Returns the pairs from the first on, cut, as far as the budget goes."""
        fitted = []
        for name, value in pairs:
            room = min(_VALUE_BYTES, self._left - len(name.encode()))
            if room <= 0:
                break
            cut = _cut(value, room)
            fitted.append((name, cut))
            self._left -= len(name.encode()) + len(cut.encode())
        return fitted


def _cut(text: str, size_bytes: int) -> str:
    # Cut in the middle of a character, the rest of it goes too.
    return text.encode()[:size_bytes].decode(errors="ignore")


def _unpack(detail: any_pb2.Any, into: _Detail) -> _Detail | None:
    return into if detail.Unpack(into) else None
