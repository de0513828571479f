"""Reads how long an HTTP provider asks to be left alone."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime


def read_retry_after(headers: Mapping[str, str], *, now: datetime) -> timedelta | None:
    """Returns the wait that `headers` ask for; None when they ask for none.

    Understands `retry-after-ms`, and `retry-after` in seconds or as a date. What
    cannot be read, or lies in the past, is taken as no wait asked for.

    Args:
        headers: The response's headers; looked up as given, in lower case.
        now: The current time, with a time zone.
    """
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return _positive(milliseconds / 1000)
    value = headers.get("retry-after")
    seconds = _number(value)
    if seconds is not None:
        return _positive(seconds)
    if value is None:
        return None
    try:
        moment = parsedate_to_datetime(value)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return _positive((moment - now).total_seconds())
    except (ValueError, OverflowError):
        return None


def _number(value: str | None) -> float | None:
    try:
        return None if value is None else float(value)
    except ValueError:
        return None


def _positive(seconds: float) -> timedelta | None:
    # A day bounds what timedelta must hold ("inf" is a number too); nan fails both.
    return timedelta(seconds=min(seconds, 86_400)) if seconds > 0 else None
