"""The order of the concerns around every call, from the outside in."""

from collections.abc import Sequence

from stepwire.rpc.interceptors.access_log import access_log
from stepwire.rpc.interceptors.admission import Admission
from stepwire.rpc.interceptors.call_metrics import CallMetrics
from stepwire.rpc.interceptors.chain import Around
from stepwire.rpc.interceptors.deadline import Deadline
from stepwire.rpc.interceptors.error_mapping import error_mapping
from stepwire.rpc.interceptors.identity import identity
from stepwire.rpc.interceptors.tracing import Tracing
from stepwire.settings import ServiceSettings


def arounds(settings: ServiceSettings) -> Sequence[Around]:
    """Returns the concerns of one server, outermost first."""
    return (
        # First, since every other one names the call by its ids.
        identity,
        # Before logs, so that log lines carry the trace.
        Tracing(),
        # Outside of everything that may refuse a call, so that refusals are seen.
        access_log,
        CallMetrics(),
        # Before the deadline's timer: a refused call should cost next to nothing.
        Admission(max_calls=settings.max_concurrent_calls, max_streams=settings.max_streams),
        # Outside of the error mapping, which lets the timer's cancellation pass.
        Deadline(
            default_seconds=settings.default_deadline_seconds,
            max_seconds=settings.max_deadline_seconds,
        ),
        # Last, so that all others see one kind of failure.
        error_mapping,
    )
