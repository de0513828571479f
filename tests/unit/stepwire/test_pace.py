"""How often something may be done."""

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


def test_a_burst_goes_at_once_and_what_follows_waits_its_turn(clock):
    pace = Pace(per_second=10, burst=3, clock=clock)
    assert [pace.take() for _ in range(3)] == [0, 0, 0]
    assert not pace.is_held
    assert pace.take() == pytest.approx(0.1)
    assert pace.is_held


def test_turns_that_wait_go_at_an_even_rate(clock):
    pace = Pace(per_second=10, burst=1, clock=clock)
    begun = []
    for _ in range(5):
        clock.now += pace.take()
        begun.append(clock.now)
    assert begun == pytest.approx([1000.0, 1000.1, 1000.2, 1000.3, 1000.4])


def test_turns_that_are_rarer_than_the_rate_never_wait(clock):
    pace = Pace(per_second=10, burst=1, clock=clock)
    for _ in range(100):
        assert pace.take() == 0
        clock.now += 0.11


def test_a_burst_is_possible_again_after_a_rest_but_no_larger_one(clock):
    pace = Pace(per_second=10, burst=3, clock=clock)
    for _ in range(4):
        clock.now += pace.take()
    clock.now += 3600
    assert [pace.take() for _ in range(3)] == [0, 0, 0]
    assert pace.take() > 0
