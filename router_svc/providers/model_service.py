"""What failures of model_svc mean to the router."""

import grpc.aio

from router_svc.generate.failures import FailureKind, ProviderFailure
from stepwire.errors import Reason
from stepwire.rpc.status import from_rpc_error

_KINDS = {
    # The router has checked the request: what is refused now is this model's own limit.
    grpc.StatusCode.INVALID_ARGUMENT: FailureKind.UNFIT,
    grpc.StatusCode.NOT_FOUND: FailureKind.MISCONFIGURED,
    grpc.StatusCode.UNIMPLEMENTED: FailureKind.MISCONFIGURED,
    # The model is not loaded.
    grpc.StatusCode.FAILED_PRECONDITION: FailureKind.MISCONFIGURED,
    grpc.StatusCode.UNAUTHENTICATED: FailureKind.MISCONFIGURED,
    grpc.StatusCode.PERMISSION_DENIED: FailureKind.MISCONFIGURED,
    grpc.StatusCode.UNAVAILABLE: FailureKind.NETWORK,
    grpc.StatusCode.DEADLINE_EXCEEDED: FailureKind.TIMEOUT,
}


def failure_of(error: grpc.aio.AioRpcError) -> ProviderFailure:
    """Returns the failure that a failed call of model_svc is."""
    ours = from_rpc_error(error)
    code = error.code()
    kind = _KINDS.get(code, FailureKind.SERVER)
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED and ours is None:
        # gRPC's own word for a message that is larger than the server takes; a
        # server of ours that is busy says OVERLOADED.
        kind = FailureKind.UNFIT
    if ours is not None and ours.reason is Reason.PROMPT_TOO_LONG:
        kind = FailureKind.CONTEXT_TOO_LONG
    said = ours.message if ours else error.details()
    return ProviderFailure(
        kind,
        f"model_svc answered {code.name}: {said}",
        status=code.name,
        retry_after=ours.retry_after if ours else None,
    )
