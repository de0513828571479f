"""Steps that wait for longer than they may take: what can never end well is refused. Pure.

Only what a graph says outright is seen here; what expressions give is ended in time when the
step runs.
"""

from collections.abc import Iterator, Sequence
from datetime import timedelta

from executor_svc.graphs.graph import Graph, Step
from stepwire.errors import field_invalid


def check_waits(steps: Sequence[Step], *, timeout: timedelta | None, field: str) -> None:
    """Refuse waits that schedule_to_close, or a task's `timeout`, would always cut off.

    Raises:
        StepwireError: FIELD_INVALID, naming the field of the wait.
    """
    for step in steps:
        at = f"{field}.steps[{step.ordinal}].{step.kind}"
        for name, wait in _waits(step):
            if step.lifetime is not None and wait >= step.lifetime:
                raise field_invalid(
                    f"{at}.{name}",
                    f"{_seconds(wait)} must be less than the step's schedule_to_close,"
                    f" {_seconds(step.lifetime)}",
                )
    sleep = _longest_sleep(steps)
    if timeout is not None and sleep is not None and sleep[1] >= timeout:
        raise field_invalid(
            f"{field}.steps[{sleep[0].ordinal}].sleep.duration",
            f"{_seconds(sleep[1])} must be less than the graph's timeout, {_seconds(timeout)}",
        )


def check_timeout(timeout: timedelta | None, graph: Graph, *, field: str) -> None:
    """Refuse a task's timeout that is over before a step of its graph has slept.

    Raises:
        StepwireError: FIELD_INVALID, naming `field`.
    """
    sleep = _longest_sleep(graph.steps)
    if timeout is not None and sleep is not None and sleep[1] >= timeout:
        raise field_invalid(
            field,
            f"{_seconds(timeout)} must be more than step {sleep[0].name!r} sleeps:"
            f" {_seconds(sleep[1])}",
        )


def _waits(step: Step) -> Iterator[tuple[str, timedelta]]:
    """Yield the spans for which a step says that it waits, with their fields."""
    if step.kind == "sleep" and step.spec.HasField("duration"):
        yield "duration", step.spec.duration.ToTimedelta()
    elif step.kind == "wait_signal" and step.spec.HasField("timeout"):
        yield "timeout", step.spec.timeout.ToTimedelta()


def _longest_sleep(steps: Sequence[Step]) -> tuple[Step, timedelta] | None:
    sleeps = [(step, wait) for step in steps for name, wait in _waits(step) if name == "duration"]
    return max(sleeps, key=lambda sleep: sleep[1], default=None)


def _seconds(span: timedelta) -> str:
    return f"{span.total_seconds():g} s"
