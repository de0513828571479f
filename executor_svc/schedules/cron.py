"""When a cron expression fires, in a time zone with all its clock changes. Pure.

The calendar is `cronsim`'s, asked on a clock face without time zone; what a clock change
means is decided here, as Debian's cron does:

* An expression whose minute or hour begins with `*` fires whenever the clock reads a
  matching time: not at times that the clock skips, and twice at those it reads twice.
* Every other expression fires once for each of its times: where the clock skips that time,
  at the moment of the change; where the clock reads it twice, at the first.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import pairwise
from zoneinfo import ZoneInfo, available_timezones

from cronsim import CronSim, CronSimError

from stepwire.errors import field_invalid

MAX_CHARACTERS = 128
REMEMBERED = 10_000
NICKNAMES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
# By the names that cronsim gives the fields.
LIMITS = {
    "second": "0 to 59",
    "minute": "0 to 59",
    "hour": "0 to 23",
    "day-of-month": "1 to 31 (a day that one of the months has), L for the last day, or LW for the"
    " last weekday",
    "month": "1 to 12, or JAN to DEC",
    "day-of-week": "0 to 7 (0 and 7 are Sunday), SUN to SAT, 5L for the last Friday, or 5#2 for"
    " the second",
}
FORMS = "as a number, *, a list a,b, a range a-b, or with a step /n"

_SECOND = timedelta(seconds=1)
_DAY = timedelta(days=1)
_FIELDS_WITH_SECONDS = 6
# Any time without a zone: an expression is checked without looking at the clock.
_SOME_TIME = datetime(2024, 1, 1)  # noqa: DTZ001 - a clock face


@dataclass(frozen=True, slots=True)
class Cron:
    """A cron expression in a time zone.

    Attributes:
        fields: The expression with five fields, or with six of which the first is the
            second.
        zone: Where the clock hangs.
    """

    fields: str
    zone: ZoneInfo

    def after(self, moment: datetime) -> datetime | None:
        """Return the first firing strictly after a moment, in UTC.

        None when there is none within about 50 years.
        """
        # Firings are on whole seconds: those behind the fraction are those behind the second.
        moment = moment.astimezone(UTC).replace(microsecond=0)
        return self._once_each_after(moment) if self._is_fixed else self._as_read_after(moment)

    def each(self, *, after: datetime, until: datetime) -> Iterator[datetime]:
        """Yield the firings behind `after` up to and with `until`."""
        moment = self.after(after)
        while moment is not None and moment <= until:
            yield moment
            moment = self.after(moment)

    def newest(self, *, after: datetime, until: datetime, limit: int) -> Sequence[datetime]:
        """Return the last firings behind `after` up to and with `until`, at most `limit`.

        Looks back from `until` no further than need be, so that a long span costs no more
        than a short one.
        """
        back = self.shortest_interval * limit
        while True:
            start = max(after, until - back)
            found = deque(self.each(after=start, until=until), maxlen=limit)
            if len(found) == limit or start == after:
                return list(found)
            back *= 4

    @property
    def shortest_interval(self) -> timedelta:
        """Shortest time between two firings on the clock face, if every day matches."""
        face = CronSim(self.fields, _SOME_TIME)
        seconds, minutes, hours = sorted(face.seconds), sorted(face.minutes), sorted(face.hours)
        # Between the last second of one minute and the first of the next, and so on upwards.
        within_minute = seconds[-1] - seconds[0]
        within_hour = minutes[-1] * 60 - minutes[0] * 60 + within_minute
        within_day = hours[-1] * 3600 - hours[0] * 3600 + within_hour
        return timedelta(
            seconds=min(
                [
                    *_gaps(seconds),
                    *(gap * 60 - within_minute for gap in _gaps(minutes)),
                    *(gap * 3600 - within_hour for gap in _gaps(hours)),
                    86_400 - within_day,
                ]
            )
        )

    @property
    def _is_fixed(self) -> bool:
        minute, hour = self.fields.split()[-5:-3]
        return not minute.startswith("*") and not hour.startswith("*")

    def _once_each_after(self, moment: datetime) -> datetime | None:
        # Behind the clock's reading: a time read before has had its firing at its first
        # reading, and one that was skipped at the change.
        for reading in CronSim(self.fields, self._reading(moment)):
            firing = self._moment(reading)
            if firing > moment:
                return firing
        return None

    def _as_read_after(self, moment: datetime) -> datetime | None:
        # From one clock change to the next, the clock runs as any other does.
        while True:
            offset = self._offset(moment)
            reading = next(CronSim(self.fields, self._reading(moment)), None)
            if reading is None:
                return None
            firing = reading.replace(tzinfo=UTC) - offset
            change = self._change(moment, firing)
            if change is None:
                return firing
            # At the moment of the change the clock may read a matching time already.
            if self._matches(change):
                return change
            moment = change

    def _matches(self, moment: datetime) -> bool:
        reading = self._reading(moment)
        return next(CronSim(self.fields, reading - _SECOND), None) == reading

    def _offset(self, moment: datetime) -> timedelta:
        offset = moment.astimezone(self.zone).utcoffset()
        assert offset is not None
        return offset

    def _reading(self, moment: datetime) -> datetime:
        """What the clock shows at a moment."""
        return moment.astimezone(self.zone).replace(tzinfo=None)

    def _moment(self, reading: datetime) -> datetime:
        """When the clock first shows a time, or else passes over it."""
        moment = reading.replace(tzinfo=self.zone, fold=0).astimezone(UTC)
        if self._reading(moment) == reading:
            return moment
        # By the clock before the change the moment lies behind it, by the other before it.
        before = reading.replace(tzinfo=self.zone, fold=1).astimezone(UTC)
        return self._change(before, moment) or moment

    def _change(self, after: datetime, until: datetime) -> datetime | None:
        """Return the first moment in a span at which the clock is changed."""
        offset = self._offset(after)
        low = after
        while low < until:
            high = min(low + _DAY, until)
            if self._offset(high) != offset:
                return self._bisected(low, high, offset)
            low = high
        return None

    def _bisected(self, low: datetime, high: datetime, offset: timedelta) -> datetime:
        while high - low > _SECOND:
            middle = low + timedelta(seconds=(high - low) // _SECOND // 2)
            if self._offset(middle) == offset:
                low = middle
            else:
                high = middle
        return high


@lru_cache(REMEMBERED)
def parse_cron(expression: str, time_zone: str, *, field: str = "cron") -> Cron:
    """Read an expression and the name of a time zone.

    Args:
        expression: Five fields, six with the second in front, or a nickname such as
            `@hourly`.
        time_zone: Name in the IANA database, such as `Europe/Berlin`.
        field: Path of the expression; that of the time zone is its neighbour `time_zone`.

    Raises:
        StepwireError: FIELD_INVALID, naming the field, the part of the expression and what
            it may hold.
    """
    if time_zone not in _zones():
        raise field_invalid(
            f"{field.removesuffix('cron')}time_zone",
            f"{time_zone[:80]!r} is not the name of a time zone, such as Europe/Berlin",
        )
    if len(expression) > MAX_CHARACTERS:
        raise field_invalid(field, f"must have at most {MAX_CHARACTERS} characters")
    fields = NICKNAMES.get(expression.strip().lower(), expression)
    try:
        face = CronSim(fields, _SOME_TIME)
    except CronSimError as error:
        raise field_invalid(field, _fault(fields, str(error))) from None
    if next(face, None) is None:
        raise field_invalid(field, f"{expression!r} never fires: no year has such a day")
    return Cron(" ".join(fields.upper().split()), ZoneInfo(time_zone))


def _fault(fields: str, message: str) -> str:
    """Say which part of an expression is wrong, and what it may hold."""
    parts = fields.split()
    name = message.removeprefix("Bad ")
    if name not in LIMITS:
        return (
            f"{fields!r} must have 5 fields (minute, hour, day of month, month, day of week), 6"
            f" with the second in front, or be one of {', '.join(NICKNAMES)}"
        )
    names = list(LIMITS) if len(parts) == _FIELDS_WITH_SECONDS else list(LIMITS)[1:]
    return (
        f"{fields!r} has the {name} {parts[names.index(name)]!r}; it must be {LIMITS[name]},"
        f" {FORMS}"
    )


@lru_cache(1)
def _zones() -> frozenset[str]:
    return frozenset(available_timezones())


def _gaps(numbers: Sequence[int]) -> Iterator[int]:
    return (following - number for number, following in pairwise(numbers))
