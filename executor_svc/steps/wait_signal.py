"""Steps that wait for a signal from outside."""

from datetime import timedelta
from typing import Any

import orjson

from executor_svc.engine.outcomes import Waits
from executor_svc.steps.kind import StepCall, StepError
from stepwire.payload import value_to_json

DEFAULT_TIMEOUT = timedelta(days=30)


class WaitSignalKind:
    """See `WaitSignalStep` in graph.proto."""

    async def run(self, call: StepCall) -> Any:
        if not call.came:
            timeout = call.spec.timeout.ToTimedelta() or DEFAULT_TIMEOUT
            return Waits(f"signal:{call.spec.name}", wait=timeout)
        if call.attempt.inbox is not None:
            return orjson.loads(call.attempt.inbox)
        if call.spec.HasField("default"):
            return value_to_json(call.spec.default)
        raise StepError(
            f"no signal {call.spec.name!r} came in time",
            reason="SIGNAL_TIMED_OUT",
            metadata={"signal": call.spec.name},
        )
