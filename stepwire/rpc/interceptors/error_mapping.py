"""Turns whatever a handler raises into the status that the caller gets."""

import logging

import grpc
import grpc.aio

from stepwire.errors import Reason, StepwireError
from stepwire.rpc.interceptors.chain import Call, CallFailed, CallUnimplemented, Leave
from stepwire.rpc.status import from_rpc_error

_logger = logging.getLogger(__name__)

# What gRPC says of a service that is not there, and of one that stopped meanwhile and
# cancelled the calls that outlasted its grace.
_GONE = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED})


def error_mapping(_call: Call) -> Leave:
    """Makes every failure but a cancellation or an abort a `CallFailed`.

    A method that is not there is `CallUnimplemented`.

    An expected error keeps its reason. A failed call to another service keeps that
    service's reason and code. Anything else is INTERNAL, with a text that tells the
    caller nothing but the request id, and the whole error in the log.
    """
    return _map


def _map(call: Call, error: BaseException | None) -> CallFailed | CallUnimplemented | None:
    if not isinstance(error, Exception) or isinstance(error, CallFailed | grpc.aio.AbortError):
        return None
    if isinstance(error, StepwireError):
        return CallFailed(error)
    if isinstance(error, grpc.aio.AioRpcError):
        return _from_downstream(call, error)
    unimplemented = call.context.code() is grpc.StatusCode.UNIMPLEMENTED
    if unimplemented and isinstance(error, NotImplementedError):
        # A method of the proto that the servicer leaves to its generated base.
        return CallUnimplemented()
    return _unexpected(call, error)


def _from_downstream(call: Call, error: grpc.aio.AioRpcError) -> CallFailed:
    ours = from_rpc_error(error)
    if ours is not None:
        return CallFailed(ours, error.code())
    if error.code() in _GONE:
        # gRPC's own text names addresses: for the log, not for the caller.
        _logger.warning("a service does not answer", extra={"error": error.details()})
        return CallFailed(
            StepwireError(
                Reason.DEPENDENCY_UNAVAILABLE,
                "a service that this one needs does not answer",
                metadata={"dependency": "grpc"},
            )
        )
    if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
        return CallFailed(
            StepwireError(
                Reason.DEADLINE_EXCEEDED, "a service that this one needs did not answer in time"
            )
        )
    return _unexpected(call, error)


def _unexpected(call: Call, error: Exception) -> CallFailed:
    _logger.error("a call failed unexpectedly", extra={"method": call.method.name}, exc_info=error)
    return CallFailed(
        StepwireError(
            Reason.INTERNAL,
            f"an unexpected error; the server's log has it under request {call.info.request_id}",
            metadata={"request_id": call.info.request_id},
        )
    )
