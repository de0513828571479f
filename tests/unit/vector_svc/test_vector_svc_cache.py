"""The small cache."""

import math

from vector_svc.engine.cache import Cache


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_an_entry_expires_after_its_time() -> None:
    clock = Clock()
    cache: Cache[str, int] = Cache(capacity=2, ttl_seconds=5, clock=clock)
    cache.put("a", 1)
    clock.now = 4.9
    assert cache.get("a") == 1
    clock.now = 5.0
    assert cache.get("a") is None


def test_the_least_recently_used_goes_first() -> None:
    cache: Cache[str, int] = Cache(capacity=2, ttl_seconds=math.inf)
    cache.put("a", 1)
    cache.put("b", 2)
    cache.get("a")
    cache.put("c", 3)
    assert [cache.get(key) for key in "abc"] == [1, None, 3]


def test_an_entry_can_be_replaced_and_dropped() -> None:
    cache: Cache[str, int] = Cache(capacity=2, ttl_seconds=math.inf)
    cache.put("a", 1)
    cache.put("a", 2)
    assert cache.get("a") == 2
    cache.drop("a")
    cache.drop("a")
    assert cache.get("a") is None
