"""What this worker cannot run, another one may: the one with newer code. Pure."""

from datetime import UTC, datetime, timedelta

import orjson

from executor_svc.outcomes import Failed, Outcome, Waits
from executor_svc.records import Attempt, Failure
from stepwire.errors import Reason

SHORTEST_PAUSE_SECONDS = 1.0


def decline(attempt: Attempt, error: Exception, wait_seconds: float) -> Outcome:
    """Send a step on, to a worker that knows how to run it; give up after `wait_seconds`."""
    now = datetime.now(UTC).timestamp()
    since = now if attempt.inbox is None else orjson.loads(attempt.inbox)["declined_at"]
    if now - since < wait_seconds:
        # Each wait lengthens the next: what is missing for long will be missing for longer.
        pause = timedelta(seconds=max(SHORTEST_PAUSE_SECONDS, (now - since) / 4))
        return Waits("worker", wait=pause, keep=orjson.dumps({"declined_at": since}))
    message = f"no worker could run the step for {wait_seconds:g} s: {error}"
    name = getattr(error, "name", "")
    return Failed(
        Failure(Reason.FUNCTION_NOT_FOUND, message, {"function": name} if name else {}),
        retryable=False,
    )
