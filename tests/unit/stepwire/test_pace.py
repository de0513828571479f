"""Telling what is rare from what is frequent."""

import pytest

from stepwire.pace import Pace


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def test_a_burst_is_rare_and_what_follows_it_is_not(clock):
    pace = Pace(per_second=10, burst=3, clock=clock)
    assert [pace.is_rare() for _ in range(5)] == [True, True, True, False, False]


def test_what_comes_no_faster_than_the_rate_is_always_rare(clock):
    pace = Pace(per_second=10, burst=1, clock=clock)
    for _ in range(100):
        assert pace.is_rare()
        clock.now += 0.11


def test_while_events_come_faster_none_is_rare(clock):
    pace = Pace(per_second=10, burst=3, clock=clock)
    rare = 0
    for _ in range(1000):
        rare += pace.is_rare()
        clock.now += 0.09
    assert rare < 40
    clock.now += 0.4
    assert pace.is_rare()


def test_a_burst_is_possible_again_after_a_rest_but_no_larger_one(clock):
    pace = Pace(per_second=10, burst=3, clock=clock)
    for _ in range(10):
        pace.is_rare()
    clock.now += 3600
    assert [pace.is_rare() for _ in range(4)] == [True, True, True, False]
