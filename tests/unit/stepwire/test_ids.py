"""UUIDv7."""

import time

from stepwire.ids import uuid7


def test_version_and_variant():
    for _ in range(100):
        made = uuid7()
        assert made.version == 7
        assert made.variant == "specified in RFC 4122"


def test_it_carries_the_time():
    before = time.time_ns() // 1_000_000
    made = uuid7()
    after = time.time_ns() // 1_000_000
    assert before <= made.int >> 80 <= after


def test_the_order_of_making_is_the_order_of_ids(monkeypatch):
    """As far as the clock tells them apart: to a 4096th of a millisecond."""
    clock = iter(range(1_700_000_000_000_000_000, 1_700_000_000_010_000_000, 250))
    monkeypatch.setattr(time, "time_ns", lambda: next(clock))
    made = [uuid7() for _ in range(10_000)]
    assert made == sorted(made)
    assert [str(each) for each in made] == sorted(str(each) for each in made)


def test_ids_of_one_moment_differ(monkeypatch):
    monkeypatch.setattr(time, "time_ns", lambda: 1_700_000_000_000_000_000)
    made = {uuid7() for _ in range(10_000)}
    assert len(made) == 10_000
    assert len({each.int >> 64 for each in made}) == 1
