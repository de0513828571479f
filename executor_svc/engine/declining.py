"""What this worker cannot run, another one may: the one with newer code. Pure."""

from datetime import UTC, datetime, timedelta

import orjson

from executor_svc.engine.outcomes import Failed, Outcome, Waits
from executor_svc.engine.records import Attempt, Failure
from executor_svc.graphs.cache import NewerGraphError
from executor_svc.steps.python import FunctionMissingError
from stepwire.errors import Reason

SHORTEST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 60.0
# Nothing can be kept of how long such a step has waited: its inbox may hold what came for it.
GRAPH_PAUSE = timedelta(seconds=5)


def decline_graph() -> Waits:
    """Send a step on whose graph this code does not know, however often it takes.

    Only who understands the graph could tell what its failure would mean.
    """
    return Waits("worker", wait=GRAPH_PAUSE)


def decline(
    attempt: Attempt, error: FunctionMissingError | NewerGraphError, wait_seconds: float
) -> Outcome:
    """Send a step on, as `error` asks for."""
    if isinstance(error, NewerGraphError):
        return decline_graph()
    return _decline_function(attempt, error, wait_seconds)


def _decline_function(
    attempt: Attempt, error: FunctionMissingError, wait_seconds: float
) -> Outcome:
    """Send a step on, to a worker that knows its function; give up after `wait_seconds`."""
    now = datetime.now(UTC).timestamp()
    since = _declined_at(attempt) or now
    if now - since < wait_seconds:
        # Each wait lengthens the next: what is missing for long will be missing for longer.
        seconds = max(SHORTEST_PAUSE_SECONDS, (now - since) / 4)
        return Waits(
            "worker",
            wait=timedelta(seconds=min(seconds, LONGEST_PAUSE_SECONDS)),
            keep=orjson.dumps({"attempt": attempt.attempt, "declined_at": since}),
        )
    return Failed(
        Failure(
            Reason.FUNCTION_NOT_FOUND,
            f"no worker could run the step for {wait_seconds:g} s: {error}",
            {"function": error.name},
        ),
        retryable=False,
    )


def _declined_at(attempt: Attempt) -> float | None:
    """Since when workers have declined this attempt; those before it had their own time."""
    kept = orjson.loads(attempt.inbox or b"null")
    if isinstance(kept, dict) and kept.get("attempt") == attempt.attempt:
        return kept.get("declined_at")
    return None
