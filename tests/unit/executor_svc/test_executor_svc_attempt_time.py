"""Whose time is over when a service says that the deadline has passed."""

import pytest

from executor_svc.engine.failures import ran_out, timed_out
from stepwire.errors import Reason, StepwireError


@pytest.mark.parametrize(
    ("reason", "seconds", "left", "is_the_attempts"),
    [
        (Reason.DEADLINE_EXCEEDED, 0.5, 0.1, True),
        (Reason.DEADLINE_EXCEEDED, 300, 12, True),
        (Reason.DEADLINE_EXCEEDED, 300, -1, True),
        # A limit of the service's own.
        (Reason.DEADLINE_EXCEEDED, 300, 200, False),
        (Reason.DEADLINE_EXCEEDED, 2, 0.5, False),
        (Reason.OVERLOADED, 300, 0, False),
    ],
)
def test_the_time_is_the_attempts_when_nearly_all_of_it_is_over(
    reason: Reason, seconds: float, left: float, *, is_the_attempts: bool
) -> None:
    assert ran_out(StepwireError(reason, "late"), seconds=seconds, left=left) is is_the_attempts


def test_what_the_service_told_is_kept() -> None:
    told = StepwireError(Reason.DEADLINE_EXCEEDED, "late\0", metadata={"tried.1": "small"})
    failure = timed_out(1.5, told=told).failure
    assert (failure.reason, failure.message) == (
        *(Reason.STEP_TIMED_OUT, "the attempt ran longer than 1.5 s: late"),
    )
    assert failure.metadata == {"tried.1": "small", "timeout_seconds": "1.5"}
