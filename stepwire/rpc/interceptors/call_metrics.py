"""How many calls there are, how long they take and how they end."""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from opentelemetry.metrics import CallbackOptions, Observation

from stepwire.rpc.interceptors.chain import Call, outcome
from stepwire.rpc.interceptors.tracing import SERVER_FAULTS
from stepwire.telemetry import durations, meter, names


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

    @contextmanager
    def __call__(self, call: Call) -> Iterator[None]:
        """Counts the call as active within the block, and records its end."""
        if call.method.infrastructure:
            yield
            return
        streams = call.method.streams_responses
        self._active[streams] += 1
        started = time.perf_counter()
        error: BaseException | None = None
        try:
            yield
        except BaseException as raised:
            error = raised
            raise
        finally:
            self._active[streams] -= 1
            code = outcome(call, error)
            self._duration.record(
                time.perf_counter() - started,
                call.method.system,
                call.method.name,
                code.name,
                code.name if code in SERVER_FAULTS else "",
            )

    def _observe_active(self, _options: CallbackOptions) -> Iterable[Observation]:
        for streams, number in self._active.items():
            yield Observation(number, {names.RPC_STREAMS_RESPONSES: streams})
