"""Spans of time in requests. Pure."""

from datetime import timedelta

from google.protobuf.duration_pb2 import Duration

from stepwire.errors import field_invalid

# Longest wait that a step, a task or a schedule can ask for.
LONGEST_WAIT = timedelta(days=400)


def span_of(duration: Duration, *, field: str) -> timedelta:
    """Read a span of time; unset is zero.

    Raises:
        StepwireError: FIELD_INVALID, naming `field`, for one that is not a valid Duration.
    """
    try:
        return duration.ToTimedelta()
    except (ValueError, OverflowError):
        raise field_invalid(field, "is not a valid span of time") from None
