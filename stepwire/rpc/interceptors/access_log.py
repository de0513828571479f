"""One log line per call that failed by the server's fault; at DEBUG, one for any call."""

import logging
import time

from stepwire.rpc.interceptors.chain import Call, CallFailed, Leave, outcome
from stepwire.rpc.interceptors.tracing import SERVER_FAULTS

_logger = logging.getLogger("stepwire.rpc.access")


def access_log(_call: Call) -> Leave:
    """Logs how the call ended and how long it took.

    At INFO if the server is at fault, else at DEBUG, as are health and reflection:
    good calls are counted by the metrics, and a line for each would cost more than
    many of them.
    """
    return _log


def _log(call: Call, error: BaseException | None) -> None:
    if error is None and not _logger.isEnabledFor(logging.DEBUG):
        return
    code = outcome(call, error)
    at_fault = code in SERVER_FAULTS and not call.method.infrastructure
    fields = {
        "method": call.method.name,
        "code": code.name,
        "duration_seconds": round(time.perf_counter() - call.started, 6),
        "peer": call.context.peer(),
    }
    if isinstance(error, CallFailed):
        fields["reason"] = error.error.reason.value
        fields["error"] = error.error.message
    _logger.log(logging.INFO if at_fault else logging.DEBUG, "call ended", extra=fields)
