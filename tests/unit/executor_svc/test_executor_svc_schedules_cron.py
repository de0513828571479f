"""Cron expressions: when they fire, also where the clock is changed, and what is refused."""

import itertools
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim
from hypothesis import example, given, settings
from hypothesis import strategies as st

from executor_svc.schedules.cron import LIMITS, NICKNAMES, Cron, parse_cron
from stepwire.errors import Reason, StepwireError

MINUTE = timedelta(minutes=1)
# How long an example takes says nothing: the machine may be busy.
UNTIMED = settings(deadline=None)
# Clocks change by an hour, by half an hour, at midnight, and in the south.
ZONES = ("Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Beirut", "UTC")
# The days around the changes of 2025 in all of these zones, and some without.
DAYS = (
    datetime(2025, 3, 8, tzinfo=UTC),
    datetime(2025, 3, 29, tzinfo=UTC),
    datetime(2025, 4, 5, tzinfo=UTC),
    datetime(2025, 10, 4, tzinfo=UTC),
    datetime(2025, 10, 25, tzinfo=UTC),
    datetime(2025, 11, 1, tzinfo=UTC),
    datetime(2025, 12, 30, tzinfo=UTC),
)


def firings(expression: str, zone: str, start: str, count: int = 5) -> list[str]:
    """The first firings behind a local time, as the clock reads them."""
    cron, moment, found = parse_cron(expression, zone), at(start, zone), []
    for _ in range(count):
        moment = cron.after(moment)
        assert moment is not None
        found.append(moment.astimezone(ZoneInfo(zone)).strftime("%m-%d %H:%M:%S%z")[:-2])
    return found


def at(text: str, zone: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone))


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("*/20 * * * *", ["03-01 10:20:00+00", "03-01 10:40:00+00", "03-01 11:00:00+00"]),
        ("15,45 9-17 * * 1-5", ["03-03 09:15:00+00", "03-03 09:45:00+00", "03-03 10:15:00+00"]),
        ("0 0 13 * FRI", ["03-07 00:00:00+00", "03-13 00:00:00+00", "03-14 00:00:00+00"]),
        ("0 12 L * *", ["03-31 12:00:00+00", "04-30 12:00:00+00", "05-31 12:00:00+00"]),
        ("0 6 * * 1#1", ["03-03 06:00:00+00", "04-07 06:00:00+00", "05-05 06:00:00+00"]),
        ("*/15 * * * * *", ["03-01 10:07:45+00", "03-01 10:08:00+00", "03-01 10:08:15+00"]),
        ("@hourly", ["03-01 11:00:00+00", "03-01 12:00:00+00", "03-01 13:00:00+00"]),
        (" @Daily ", ["03-02 00:00:00+00", "03-03 00:00:00+00", "03-04 00:00:00+00"]),
    ],
)
def test_an_expression_fires_as_cron_does(expression, expected):
    assert firings(expression, "UTC", "2025-03-01T10:07:30.5", 3) == expected


@pytest.mark.parametrize(
    ("zone", "day", "expected"),
    [
        # The hour from 2 to 3 is skipped: the firing is at the change.
        (
            "Europe/Berlin",
            "2025-03-29T12:00",
            ["03-30 03:00:00+02", "03-31 02:30:00+02", "04-01 02:30:00+02"],
        ),
        (
            "America/New_York",
            "2025-03-08T12:00",
            ["03-09 03:00:00-04", "03-10 02:30:00-04", "03-11 02:30:00-04"],
        ),
        # The hour from 2 to 3 (1 to 2 in New York) comes twice: the firing is in the first.
        (
            "Europe/Berlin",
            "2025-10-25T12:00",
            ["10-26 02:30:00+02", "10-27 02:30:00+01", "10-28 02:30:00+01"],
        ),
        (
            "America/New_York",
            "2025-11-01T12:00",
            ["11-02 02:30:00-05", "11-03 02:30:00-05", "11-04 02:30:00-05"],
        ),
    ],
)
def test_a_fixed_time_fires_once_a_day_whatever_the_clock_does(zone, day, expected):
    assert firings("30 2 * * *", zone, day, 3) == expected
    assert firings("0 30 2 * * *", zone, day, 3) == expected, "six fields change nothing"


def test_a_fixed_time_in_the_doubled_hour_of_new_york():
    assert firings("30 1 * * *", "America/New_York", "2025-11-01T12:00", 2) == [
        "11-02 01:30:00-04",
        "11-03 01:30:00-05",
    ]


def test_several_skipped_times_are_one_firing_with_what_stands_at_the_change():
    assert firings("0,30 1-3 * * *", "Europe/Berlin", "2025-03-30T01:00", 4) == [
        "03-30 01:30:00+01",
        "03-30 03:00:00+02",
        "03-30 03:30:00+02",
        "03-31 01:00:00+02",
    ]


@pytest.mark.parametrize("expression", ["*/30 * * * *", "0 */30 * * * *", "*/30 1-3 * * *"])
def test_a_star_follows_the_clock_through_the_changes(expression):
    assert firings(expression, "Europe/Berlin", "2025-03-30T01:00", 3) == [
        "03-30 01:30:00+01",
        "03-30 03:00:00+02",
        "03-30 03:30:00+02",
    ]
    assert firings(expression, "Europe/Berlin", "2025-10-26T01:45", 5) == [
        "10-26 02:00:00+02",
        "10-26 02:30:00+02",
        "10-26 02:00:00+01",
        "10-26 02:30:00+01",
        "10-26 03:00:00+01",
    ]


def test_midnight_that_is_skipped():
    # Clocks in Lebanon go from 0:00 to 1:00.
    assert firings("0 0 * * *", "Asia/Beirut", "2025-03-29T12:00", 2) == [
        "03-30 01:00:00+03",
        "03-31 00:00:00+03",
    ]
    assert firings("*/15 1 30 3 *", "Asia/Beirut", "2025-03-29T12:00", 2) == [
        "03-30 01:00:00+03",
        "03-30 01:15:00+03",
    ]


def test_a_change_of_half_an_hour():
    # On Lord Howe Island 2:00 becomes 1:30 in April, and 2:30 in October.
    assert firings("*/15 2 * * *", "Australia/Lord_Howe", "2025-04-06T01:50", 3) == [
        "04-06 02:00:00+10",
        "04-06 02:15:00+10",
        "04-06 02:30:00+10",
    ]
    assert firings("*/15 2 * * *", "Australia/Lord_Howe", "2025-10-05T01:50", 3) == [
        "10-05 02:30:00+11",
        "10-05 02:45:00+11",
        "10-06 02:00:00+11",
    ]
    assert firings("5 2 * * *", "Australia/Lord_Howe", "2025-10-05T01:50", 1) == [
        "10-05 02:30:00+11"
    ]


def test_a_day_that_is_skipped():
    # Samoa had no 30 December 2011.
    assert firings("0 9 30 12 *", "Pacific/Apia", "2011-12-29T12:00", 1) == ["12-31 00:00:00+14"]


@dataclass(frozen=True)
class Numbers:
    """One field of an expression: its text, and the numbers it stands for."""

    text: str
    numbers: frozenset[int]


@st.composite
def numbers(draw, low: int, high: int) -> Numbers:
    step = draw(st.integers(2, 30))
    first, last = sorted(draw(st.tuples(st.integers(low, high), st.integers(low, high))))
    # With a step, one number stands for itself and all behind it.
    stepped = high if first == last else last
    texts = {
        "*": range(low, high + 1),
        f"*/{step}": range(low, high + 1, step),
        f"{first}": [first],
        f"{first},{last}": [first, last],
        f"{first}-{last}": range(first, last + 1),
        f"{first}-{last}/{step}": range(first, stepped + 1, step),
        f"{first}/{step}": range(first, high + 1, step),
    }
    text = draw(st.sampled_from(list(texts)))
    return Numbers(text, frozenset(texts[text]))


@dataclass(frozen=True)
class Reference:
    """What the expression means, decided anew for every minute."""

    minute: Numbers
    hour: Numbers
    day: Numbers
    month: Numbers
    weekday: Numbers

    @property
    def text(self) -> str:
        parts = (self.minute, self.hour, self.day, self.month, self.weekday)
        return " ".join(part.text for part in parts)

    def reads(self, face: datetime) -> bool:
        day = face.day in self.day.numbers
        weekday = face.isoweekday() % 7 in {number % 7 for number in self.weekday.numbers}
        star = self.day.text.startswith("*") or self.weekday.text.startswith("*")
        return (
            face.minute in self.minute.numbers
            and face.hour in self.hour.numbers
            and face.month in self.month.numbers
            and ((day and weekday) if star else (day or weekday))
        )

    def fires(self, moment: datetime, zone: ZoneInfo) -> bool:
        face = moment.astimezone(zone)
        if self.minute.text.startswith("*") or self.hour.text.startswith("*"):
            return self.reads(face)
        if face.fold:
            return False
        # All times that the clock has passed over since the minute before.
        shown = (moment - MINUTE).astimezone(zone).replace(tzinfo=None, fold=0) + MINUTE
        passed = [face.replace(tzinfo=None)]
        while shown < passed[0]:
            passed.append(shown)
            shown += MINUTE
        return any(self.reads(each) for each in passed)


ANY_DAY = Numbers("*", frozenset(range(1, 32)))
ANY_MONTH = Numbers("*", frozenset(range(1, 13)))
ANY_WEEKDAY = Numbers("*", frozenset(range(8)))


def exists(reference: Reference) -> bool:
    """Whether some year has such a day."""
    return min(reference.day.numbers) <= 28 or bool(reference.month.numbers - {2})


references = st.builds(
    Reference,
    minute=numbers(0, 59),
    hour=numbers(0, 23),
    day=st.one_of(st.just(ANY_DAY), numbers(1, 31)),
    month=st.one_of(st.just(ANY_MONTH), numbers(1, 12)),
    weekday=st.one_of(st.just(ANY_WEEKDAY), numbers(0, 7)),
).filter(exists)


@given(
    references,
    st.sampled_from(ZONES),
    st.sampled_from(DAYS),
    st.integers(0, 24 * 60),
)
@UNTIMED
def test_firings_are_those_that_a_look_at_every_minute_finds(reference, zone, day, minutes):
    start, end = day + minutes * MINUTE, day + timedelta(days=2)
    scan = (start + place * MINUTE for place in range(1, (end - start) // MINUTE + 1))
    expected = [moment for moment in scan if reference.fires(moment, ZoneInfo(zone))]
    cron = parse_cron(reference.text, zone)
    assert list(cron.each(after=start, until=end)) == expected


@given(
    references,
    st.sampled_from(("Europe/Berlin", "America/New_York")),
    st.datetimes(datetime(2025, 1, 1), datetime(2026, 12, 31)),  # noqa: DTZ001
)
@UNTIMED
def test_firings_are_those_that_the_library_finds_by_itself(reference, zone, start):
    # In zones whose clocks change at a full hour of the day by an hour, both must agree.
    moment = start.replace(tzinfo=UTC)
    theirs = CronSim(reference.text, moment.astimezone(ZoneInfo(zone)))
    cron = parse_cron(reference.text, zone)
    for _ in range(20):
        expected = next(theirs).astimezone(UTC)
        while expected <= moment:  # in a doubled hour, the library starts before the first one
            expected = next(theirs).astimezone(UTC)
        moment = cron.after(moment)
        assert moment == expected


@given(references, st.sampled_from(ZONES), st.sampled_from(DAYS), st.integers(1, 30))
@example(
    Reference(
        Numbers("0", frozenset({0})), Numbers("3", frozenset({3})), ANY_DAY, ANY_MONTH, ANY_WEEKDAY
    ),
    "Europe/Berlin",
    DAYS[1],
    3,
)
@UNTIMED
def test_the_newest_firings_are_the_end_of_all(reference, zone, day, limit):
    cron, end = parse_cron(reference.text, zone), day + timedelta(days=3)
    found = cron.newest(after=day, until=end, limit=limit)
    assert list(found) == list(cron.each(after=day, until=end))[-limit:]


@given(references)
@UNTIMED
def test_no_two_firings_are_nearer_than_the_shortest_interval(reference):
    cron = parse_cron(reference.text, "UTC")
    moments = list(cron.each(after=DAYS[0], until=DAYS[0] + timedelta(days=3)))
    gaps = [later - earlier for earlier, later in itertools.pairwise(moments)]
    assert all(gap >= cron.shortest_interval for gap in gaps)


@pytest.mark.parametrize(
    ("expression", "seconds"),
    [
        ("* * * * *", 60),
        ("* * * * * *", 1),
        ("*/7 * * * *", 240),
        ("0,50 * * * *", 600),
        ("58 23,0 * * *", 3600),
        ("0 3 * * *", 86_400),
        ("0,59 0,59 0,23 * * *", 1),
        ("30 5 9-17 * * *", 3600),
    ],
)
def test_the_shortest_interval(expression, seconds):
    assert parse_cron(expression, "UTC").shortest_interval == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("expression", "names"),
    [
        ("61 * * * *", ["minute '61'", "0 to 59"]),
        ("* 24 * * *", ["hour '24'", "0 to 23"]),
        ("* * 32 * *", ["day-of-month '32'", "1 to 31"]),
        ("* * * 13 *", ["month '13'", "1 to 12"]),
        ("* * * * 8", ["day-of-week '8'", "0 to 7"]),
        ("60 * * * * *", ["second '60'", "0 to 59"]),
        ("0 60 * * * *", ["minute '60'", "0 to 59"]),
        ("*/0 * * * *", ["minute '*/0'"]),
        ("5-1 * * * *", ["minute '5-1'"]),
        ("0 0 31 2 *", ["day-of-month '31'", "one of the months"]),
        ("", ["5 fields", "@hourly"]),
        ("* * * *", ["5 fields"]),
        ("@reboot", ["5 fields", "@hourly"]),
        ("* " * 64 + "*", ["at most 128 characters"]),
    ],
)
def test_a_bad_expression_is_refused_with_its_field_and_limit(expression, names):
    with pytest.raises(StepwireError) as caught:
        parse_cron(expression, "UTC", field="config.cron")
    assert caught.value.reason is Reason.FIELD_INVALID
    assert caught.value.faults[0].field == "config.cron"
    assert [name for name in names if name not in caught.value.message] == []


@pytest.mark.parametrize("zone", ["", "Europe", "Europe/Bonn", "../etc/passwd", "+02:00", "\0"])
def test_a_bad_time_zone_is_refused(zone):
    with pytest.raises(StepwireError) as caught:
        parse_cron("* * * * *", zone, field="config.cron")
    assert caught.value.faults[0].field == "config.time_zone"


@given(
    st.one_of(
        st.text(),
        st.text(alphabet="0123456789*/-,#LW MONFRI@²"),
        st.from_regex(r"[*0-9L/,# -]{9,20}"),
    )
)
@UNTIMED
def test_whatever_is_written_is_read_or_refused(expression):
    try:
        cron = parse_cron(expression, "Europe/Berlin")
    except StepwireError:
        return
    assert cron.after(DAYS[0]) is not None
    assert cron.shortest_interval > timedelta(0)


def test_every_field_and_nickname_is_known():
    assert list(LIMITS) == [
        "second",
        "minute",
        "hour",
        "day-of-month",
        "month",
        "day-of-week",
    ]
    assert all(isinstance(parse_cron(nickname, "UTC"), Cron) for nickname in NICKNAMES)
