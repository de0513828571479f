"""Task ids as points in time: a UUIDv7 begins with the time of its making. Pure.

A task's time of creation is that of its id, so that a span of time is a range of ids.
"""

from datetime import UTC, datetime, timedelta
from uuid import UUID

FIRST_ID = UUID(int=0)
LAST_ID = UUID(int=2**128 - 1)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_MICROSECONDS = 1000
# The 12 bits after the version hold the fraction of a millisecond.
_FRACTIONS = 4096
_MILLISECONDS_SHIFT, _FRACTION_SHIFT, _VERSION_BITS = 80, 64, 0x7 << 76
_LONGEST_MILLISECONDS = 2**48 - 1


def created_at(task_id: UUID) -> datetime:
    """Return the time at which an id was made, to the microsecond."""
    number = task_id.int
    fraction = (number >> _FRACTION_SHIFT) & (_FRACTIONS - 1)
    microseconds = (number >> _MILLISECONDS_SHIFT) * _MICROSECONDS
    return _EPOCH + timedelta(microseconds=microseconds + fraction * _MICROSECONDS // _FRACTIONS)


def first_id_at(moment: datetime) -> UUID:
    """Return the lowest id that can be made at a time or later."""
    microseconds = (moment - _EPOCH) // _MICROSECOND
    if microseconds < 0:
        return FIRST_ID
    milliseconds, rest = divmod(microseconds, _MICROSECONDS)
    if milliseconds > _LONGEST_MILLISECONDS:
        return LAST_ID
    fraction = -(-rest * _FRACTIONS // _MICROSECONDS)
    number = milliseconds << _MILLISECONDS_SHIFT | _VERSION_BITS | fraction << _FRACTION_SHIFT
    return UUID(int=number)


def next_id(task_id: UUID) -> UUID:
    """Return the id behind another one, in order."""
    return UUID(int=min(task_id.int + 1, LAST_ID.int))
