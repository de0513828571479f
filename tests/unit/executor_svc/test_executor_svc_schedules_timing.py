"""Which firings of a schedule are due, and what is missed."""

import itertools
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from executor_svc.schedules.records import Config, OverlapPolicy
from executor_svc.schedules.timing import Due, Firing, Timing

ID = UUID("01900000-0000-7000-8000-000000000001")
START = datetime(2025, 10, 25, 22, 0, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def config(cron: str = "*/10 * * * *", **changes) -> Config:
    usual = Config(
        cron=cron,
        time_zone="Europe/Berlin",
        task=b"",
        overlap=OverlapPolicy.ALLOW,
        catch_up_window=timedelta(minutes=1),
        max_catch_up=100,
    )
    return replace(usual, **changes)


def timing(cron: str = "*/10 * * * *", **changes) -> Timing:
    return Timing(ID, config(cron, **changes))


def minutes(*numbers: float) -> list[datetime]:
    return [START + timedelta(minutes=number) for number in numbers]


def at(minute: float) -> datetime:
    return START + timedelta(minutes=minute)


def test_what_is_due_and_what_follows():
    due = timing().due(at(10), at(10) + SECOND, limit=1)
    assert due == Due(minutes(10), None, None, Firing(at(20), at(20)))


def test_nothing_is_due_before_its_time():
    due = timing().due(at(10), at(10) - SECOND, limit=1)
    assert due == Due([], None, None, Firing(at(10), at(10)))


def test_what_is_missed_within_the_window_is_made_up_for():
    due = timing(catch_up_window=timedelta(minutes=25)).due(at(10), at(41), limit=100)
    assert due.nominals == minutes(20, 30, 40)
    assert (due.missed_from, due.missed_until) == (at(10), at(20))
    assert due.following == Firing(at(50), at(50))


def test_of_too_many_the_newest_are_made_up_for():
    due = timing(catch_up_window=timedelta(hours=5)).due(at(10), at(41), limit=2)
    assert due.nominals == minutes(30, 40)
    assert (due.missed_from, due.missed_until) == (at(10), at(30))


def test_all_may_be_too_late():
    due = timing().due(at(10), at(45), limit=100)
    assert due == Due([], at(10), at(45), Firing(at(50), at(50)))


def test_a_window_ends_at_its_edge():
    window = timedelta(minutes=1)
    assert timing().due(at(10), at(10) + window, limit=1).nominals == minutes(10)
    assert timing().due(at(10), at(10) + window + SECOND, limit=1).nominals == []


def test_start_and_end_belong_to_the_schedule():
    limited = timing(start_at=at(20), end_at=at(40))
    assert limited.first(START) == Firing(at(20), at(20))
    assert limited.first(at(39)) == Firing(at(40), at(40))
    assert limited.first(at(40)) is None
    late = timing(end_at=at(40), catch_up_window=timedelta(hours=1))
    due = late.due(at(30), at(70), limit=100)
    assert due == Due(minutes(30, 40), None, None, None)
    assert list(limited.preview(START, 5)) == [Firing(each, each) for each in minutes(20, 30, 40)]


def test_a_start_between_two_seconds():
    start = at(20) + timedelta(microseconds=1)
    assert timing(start_at=start).first(START) == Firing(at(30), at(30))


def test_jitter_is_the_same_each_time_and_another_for_others():
    jittered = timing(jitter=timedelta(minutes=5))
    firing = jittered.first(START)
    assert firing == timing(jitter=timedelta(minutes=5)).first(START)
    assert at(10) < firing.due_at < at(15)
    delays = {each.due_at - each.nominal_at for each in jittered.preview(START, 20)}
    assert len(delays) == 20
    other = Timing(UUID(int=7), config(jitter=timedelta(minutes=5))).first(START)
    assert other.due_at != firing.due_at


def test_jitter_stays_before_the_next_firing():
    for firing in timing(jitter=timedelta(days=1)).preview(START, 50):
        assert firing.nominal_at <= firing.due_at <= firing.nominal_at + timedelta(minutes=10)


def test_a_firing_waits_for_its_jitter_and_is_not_missed_by_it():
    # The window is much shorter than the jitter.
    jittered = timing("0 * * * *", jitter=timedelta(minutes=50))
    firing = jittered.first(START)
    assert firing.due_at - firing.nominal_at > timedelta(minutes=1)
    before = jittered.due(firing.nominal_at, firing.due_at - SECOND, limit=1)
    assert before == Due([], None, None, firing)
    assert jittered.due(firing.nominal_at, firing.due_at, limit=1).nominals == [firing.nominal_at]
    late = jittered.due(firing.nominal_at, firing.due_at + timedelta(minutes=2), limit=1)
    assert (late.nominals, late.missed_from) == ([], firing.nominal_at)


@given(
    pauses=st.lists(st.integers(1, 3600), min_size=1, max_size=12),
    cron=st.sampled_from(["*/10 * * * *", "7 * * * *", "30 2 * * *", "*/20 * * * * *"]),
    window=st.sampled_from([10, 60, 1000, 3600]),
    limit=st.integers(1, 20),
    jitter=st.sampled_from([0, 5, 1800]),
)
@settings(deadline=None)
def test_every_firing_is_carried_out_once_or_missed(pauses, cron, window, limit, jitter):
    schedule = timing(
        cron, catch_up_window=timedelta(seconds=window), jitter=timedelta(seconds=jitter)
    )
    looks = list(itertools.accumulate((pause * SECOND for pause in pauses), initial=START))
    every = list(schedule._cron.each(after=START, until=looks[-1]))
    position, seen = schedule.first(START), []
    for now in looks:
        due = schedule.due(position.nominal_at, now, limit=limit)
        assert len(due.nominals) <= limit
        if due.missed_from is not None:
            assert due.missed_from == position.nominal_at < due.missed_until <= now
            seen += [each for each in every if due.missed_from <= each < due.missed_until]
        for nominal in due.nominals:
            assert nominal <= now <= nominal + timedelta(seconds=window + jitter)
        seen += due.nominals
        assert due.following.due_at > now
        position = due.following
    assert seen == [each for each in every if each < position.nominal_at]


@pytest.mark.parametrize("limit", [1, 3])
def test_an_outage_of_years_costs_no_more_than_one_of_minutes(limit, monkeypatch):
    asked = []
    schedule = timing("*/10 * * * * *", catch_up_window=timedelta(days=400))
    after = type(schedule._cron).after
    monkeypatch.setattr(
        type(schedule._cron), "after", lambda self, moment: asked.append(1) or after(self, moment)
    )
    due = schedule.due(START, START + timedelta(days=399), limit=limit)
    assert len(due.nominals) == limit
    assert len(asked) < 50
