"""Steps that wait for a time."""

from datetime import UTC, datetime, timedelta
from typing import Any

from executor_svc.engine.outcomes import Waits
from executor_svc.graphs.durations import LONGEST_WAIT
from executor_svc.steps.kind import StepCall, StepError


class SleepKind:
    """See `SleepStep` in graph.proto. Nothing is held while it waits: the record wakes it."""

    async def run(self, call: StepCall) -> Any:
        if call.came:
            return call.value
        if not call.template:
            return Waits("sleep", wait=call.spec.duration.ToTimedelta())
        return _wait_of(call.evaluate(call.template[0]))


def _wait_of(value: Any) -> Waits:
    """Read what `until` gave.

    Raises:
        StepError: FIELD_INVALID, if it is neither a span nor a time, or too far away.
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        if not 0 <= value <= LONGEST_WAIT.total_seconds():
            raise _invalid(f"{value} seconds are not from 0 to {LONGEST_WAIT.days} days")
        return Waits("sleep", wait=timedelta(seconds=value))
    if not isinstance(value, str):
        raise _invalid(f"must give seconds or an RFC 3339 text, not {type(value).__name__}")
    try:
        until = datetime.fromisoformat(value)
    except ValueError as error:
        raise _invalid(f"{value[:80]!r} is not an RFC 3339 text") from error
    if until.tzinfo is None:
        raise _invalid(f"{value[:80]!r} has no time zone")
    if until > datetime.now(UTC) + LONGEST_WAIT:
        raise _invalid(f"{value[:80]!r} is more than {LONGEST_WAIT.days} days away")
    return Waits("sleep", until=until)


def _invalid(what: str) -> StepError:
    return StepError(
        f"sleep.until: {what}", reason="FIELD_INVALID", metadata={"field": "sleep.until"}
    )
