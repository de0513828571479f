"""How many calls there are, how long they take and how they end."""

import time
from collections.abc import Iterable
from typing import Final

from opentelemetry.metrics import CallbackOptions, Observation

from stepwire.rpc.interceptors.chain import Call, Leave, outcome
from stepwire.rpc.interceptors.tracing import SERVER_FAULTS
from stepwire.telemetry import current_trace_id, durations, meter, names

# Of quicker calls nobody asks for the trace, and to find it takes longer than to count them.
SLOW_SECONDS: Final = 0.1


class CallMetrics:
    """Records every call but those of health and reflection."""

    def __init__(self) -> None:
        self._active = {False: 0, True: 0}
        self._duration = durations(
            names.RPC_SERVER_DURATION,
            description="Duration of a call, by method and status code.",
            attributes=(
                names.RPC_SYSTEM,
                names.RPC_METHOD,
                names.RPC_STATUS_CODE,
                names.ERROR_TYPE,
            ),
            bounds=names.RPC_DURATION_BUCKETS,
        )
        # Observed when scraped, so that a call pays for two additions only.
        meter().create_observable_up_down_counter(
            names.RPC_SERVER_ACTIVE_CALLS,
            callbacks=[self._observe_active],
            unit="{call}",
            description="Calls under way, and whether they stream responses.",
        )

    def __call__(self, call: Call) -> Leave | None:
        """Counts the call as active until it ends, and records its end."""
        if call.method.infrastructure:
            return None
        self._active[call.method.streams_responses] += 1
        return self._record

    def _record(self, call: Call, error: BaseException | None) -> None:
        method = call.method
        self._active[method.streams_responses] -= 1
        code, seconds = outcome(call, error), time.perf_counter() - call.started
        fault = code.name if code in SERVER_FAULTS else ""
        self._duration.record(
            seconds,
            method.system,
            method.name,
            code.name,
            fault,
            trace_id=current_trace_id() if fault or seconds >= SLOW_SECONDS else "",
        )

    def _observe_active(self, _options: CallbackOptions) -> Iterable[Observation]:
        for streams, number in self._active.items():
            yield Observation(number, {names.RPC_STREAMS_RESPONSES: streams})
