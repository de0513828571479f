"""What a client raises when a call fails."""

from collections.abc import Iterator
from contextlib import contextmanager

import grpc
import grpc.aio

from stepwire.errors import Reason, StepwireError
from stepwire.rpc.status import from_rpc_error

# Statuses that gRPC and the gateway make themselves, without an ErrorInfo.
_REASONS = {
    grpc.StatusCode.UNAVAILABLE: Reason.DEPENDENCY_UNAVAILABLE,
    # Of a call that has come while its server was stopping. What the caller cancels itself
    # gives no status.
    grpc.StatusCode.CANCELLED: Reason.DEPENDENCY_UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED: Reason.DEADLINE_EXCEEDED,
    grpc.StatusCode.RESOURCE_EXHAUSTED: Reason.OVERLOADED,
}


@contextmanager
def raising_ours(target: str) -> Iterator[None]:
    """Turns what gRPC raises in the block into a `StepwireError`.

    A status without a reason of ours, as when nothing listens at `target`, becomes the
    reason that says the same, or INTERNAL with the status in the message.
    """
    try:
        yield
    except grpc.aio.AioRpcError as error:
        raise from_rpc_error(error) or _ours(error, target) from error


def _ours(error: grpc.aio.AioRpcError, target: str) -> StepwireError:
    code = error.code()
    reason = _REASONS.get(code, Reason.INTERNAL)
    return StepwireError(
        reason,
        _told(error.details() or "", code.name, target),
        metadata={"dependency": target, "status": code.name},
    )


def _told(details: str, code: str, target: str) -> str:
    # What gRPC says of a connection that it did not get begins with these words, and goes on
    # with its own inside.
    if not details.startswith("connections to all backends failing"):
        return f"{target} answered {code}: {details}"
    if "CERTIFICATE_VERIFY_FAILED" in details:
        return (
            f"nothing that is trusted answers at {target}: STEPWIRE_CA_FILE names the authorities"
            " that are"
        )
    if "handshake failed" in details:
        return f"nothing answers at {target} by TLS; in the clear, it is named without https://"
    return f"nothing answers at {target}"
