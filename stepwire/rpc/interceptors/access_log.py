"""One log line per call that failed by the server's fault; at DEBUG, one for any call."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

from stepwire.rpc.interceptors.chain import Call, CallFailed, outcome
from stepwire.rpc.interceptors.tracing import SERVER_FAULTS

_logger = logging.getLogger("stepwire.rpc.access")


@contextmanager
def access_log(call: Call) -> Iterator[None]:
    """Logs how the call ended and how long it took.

    At INFO if the server is at fault, else at DEBUG, as are health and reflection:
    good calls are counted by the metrics, and a line for each would cost more than
    many of them.
    """
    started = time.perf_counter()
    error: BaseException | None = None
    try:
        yield
    except BaseException as raised:
        error = raised
        raise
    finally:
        if error is not None or _logger.isEnabledFor(logging.DEBUG):
            _log(call, error, time.perf_counter() - started)


def _log(call: Call, error: BaseException | None, duration_seconds: float) -> None:
    code = outcome(call, error)
    at_fault = code in SERVER_FAULTS and not call.method.infrastructure
    fields = {
        "method": call.method.name,
        "code": code.name,
        "duration_seconds": round(duration_seconds, 6),
        "peer": call.context.peer(),
    }
    if isinstance(error, CallFailed):
        fields["reason"] = error.error.reason.value
        fields["error"] = error.error.message
    _logger.log(logging.INFO if at_fault else logging.DEBUG, "call ended", extra=fields)
